"""Backbones: networks with weights, loaded by name; the families that they come from are files of this package.

`build_model` and `download` are here as well, as in version 0.1.0: whoever has weights from elsewhere puts another
`download` in its place.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from features.architectures import build_model
    from features.backbones.loading import Backbone, kept_backbone, load_backbone, requested_backbone
    from features.weights import download

__all__ = ["Backbone", "kept_backbone", "requested_backbone", "load_backbone", "build_model", "download"]
_ELSEWHERE = {"build_model": "features.architectures", "download": "features.weights"}


def __getattr__(name: str) -> Any:
    # A family, and what builds networks, stands below what loads them, and is imported by way of this package too.
    if name in __all__:
        return getattr(importlib.import_module(_ELSEWHERE.get(name, "features.backbones.loading")), name)
    raise AttributeError(f"module 'features.backbones' has no attribute {name!r}")
