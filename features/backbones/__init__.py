"""Backbones: networks with weights, loaded by name; the families that they come from are files of this package."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from features.backbones.loading import Backbone, load_backbone, requested_backbone

__all__ = ["Backbone", "requested_backbone", "load_backbone"]


def __getattr__(name: str) -> Any:
    # A family, and what builds networks, stands below what loads them, and is imported by way of this package too.
    if name in __all__:
        return getattr(importlib.import_module("features.backbones.loading"), name)
    raise AttributeError(f"module 'features.backbones' has no attribute {name!r}")
