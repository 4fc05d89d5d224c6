"""The networks of the table, each with weights in a file as torchvision writes it: its entry's names and shapes, random
values. torchvision's own builder reads them with its own loader, and is what ours is held against.
"""

import contextlib
import re
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import nn
from torchvision import models

from features.architectures import build_model

SHORT = ("squeezenet1_1", "shufflenet_v2_x0_5", "mnasnet0_5", "regnet_y_400mf", "googlenet")


@dataclass(frozen=True)
class Network:
    """An architecture with one of torchvision's entries of pre-trained weights."""

    name: str
    entry: Any

    def __str__(self) -> str:
        is_default = self.entry is models.get_model_weights(self.name).DEFAULT
        return self.name if is_default else f"{self.name}:{self.entry.name}"

    @property
    def million_parameters(self) -> float:
        """Of the network with its entry's classes, in millions."""
        return self.entry.meta["num_params"] / 1e6

    def state(self) -> "OrderedDict[str, torch.Tensor]":
        """A state dict as torchvision's file has it, every number of it drawn from one seed."""
        options = {}
        if self.name.startswith("vit_"):
            options = {"image_size": self.entry.meta["min_size"][0]}
        torch.manual_seed(0)
        state = build_model(self.name, len(self.entry.meta["categories"]), **options).state_dict()
        for name, tensor in state.items():
            if name.endswith("running_var"):
                tensor.uniform_(0.5, 1.5)
            elif tensor.is_floating_point() and not tensor.any():
                # Biases, means of batch norms, and the classifiers that are built as zeros.
                tensor.normal_(0, 0.02)
        return state

    def written(self, path: Path) -> Path:
        """The file of these weights; DenseNet's have the names that torchvision's loader changes."""
        state = self.state()
        if self.name.startswith("densenet"):
            pattern = r"(denselayer\d+\.(?:norm|relu|conv))([12]\.(?!num_batches))"
            state = OrderedDict((re.sub(pattern, r"\1.\2", name), tensor) for name, tensor in state.items())
        torch.save(state, path)
        return path

    def by_torchvision(self, path: Path) -> nn.Module:
        """What torchvision's own builder makes of that file, frozen and in eval mode."""
        read = mock.Mock(side_effect=lambda *_, **__: torch.load(path, weights_only=True))
        with mock.patch.object(type(self.entry), "get_state_dict", read):
            model = models.get_model(self.name, weights=self.entry)
        assert read.called
        return model.eval().requires_grad_(False)


def networks() -> Iterator[Network]:
    """Every classifier with its default weights, and with those of another image size where they make another network,
    small ones first."""
    chosen = []
    for name in models.list_models(module=models):
        entries = list(models.get_model_weights(name))
        default = models.get_model_weights(name).DEFAULT
        sizes = {default.meta["min_size"]}
        chosen.append(Network(name, default))
        for entry in entries if name.startswith("vit_") else ():
            if entry.meta["min_size"] not in sizes:
                sizes.add(entry.meta["min_size"])
                chosen.append(Network(name, entry))
    yield from sorted(chosen, key=lambda network: network.million_parameters)


@contextlib.contextmanager
def downloaded(path: Path) -> Iterator[None]:
    """Whatever weights are asked for by name, this is the file that they are in."""
    with mock.patch("features.backbones.download", lambda url: path):
        yield
