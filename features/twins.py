"""Copies of a network that do not copy its numbers: of a large one these are all the memory there is."""

import copy
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import fx, nn

_Module = TypeVar("_Module", bound=nn.Module)


def twin(module: _Module) -> _Module:
    """A copy whose parameters and buffers are tensors of its own over the memory of the module's.

    Converting, moving or replacing tensors in one leaves the other as it is; writing into them does not.
    """
    return _copied(module, torch.Tensor.detach)


def without_numbers(module: _Module) -> _Module:
    """A copy whose parameters and buffers are on the meta device: with shapes alone."""
    return _copied(module, lambda tensor: tensor.detach().to("meta"))


def parts_without_numbers(network: fx.GraphModule) -> nn.Module:
    """The same of a graph's parts alone, for an interpreter that is given the graph."""
    parts = nn.Module()
    vars(parts).update({name: value for name, value in vars(network).items() if name != "_graph"})
    return without_numbers(parts)


def own_parts(network: fx.GraphModule) -> fx.GraphModule:
    """Make a graph's parts twins of what they are, in place: for one that was made around those of another network."""
    copies = _tensors(network, torch.Tensor.detach)
    for tensors in (network._parameters, network._buffers):
        tensors.update({name: copies[id(tensor)] for name, tensor in tensors.items() if tensor is not None})
    for name, part in network._modules.items():
        network._modules[name] = None if part is None else _copy_into(copies, part)
    return network


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
    copies = _tensors(module, made)
    # A graph, which copies itself, finds its parts there.
    for part in module.children():
        _copy_into(copies, part)
    return copy.deepcopy(module, copies)


def _tensors(module: nn.Module, made: Callable[[torch.Tensor], torch.Tensor]) -> dict[int, Any]:
    """What is made of a module's tensors, by their ids."""
    tensors: dict[int, Any] = {id(buffer): made(buffer) for buffer in module.buffers()}
    for parameter in module.parameters():
        tensors[id(parameter)] = nn.Parameter(made(parameter), requires_grad=parameter.requires_grad)
    return tensors


def _copy_into(copies: dict[int, Any], module: nn.Module) -> nn.Module:
    """What `copy.deepcopy` makes of a module, in a quarter of the time: a module is twenty fields, most of them empty
    dictionaries of hooks. copies: of each object that was copied, by its id, the copy."""
    kind = type(module)
    if id(module) not in copies and _is_copied_by_field(kind):
        own = copies[id(module)] = kind.__new__(kind)
        for name, value in vars(module).items():
            if name == "_modules":
                value = {key: None if part is None else _copy_into(copies, part) for key, part in value.items()}
            elif type(value) in (dict, OrderedDict, set) and not value:
                value = type(value)()
            else:
                value = copy.deepcopy(value, copies)
            vars(own)[name] = value
    return copy.deepcopy(module, copies)


def _is_copied_by_field(kind: type[nn.Module]) -> bool:
    """Whether nothing says of modules of this class how they are copied or kept."""
    names = ("__deepcopy__", "__reduce__", "__reduce_ex__", "__getstate__", "__setstate__")
    return all(getattr(kind, name, None) is getattr(nn.Module, name, None) for name in names)
