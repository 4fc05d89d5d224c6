"""Stage 1: images through a frozen trunk into HDF5."""

import importlib.util
import sys
from pathlib import Path

for _name in ("features",):
    _spec = importlib.util.find_spec(_name)
    _ours = Path(__file__).parents[1] / _name / "__init__.py"
    # `python -m` has the working folder first, until `__main__` moves it to the end.
    if _spec and not (sys.argv[0] == "-m" or (_spec.origin and Path(_spec.origin).resolve() == _ours.resolve())):
        raise ImportError(
            f"{_spec.origin or _name} is not layerprobe's package '{_name}' and stands in its way; rename it, start "
            "Python with -P, which leaves the working folder out, or run the command `layerprobe`, which always works"
        )


def __getattr__(name: str):
    """`from extract import FeatureExtractor`, loading torch only then."""
    if name == "FeatureExtractor":
        from extract.transformer import FeatureExtractor

        return FeatureExtractor
    raise AttributeError(f"module 'extract' has no attribute {name!r}")
