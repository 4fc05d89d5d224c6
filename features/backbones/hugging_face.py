"""Models of transformers, `hf:FOLDER` or `hf:OWNER/NAME`: a folder that `save_pretrained` wrote, or one of the hub's.

Weights and preparation are those of the folder. No code of a folder or of the hub is run: what transformers does not
have itself is refused.
"""

import json
from collections.abc import Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import safe_open
from torch import nn

from features.backbones import hub
from features.backbones.family import Body, Family, Pretrained, Traits, another_classifier, version_of
from features.backbones.torchvision import FAMILY as TORCHVISION
from features.errors import UserError
from features.home import user_path
from features.preprocessing import Preprocessing, Scaled

_PREFIX = "hf:"
_WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin")
_INTERPOLATIONS = {0: "nearest", 2: "bilinear", 3: "bicubic"}  # PIL's numbers
_CLASS_TOKENS = ("cls_token", "class_token", "class_embedding")


class HuggingFace(Family):
    """Classifiers give their logits; others their pooled output, and have a place for a classifier."""

    graph_in_key = True
    builds_outlines = False

    def knows(self, name: str) -> bool:
        return name.startswith(_PREFIX)

    def defined_by(self, name: str) -> str:
        return version_of("transformers")

    def build(self, name: str, classes: int | None = None, **options: Any) -> nn.Module:
        config, kind = _config(_folder(name))
        if classes is not None and kind is transformers.AutoModelForImageClassification:
            config.num_labels = classes
        network = _of_images(kind.from_config(config, **_parts_of(_folder(name))))
        if kind is transformers.AutoModelForImageClassification:
            return network
        body = Body(network, _width(network, self.preset(name).crop))
        if classes is not None:
            self.new_classifier(body, classes)
        return body

    def traits(self, model: nn.Module) -> Traits:
        shapes = {name.rpartition(".")[2]: part.shape for name, part in model.named_parameters()}
        has_class_token = any(token in shapes for token in _CLASS_TOKENS)
        registers = shapes["register_tokens"][1] if "register_tokens" in shapes else 0
        prefix = has_class_token + ("distillation_token" in shapes) + registers
        names = self.classifiers(model)
        several = names if len(names) > 1 else ()
        return Traits(prefix_tokens=prefix, has_class_token=has_class_token, classifiers=several, sized=True)

    def classifiers(self, model: nn.Module) -> tuple[str, ...]:
        """Two where a distilled network has one for each teacher."""
        if isinstance(model, Body):
            return ("fc",)
        config: Any = model.config
        outer = [(name, part) for name, part in model.named_modules() if name.count(".") < 2]
        linear = (nn.Linear, nn.Conv2d)
        names = [name for name, part in outer if isinstance(part, linear) and len(part.weight) == config.num_labels]
        return tuple(names) if len(names) > 1 else super().classifiers(model)

    def new_classifier(self, model: nn.Module, classes: int) -> tuple[str, ...]:
        if isinstance(model, Body):
            return super().new_classifier(model, classes)
        names = self.classifiers(model)
        for name in names:
            model.set_submodule(name, another_classifier(model.get_submodule(name), classes))
        model.config.num_labels = classes  # type: ignore[union-attr]  # transformers' models have it
        return names

    def pretrained(self, name: str, weights: str) -> Pretrained | None:
        if weights != "default":
            return None
        folder = _folder(name)
        here = next((folder / file for file in _WEIGHTS if (folder / file).is_file()), None)
        fetch = None
        if here is None and _is_of_hub(name):
            fetch = partial(hub.fetch, name.removeprefix(_PREFIX), _WEIGHTS[0])
        if here is None and fetch is None:
            raise UserError(f"{folder} holds none of {', '.join(_WEIGHTS)}; give --weights FILE, or random")
        return Pretrained(here or folder / _WEIGHTS[0], Path(name).name, self.preset(name), fetch=fetch)

    def read(self, name: str, path: Path, options: Mapping[str, Any]) -> tuple[nn.Module, bool] | None:
        if path.parent != _folder(name):
            return None
        config, kind = _config(path.parent)
        try:
            network, report = kind.from_pretrained(
                path.parent, config=config, local_files_only=True, trust_remote_code=False, dtype=torch.float32,
                output_loading_info=True, **_parts_of(path.parent),
            )  # fmt: skip
        except (OSError, ValueError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:200]
            raise UserError(f"{path} is not what its folder's config.json says ({reason})") from error
        if report["missing_keys"]:
            # transformers would fill them with random numbers.
            raise UserError(f"{path} lacks {', '.join(sorted(report['missing_keys'])[:3])} of what config.json says")
        network = _of_images(network)
        if kind is transformers.AutoModelForImageClassification:
            return network, False
        return Body(network, _width(network, self.preset(name).crop)), True

    def categories(self, name: str) -> tuple[str, ...]:
        config, _ = _config(_folder(name))
        names = tuple(str(config.id2label[number]) for number in sorted(config.id2label or {}))
        return () if any(text.startswith("LABEL_") for text in names) else names

    def preset(self, name: str) -> Preprocessing:
        folder = _folder(name)
        try:
            said = json.loads((folder / "preprocessor_config.json").read_text())
        except (OSError, ValueError):
            size = getattr(_config(folder)[0], "image_size", 224)
            crop = size if isinstance(size, int) else size[0]
            own = TORCHVISION.preset("resnet18")
            return Scaled(own.mean, own.std, round(crop * own.resize / own.crop), crop)
        return _steps(said, TORCHVISION.preset("resnet18"))


FAMILY = HuggingFace()


def _is_of_hub(name: str) -> bool:
    return not user_path(name.removeprefix(_PREFIX)).is_dir()


@cache
def _folder(name: str) -> Path:
    """The folder of a model: one's own, or where the hub's client keeps it."""
    text = name.removeprefix(_PREFIX)
    if not _is_of_hub(name):
        return user_path(text).absolute()
    if text.count("/") != 1:
        raise UserError(f"--backbone {name}: there is no such folder; give hf:FOLDER, or hf:OWNER/NAME of the hub's")
    folder = hub.fetch(text, "config.json").parent
    if hub.cached(text, "preprocessor_config.json") is None:
        hub.fetch(text, "preprocessor_config.json")
    return folder


def _config(folder: Path) -> tuple[Any, Any]:
    """What a folder says of its model, and what builds it; of a model of images and text the part for images."""
    try:
        # Said, since it asks the user otherwise.
        config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{folder} holds no model that transformers has itself ({reason})") from error
    classifies = any("ForImageClassification" in kind for kind in config.architectures or ())
    config = config if classifies else getattr(config, "vision_config", config)
    return config, transformers.AutoModelForImageClassification if classifies else transformers.AutoModel


@cache
def _parts_of(folder: Path) -> dict[str, bool]:
    """What a model is to be built without: a pooling layer that its weights lack, as DINO's do."""
    path = folder / _WEIGHTS[0]
    if not path.is_file() or "ViTModel" not in (_config(folder)[0].architectures or ()):
        return {}
    with safe_open(path, "pt") as file:
        names = list(file.keys())
    return {} if any("pooler." in name for name in names) else {"add_pooling_layer": False}


def _of_images(network: nn.Module) -> nn.Module:
    """The model itself, called with images alone, for rows of numbers: logits, or else its pooled output."""
    model: Any = network
    kind: Any = type(network)
    model.__class__ = _rows_of(kind)
    return network


@cache
def _rows_of(kind: Any) -> Any:
    class Rows(kind):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            given = super().forward(pixel_values=images, return_dict=True)
            if "logits" in given:
                return given.logits
            pooled = given.pooler_output if "pooler_output" in given else given.last_hidden_state[:, 0]
            return pooled.flatten(1)

    Rows.__name__ = Rows.__qualname__ = kind.__name__
    return Rows


def _width(network: nn.Module, crop: int) -> int:
    try:
        with torch.no_grad():
            rows: torch.Tensor = network.eval()(torch.zeros(1, 3, crop, crop))
    except Exception as error:  # other people's code
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise UserError(f"{type(network).__name__} does not take images of {crop} x {crop} alone ({reason})") from error
    return rows.shape[1]


def _steps(said: Mapping[str, Any], usual: Preprocessing) -> Preprocessing:
    """What an image processor's own file says of sizes and numbers."""
    size, crops = _side(said.get("size")), said.get("do_center_crop")
    crop = _side(said.get("crop_size")) if crops and said.get("crop_size") else size
    resize = size
    if said.get("crop_pct") and crop < 384:  # ConvNeXt's way
        resize, crops = int(crop / said["crop_pct"]), True
    normalises = said.get("do_normalize", True)
    mean = tuple(said.get("image_mean") or usual.mean) if normalises else (0.0,) * 3
    std = tuple(said.get("image_std") or usual.std) if normalises else (1.0,) * 3
    shortest = isinstance(said.get("size"), dict) and "shortest_edge" in said["size"]
    mode = "center" if crops or shortest else "squash"
    interpolation = _INTERPOLATIONS.get(said.get("resample", 2), "bicubic")
    return Scaled(mean, std, max(resize, crop), crop, interpolation, crop_mode=mode)


def _side(size: Any) -> int:
    """224, {"height": 224, "width": 224} or {"shortest_edge": 224}."""
    if isinstance(size, Mapping):
        size = size.get("height", size.get("shortest_edge"))
    if not isinstance(size, int):
        raise UserError(f"preprocessor_config.json has images of {size!r}; give --image-size, --mean and --std")
    return size
