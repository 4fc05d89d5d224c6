"""timm's models, `timm:NAME` or `timm:NAME.TAG`: what is known of each stands in its own configuration.

Weights come from timm's places, or from a file by timm's own loader, which resamples positions to the size of the
images.
"""

import inspect
from collections.abc import Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import timm
import torch
from timm.models._features_fx import get_notrace_functions, get_notrace_modules
from torch import nn

from features.backbones import hub
from features.backbones.family import Family, Pretrained, Traits, version_of
from features.backbones.files import with_state
from features.backbones.torchvision import FAMILY as TORCHVISION
from features.errors import UserError, nearest
from features.home import weights_folder
from features.matching import Architecture
from features.preprocessing import INTERPOLATIONS, Preprocessing, Scaled
from features.weights import read_tables

_PREFIX = "timm:"
_HUB_FILES = ("model.safetensors", "pytorch_model.bin")


class Timm(Family):
    """Networks of one package, which changes them from one version to the next."""

    graph_in_key = True

    def names(self) -> Sequence[str]:
        return tuple(f"{_PREFIX}{name}" for name in timm.list_models())

    def knows(self, name: str) -> bool:
        return timm.is_model(_architecture(name))

    def defined_by(self, name: str) -> str:
        return version_of("timm")

    def build(self, name: str, classes: int | None = None, **options: Any) -> nn.Module:
        return timm.create_model(_known(name), pretrained=False, num_classes=classes, **options)

    def options_of(self, model: nn.Module) -> dict[str, Any]:
        arguments = getattr(model, "_model_args", {})
        return {"img_size": arguments["img_size"]} if "img_size" in arguments else {}

    def options_at(self, name: str, size: int | None) -> dict[str, Any]:
        config = _config(name)
        return {"img_size": size} if config.fixed_input_size and size not in (None, config.input_size[-1]) else {}

    def fixed_size(self, model: nn.Module) -> int | None:
        config = _its_config(model)
        fixed = config.get("input_size", (0,))[-1] if config.get("fixed_input_size") else None
        return self.options_of(model).get("img_size", fixed)

    def traits(self, model: nn.Module) -> Traits:
        """Its stages are those of `feature_info`, where the resolution changes between them."""
        by_reduction: dict[int, str] = {}
        infos = getattr(model, "feature_info", None)
        for info in infos if isinstance(infos, list) else ():
            by_reduction[info["reduction"]] = info["module"]
        has_class_token = isinstance(getattr(model, "cls_token", None), torch.Tensor)
        prefix = getattr(model, "num_prefix_tokens", int(has_class_token))
        return Traits(
            stages=tuple(by_reduction.values()) if len(by_reduction) > 2 else (),
            prefix_tokens=prefix,
            has_class_token=has_class_token and prefix > 0,
            leaf_modules=tuple(get_notrace_modules()),
            leaf_functions=tuple(get_notrace_functions()),
            classifiers=self.classifiers(model),
            sized=True,
        )

    def is_headless(self, model: nn.Module) -> bool:
        return self.classes_of(model) == 0

    def classifiers(self, model: nn.Module) -> tuple[str, ...]:
        """Two where a distilled network has one for each teacher."""
        named = _its_config(model).get("classifier")
        names = (named,) if isinstance(named, str) else tuple(named or ())
        modules = dict(model.named_modules())
        there = tuple(name for name in names if hasattr(modules.get(name), "weight"))
        return there or (() if self.is_headless(model) else super().classifiers(model))

    def classes_of(self, model: nn.Module) -> int:
        return model.num_classes  # type: ignore[return-value]  # timm's name for it

    def new_classifier(self, model: nn.Module, classes: int) -> tuple[str, ...]:
        before = {id(parameter) for parameter in model.parameters()}
        reset: Any = model.reset_classifier
        # Some leave out the second classifier of a distilled network, unless told.
        asks = "distillation" in inspect.signature(reset).parameters
        reset(classes, **({"distillation": len(self.classifiers(model)) > 1} if asks else {}))
        new = [name.rpartition(".")[0] for name, part in model.named_parameters() if id(part) not in before]
        # The norms of a head are made anew with it.
        return tuple(dict.fromkeys((*self.classifiers(model), *new)))

    def entries(self, name: str) -> tuple[str, ...]:
        tagged = timm.list_pretrained(f"{_architecture(name)}.*")
        return tuple(model.partition(".")[2] for model in tagged if model.partition(".")[0] == _architecture(name))

    def pretrained(self, name: str, weights: str) -> Pretrained | None:
        _known(name)
        tags = self.entries(name)
        if weights != "default" and weights not in tags:
            return None
        asked = name if weights == "default" else f"{_PREFIX}{_architecture(name)}.{weights}"
        config = _config(asked)
        steps, called = _steps(config), f"{config.architecture}.{config.tag}"
        if config.hf_hub_id:
            files = (config.hf_hub_filename,) if config.hf_hub_filename else _HUB_FILES
            path = hub.cached(config.hf_hub_id, *files) or weights_folder() / files[0]
            return Pretrained(path, called, steps, fetch=partial(hub.fetch, config.hf_hub_id, *files))
        if config.url:
            path = weights_folder() / config.url.rsplit("/", 1)[-1]
            return Pretrained(path, called, steps, url=config.url)
        return None

    def read(self, name: str, path: Path, options: Mapping[str, Any]) -> tuple[nn.Module, bool] | None:
        if not options:
            try:
                return with_state(name, path)
            except UserError as error:
                problem = error
        tensors = dict(max(read_tables(path), key=lambda table: len(table.tensors)).tensors)
        own = Architecture(name, **options).model
        scores = [tensors[f"{part}.weight"] for part in self.classifiers(own) if f"{part}.weight" in tensors]
        classes = len(scores[0]) if scores else 0
        given = {"state_dict": tensors, "num_classes": classes}
        try:
            model: Any = timm.create_model(
                _known(name), pretrained=True, pretrained_cfg_overlay=given, num_classes=classes, **options
            )
        except (RuntimeError, KeyError, ValueError, TypeError, AttributeError) as error:
            reason = " ".join(str(error).split())[:200]
            raise UserError(f"{path} does not hold weights of {name} ({reason})") from (error if options else problem)
        model.pretrained_cfg.pop("state_dict", None)
        return model, classes == 0

    def categories(self, name: str) -> tuple[str, ...]:
        return TORCHVISION.categories("resnet18")

    def preset(self, name: str) -> Preprocessing:
        return _steps(_config(name))

    def preset_of_file(self, name: str, path: Path, size: int | None = None) -> tuple[Preprocessing, str]:
        config = _config(name)
        return _steps(config).at(size), f"as for timm's {config.architecture}.{config.tag}"


FAMILY = Timm()


def _architecture(name: str) -> str:
    return name.removeprefix(_PREFIX).partition(".")[0]


def _known(name: str) -> str:
    """timm's own name of a model; UserError, with the nearest, where it has none such."""
    model = name.removeprefix(_PREFIX)
    if not timm.is_model(_architecture(name)):
        near = " or ".join(f"{_PREFIX}{known}" for known in nearest(model, timm.list_models()))
        hint = f"did you mean {near}?" if near else "`timm.list_models()` names those that there are"
        raise UserError(f"timm {timm.__version__} has no model {model!r}; {hint}")
    tag = model.partition(".")[2]
    if tag and tag not in (tags := FAMILY.entries(name)):
        raise UserError(f"timm has no weights {tag!r} of {_architecture(name)}; choose from {', '.join(tags)}")
    return model


@cache
def _config(name: str) -> Any:
    """timm's own account of a model and the weights that its name means."""
    return timm.get_pretrained_cfg(_known(name))


def _its_config(model: nn.Module) -> dict[str, Any]:
    config: Any = getattr(model, "pretrained_cfg", {})
    return config


def _steps(config: Any) -> Preprocessing:
    """timm's own preparation for evaluation; it has some that are trained on whatever interpolation as bicubic."""
    crop = config.input_size[-1]
    mode = {"squash": "squash", "border": "pad"}.get(config.crop_mode, "center")
    interpolation = config.interpolation if config.interpolation in INTERPOLATIONS else "bicubic"
    mean, std = tuple(config.mean), tuple(config.std)
    return Scaled(mean, std, int(crop / config.crop_pct), crop, interpolation, crop_mode=mode)
