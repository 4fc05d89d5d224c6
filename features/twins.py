"""Copies of a network that do not copy its numbers: of a large one these are all the memory there is."""

import copy
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import nn

_Module = TypeVar("_Module", bound=nn.Module)


def twin(module: _Module) -> _Module:
    """A copy whose parameters and buffers are tensors of its own over the memory of the module's.

    Converting, moving or replacing tensors in one leaves the other as it is; writing into them does not.
    """
    return _copied(module, torch.Tensor.detach)


def without_numbers(module: _Module) -> _Module:
    """A copy whose parameters and buffers are on the meta device: with shapes alone."""
    return _copied(module, lambda tensor: tensor.detach().to("meta"))


def with_channels_last(module: _Module) -> _Module:
    """The same module; of its tensors of four axes the second one is the last in memory, as convolutions like it best.

    torch's own `to` asks it of five axes too, and they cannot have it.
    """
    for tensor in (*module.parameters(), *module.buffers()):
        if tensor.ndim == 4:
            tensor.data = tensor.data.to(memory_format=torch.channels_last)
    return module


def own_numbers(module: nn.Module) -> None:
    """Give a twin memory of its own, in place: its parameters and buffers may then be written into."""
    with torch.no_grad():
        for tensor in (*module.parameters(), *module.buffers()):
            tensor.data = tensor.data.clone(memory_format=torch.preserve_format)


def _copied(module: _Module, made: Callable[[torch.Tensor], torch.Tensor]) -> _Module:
    tensors: dict[int, torch.Tensor] = {id(buffer): made(buffer) for buffer in module.buffers()}
    for parameter in module.parameters():
        tensors[id(parameter)] = nn.Parameter(made(parameter), requires_grad=parameter.requires_grad)
    return copy.deepcopy(module, tensors)
