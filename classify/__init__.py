"""Stage 2: cached features and networks, heads, measurements and what they show."""

import importlib.util
import sys
from pathlib import Path

for _name in ("features", "extract"):
    _spec = importlib.util.find_spec(_name)
    _ours = Path(__file__).parents[1] / _name / "__init__.py"
    # `python -m` has the working folder first, until `__main__` moves it to the end.
    if _spec and not (sys.argv[0] == "-m" or (_spec.origin and Path(_spec.origin).resolve() == _ours.resolve())):
        raise ImportError(
            f"{_spec.origin or _name} is not layerprobe's package '{_name}' and stands in its way; rename it, start "
            "Python with -P, which leaves the working folder out, or run the command `layerprobe`, which always works"
        )

_HOMES = {
    "probe": "classify.experiments.probe",
    "ProbeResult": "classify.experiments.probe.answer",
    "load_model": "classify.use.saved",
    "SavedModel": "classify.use.saved",
}


def __getattr__(name: str):
    """`from classify import probe, load_model`, loading what each needs only then."""
    if name in _HOMES:
        import importlib

        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'classify' has no attribute {name!r}")
