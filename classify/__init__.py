"""Stage 2: cached features and networks, heads, measurements and what they show."""

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
