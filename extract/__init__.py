"""Stage 1: images through a frozen trunk into HDF5."""


def __getattr__(name: str):
    """`from extract import FeatureExtractor`, loading torch only then."""
    if name == "FeatureExtractor":
        from extract.transformer import FeatureExtractor

        return FeatureExtractor
    raise AttributeError(f"module 'extract' has no attribute {name!r}")
