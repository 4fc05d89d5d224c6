"""Architectures that plug-ins bring (`features.plugins`): builders that take `num_classes`, without weights."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from torch import nn

from features.backbones.family import Family
from features.backbones.torchvision import FAMILY as TORCHVISION
from features.errors import UserError
from features.plugins import blamed, plugins
from features.preprocessing import EARLIER, Preprocessing


class Brought(Family):
    """Images are prepared as ImageNet networks mostly have it; weights that want another take --mean and the like."""

    def names(self) -> Sequence[str]:
        return tuple(plugins("backbones"))

    def defined_by(self, name: str) -> str:
        return plugins("backbones")[name].origin

    def build(self, name: str, classes: int | None = None, **options: Any) -> nn.Module:
        plugin = plugins("backbones")[name]
        builder = plugin.load()
        with blamed(name, plugin.origin):
            network = builder(num_classes=1000 if classes is None else classes, **options)
        if not isinstance(network, nn.Module):
            raise UserError(
                f"the plug-in {name} of {plugin.origin} builds a {type(network).__name__}; tell its authors"
            )
        return network

    def categories(self, name: str) -> tuple[str, ...]:
        return TORCHVISION.categories("resnet18")

    def preset(self, name: str) -> Preprocessing:
        return TORCHVISION.preset("resnet18")

    def preset_of_earlier(self, name: str) -> Preprocessing:
        return dataclasses.replace(self.preset(name), crop_mode=EARLIER)


FAMILY = Brought()
