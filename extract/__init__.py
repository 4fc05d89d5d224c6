"""Stage 1: images through a frozen trunk into HDF5."""

from features.ranges import found_by


def __getattr__(name: str):
    """`from extract import FeatureExtractor`, loading torch only then."""
    if name == "FeatureExtractor":
        from extract.transformer import FeatureExtractor

        return FeatureExtractor
    raise AttributeError(f"module 'extract' has no attribute {name!r}")


@found_by
def _find_ranges(*material):
    """The ranges of int8, loading torch only when they are asked for."""
    from extract.calibration import find_ranges

    return find_ranges(*material)
