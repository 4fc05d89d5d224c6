"""Find out which layer of a frozen, pre-trained network transfers best.

    import layerprobe as lp

    result = lp.probe("digits", backbone="efficientnet_lite0", quick=True)
    print(result)
    result.plot()

probe             which layer transfers best, with controls, paired tests and costs
search            the best frozen configuration that can be found in so many minutes
compare           heads on frozen features against networks that are trained, in one table
study             when, what and where to transfer
FeatureExtractor  what a layer makes of images, as a scikit-learn transformer
load_features     the cached features and labels of a layer
load_model        a saved head or network, for new images
open_dataset      a data set by name, folder, list or arrays

Each is loaded when it is first asked for, torch with it. The same on the command line: `layerprobe --help`.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from classify.experiments.compare import compare
    from classify.experiments.probe import probe
    from classify.experiments.search.search import search
    from classify.experiments.studies.study import study
    from classify.use.saved import load_model
    from extract.transformer import FeatureExtractor
    from features.datasets import open_dataset
    from features.reading import load_features

    __version__: str

_HOMES = {
    "FeatureExtractor": "extract.transformer",
    "compare": "classify.experiments.compare",
    "load_features": "features.reading",
    "load_model": "classify.use.saved",
    "open_dataset": "features.datasets.catalogue",
    "probe": "classify.experiments.probe",
    "search": "classify.experiments.search.search",
    "study": "classify.experiments.studies.study",
}

__all__ = [
    "FeatureExtractor",
    "__version__",
    "compare",
    "load_features",
    "load_model",
    "open_dataset",
    "probe",
    "search",
    "study",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        value: Any = _ours("features.versions").version_of("layerprobe")
    elif name in _HOMES:
        value = getattr(_ours(_HOMES[name]), name)
    else:
        raise AttributeError(f"module 'layerprobe' has no attribute {name!r}; it has {', '.join(__all__)}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)


def _ours(module: str) -> Any:
    """A module of the packages that stand beside this one, whatever the working folder calls by the same name."""
    import sys
    from pathlib import Path

    here = Path(__file__).parents[1]
    sys.path.insert(0, str(here))
    try:
        for package in ("features", "extract", "classify"):
            place = getattr(importlib.import_module(package), "__file__", None)
            if place is None or Path(place).parents[1] != here:
                raise ImportError(f"{place or package} is imported and hides layerprobe's own {package}; rename it")
    finally:
        sys.path.remove(str(here))
    return importlib.import_module(module)
