"""Networks as heads: which there are by name, and what each of them is, for the command line and the comparison.

This module imports neither torch nor numpy.
"""

import importlib
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class NetworkHead:
    """A network by name: one line for `--help`, where its class is, what is fixed, and what it reads.

    reads: 'images' (uint8), 'cut' (images, or the cached maps of the layer below `unfreeze`) or 'logits' (the cached
    output of `fc`). backbone: it is one, or a part of one. drawn: it starts from a random initialisation. regularised:
    it takes regularisers.
    """

    name: str
    summary: str
    estimator: str
    reads: str
    fixed: dict[str, Any] = field(default_factory=dict)
    backbone: bool = True
    drawn: bool = False
    regularised: bool = False

    @property
    def trains(self) -> bool:
        """Whether it is trained, rather than taken as it is."""
        return self.reads != "logits"

    @property
    def unfreezes(self) -> bool:
        """Whether it trains from a stage on, above a frozen part."""
        return self.reads == "cut"

    def estimator_class(self) -> Any:
        """The class of the classifier, imported now."""
        module, name = self.estimator.split(":")
        return getattr(importlib.import_module(f"{__name__}.{module}"), name)

    def build(self, **params: Any) -> Any:
        """An unfitted classifier with these parameters."""
        return self.estimator_class()(**{**self.fixed, **params})


NETWORKS: dict[str, NetworkHead] = {
    head.name: head
    for head in (
        NetworkHead(
            "finetune",
            "the pre-trained network, trained from a stage on",
            "classifier:NetworkClassifier",
            "cut",
            regularised=True,
        ),
        NetworkHead(
            "scratch",
            "the same network from random weights",
            "classifier:NetworkClassifier",
            "images",
            {"unfreeze": "all", "fresh_above": "input"},
            drawn=True,
            regularised=True,
        ),
        NetworkHead(
            "spottune", "each image through each block's frozen or tuned copy", "spottune:SpotTuneClassifier", "images"
        ),
        NetworkHead(
            "convnet",
            "two convolution blocks and two linear layers",
            "convnet:ConvNetClassifier",
            "images",
            backbone=False,
            drawn=True,
        ),
        NetworkHead("untouched", "the ImageNet network as it is", "untouched:UntouchedClassifier", "logits"),
    )
}

# Those that start from a random initialisation.
DRAWN = tuple(name for name, network in NETWORKS.items() if network.drawn)
