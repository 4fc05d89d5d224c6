"""Data sets: images and labels under one face, known by their content; one file here for each kind of them.

`open_dataset("mnist")` gives a `Dataset`; the names that it takes stand in `features.datasets.catalogue`.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from features.datasets.catalogue import dataset_names, open_dataset, with_groups
    from features.datasets.dataset import Dataset, Split
    from features.datasets.images import ImageFiles

__all__ = ["Dataset", "ImageFiles", "Split", "dataset_names", "open_dataset", "with_groups"]

_HOMES = {
    "Dataset": "features.datasets.dataset",
    "ImageFiles": "features.datasets.images",
    "Split": "features.datasets.dataset",
    "dataset_names": "features.datasets.catalogue",
    "open_dataset": "features.datasets.catalogue",
    "with_groups": "features.datasets.catalogue",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
