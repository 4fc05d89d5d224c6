"""Stage 2: cached features and networks, heads, measurements and what they show."""


def __getattr__(name: str):
    """`from classify import probe`, loading what it needs only then."""
    if name in ("probe", "ProbeResult"):
        import importlib

        module = {"probe": "classify.experiments.probe", "ProbeResult": "classify.experiments.probing.result"}[name]
        return getattr(importlib.import_module(module), name)
    raise AttributeError(f"module 'classify' has no attribute {name!r}")
