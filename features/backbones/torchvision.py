"""torchvision's classifiers: its entries each have their own preprocessing, and a file is one of them where its SHA-256
says so."""

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torchvision import models

from features.backbones.family import Family, Pretrained, Traits
from features.digests import sha256_file
from features.home import weights_folder
from features.preprocessing import EARLIER, Preprocessing

_POSITIONS = "encoder.pos_embedding"  # of torchvision's VisionTransformer
_STAGES_OF_RESNET = ("maxpool", "layer1", "layer2", "layer3", "layer4")


class Torchvision(Family):
    """Where weights decide more than the number of classes (a vision transformer's image size, auxiliary heads that are
    not there), that is read off the tensors or the network."""

    def names(self) -> Sequence[str]:
        return models.list_models(module=models)

    def build(self, name: str, classes: int | None = None, **options: Any) -> nn.Module:
        options = {"weights": None, "num_classes": 1000 if classes is None else classes, **options}
        if name in ("inception_v3", "googlenet"):
            # They alone say so themselves: the default initialisation is slow and about to change.
            options |= {"init_weights": True}
        return models.get_model(name, **options)

    def options_of(self, model: nn.Module) -> dict[str, Any]:
        options: dict[str, Any] = {}
        if isinstance(model, models.VisionTransformer) and model.image_size != 224:
            options["image_size"] = model.image_size
        if isinstance(model, models.GoogLeNet | models.Inception3) and not model.aux_logits:
            options["aux_logits"] = False
        return options

    def options_for(self, model: nn.Module, shapes: Mapping[str, torch.Size]) -> dict[str, Any]:
        """The image size of a vision transformer, from its position embeddings (1, 1 + side², width)."""
        if not isinstance(model, models.VisionTransformer) or len(shapes.get(_POSITIONS, ())) != 3:
            return {}
        side = math.isqrt(places := max(0, shapes[_POSITIONS][1] - 1))
        size = side * model.patch_size
        return {"image_size": size} if side and side * side == places and size != model.image_size else {}

    def fixed_size(self, model: nn.Module) -> int | None:
        return model.image_size if isinstance(model, models.VisionTransformer) else None

    def traits(self, model: nn.Module) -> Traits:
        return Traits(stages=_STAGES_OF_RESNET) if isinstance(model, models.ResNet) else Traits()

    def entries(self, name: str) -> tuple[str, ...]:
        return tuple(entry.name for entry in models.get_model_weights(name))

    def pretrained(self, name: str, weights: str) -> Pretrained | None:
        choice = models.get_model_weights(name)
        for entry in choice:
            if weights == entry.name or (weights == "default" and entry is choice.DEFAULT):
                path = weights_folder() / entry.url.rsplit("/", 1)[-1]
                return Pretrained(path, entry.name, preset_of_entry(entry), url=entry.url)
        return None

    def categories(self, name: str) -> tuple[str, ...]:
        return tuple(models.get_model_weights(name).DEFAULT.meta["categories"])

    def preset(self, name: str) -> Preprocessing:
        return _as_torchvision_has_it(models.get_model_weights(name).DEFAULT)

    def preset_of_file(self, name: str, path: Path, size: int | None = None) -> tuple[Preprocessing, str]:
        """It is that of the entry whose hash the file has. Failing that, its name may still say what it was converted
        from; and most others were made from the default weights. size: the only one in pixels that the network takes,
        which then is the entry's too."""
        entries = {_hash_in(entry.url): entry for entry in models.get_model_weights(name)}
        digest = sha256_file(path)
        for beginning, entry in entries.items():
            if beginning and digest.startswith(beginning):
                return preset_of_entry(entry), ""
        named, default = entries.get(_hash_in(path.name)), models.get_model_weights(name).DEFAULT
        # A vision transformer's other size is one that another entry is for, or nobody's.
        sized = [entry for entry in entries.values() if preset_of_entry(entry).crop == size]
        entry = named or (default if size is None or default in sized else (*sized, default)[0])
        steps = preset_of_entry(entry).at(size)
        reason = (
            "which its name says, but not its SHA-256" if named else "the default, since its SHA-256 is that of none"
        )
        if entry not in (named, default):
            reason = "which is for the size of its images; its SHA-256 is that of none"
        return steps, f"as for torchvision's {entry.name} ({reason})"

    def preset_of_recorded(self, name: str, weights: str, path: Path) -> Preprocessing | None:
        if path.is_file() and path.name == weights:
            return self.preset_of_file(name, path)[0]
        digits = _hash_in(weights)
        for entry in models.get_model_weights(name):
            if weights == entry.name or (digits and digits == _hash_in(entry.url)):
                return preset_of_entry(entry)
        return None

    def preset_of_earlier(self, name: str) -> Preprocessing:
        return dataclasses.replace(self.preset(name), crop_mode=EARLIER)


FAMILY = Torchvision()


def preset_of_entry(entry: Any) -> Preprocessing:
    """The preprocessing of one of torchvision's pre-trained weights.

    Google trained inception_v3 and googlenet on (pixel - 0.5) / 0.5. torchvision's presets normalise as for its other
    networks, and where weights are asked for its builders turn that into the former inside the network
    (`transform_input=True`). What both come to is given to the network here.
    """
    steps = _as_torchvision_has_it(entry)
    if type(entry) in (models.Inception_V3_Weights, models.GoogLeNet_Weights):
        return dataclasses.replace(steps, mean=(0.5,) * 3, std=(0.5,) * 3)
    return steps


def _as_torchvision_has_it(entry: Any) -> Preprocessing:
    preset = entry.transforms()
    return Preprocessing(
        tuple(preset.mean),
        tuple(preset.std),
        resize=preset.resize_size[0],
        crop=preset.crop_size[0],
        interpolation=preset.interpolation.value,
        antialias=bool(preset.antialias),
    )


def _hash_in(name: str) -> str | None:
    """The first digits of a SHA-256 that torchvision writes into a file's name."""
    written = re.search(r"-([a-f0-9]{8,})\.", name)
    return written and written.group(1)
