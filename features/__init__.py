"""What both stages share: data sets, backbones and their cut, the identity of a cache, the HDF5 store."""


def __getattr__(name: str):
    """`from features import load_features, open_dataset, load_backbone`, loading what each needs only then."""
    import importlib

    homes = {"load_features": "reading", "open_dataset": "datasets", "load_backbone": "backbones", "Cut": "cut"}
    if name in homes:
        return getattr(importlib.import_module(f"features.{homes[name]}"), name)
    raise AttributeError(f"module 'features' has no attribute {name!r}")
