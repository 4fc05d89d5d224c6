"""What both stages share: data sets, backbones and their cut, the identity of a cache, the HDF5 store."""

import os
import sys

if sys.platform == "darwin":
    # torch reads it when it is imported: what mps has no operator for is then left to the processor, which torch says.
    os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")

try:
    import fcntl as _locks  # noqa: F401  # what the store's locks are made of, and Windows has not
except ImportError:
    # Nothing below would work: a line at the door is better than a traceback behind it.
    raise SystemExit(
        "error: layerprobe runs on Linux and macOS: its files are kept safe by locks and writes that Windows does not "
        "have; on Windows, install and run it under WSL (wsl --install)"
    ) from None

from features import compiler

compiler.stay_out()


def __getattr__(name: str):
    """`from features import load_features, open_dataset, load_backbone`, loading what each needs only then."""
    import importlib

    homes = {"load_features": "reading", "open_dataset": "datasets", "load_backbone": "backbones", "Cut": "cut"}
    if name in homes:
        return getattr(importlib.import_module(f"features.{homes[name]}"), name)
    raise AttributeError(f"module 'features' has no attribute {name!r}")
