"""Networks by name: built with random weights, or as outlines, which have names and shapes and no numbers."""

import contextlib
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from features.backbones.family import is_auxiliary
from features.families import family_of
from features.plugins import plugins


def backbone_plugin(name: str) -> str:
    """'package 1.2' of the plug-in that brings an architecture; '' for others."""
    origin = family_of(name).defined_by(name)
    plugin = plugins("backbones").get(name)
    return origin if plugin and plugin.origin == origin else ""


def build_model(name: str, classes: int | None = None, **options: Any) -> nn.Module:
    """A network of this architecture with random weights, in training mode; classes None: those of its own weights.

    options: of its builder, as its family gives them. On the meta device it is an `outline`.
    """
    if torch.get_default_device().type == "meta":
        with torch.device("cpu"):
            return outline(name, classes, **options).to("meta")
    return family_of(name).build(name, classes, **options)


def outline(name: str, classes: int | None = None, **options: Any) -> nn.Module:
    """The same network with names and shapes alone: its parameters are on the meta device, and nothing is drawn."""
    family = family_of(name)
    if family.builds_outlines:
        # Builders that run a part of the network, to see what it gives, have numbers to run it on.
        with contextlib.suppress(RuntimeError), _EmptyOnMeta():
            return family.build(name, classes, **options)
    with torch.random.fork_rng(devices=[]):
        return family.build(name, classes, **options).to("meta")


# What draws numbers into a tensor: one without numbers is left as it is. To find its shape once more, torch would load
# its compiler, a second of processor time.
_DRAWS = (torch.Tensor.normal_, torch.Tensor.uniform_)


class _EmptyOnMeta(TorchFunctionMode):
    """Parameters begin with `torch.empty`; RegNet works out its widths with other tensors, which must have values."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is torch.empty and kwargs.get("device") is None:
            kwargs = {**kwargs, "device": "meta"}
        elif func in _DRAWS and args[0].is_meta:
            return args[0]
        return func(*args, **kwargs)


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
