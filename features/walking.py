"""What the nodes of a traced graph depend on, and what some of them say, without running it."""

import hashlib
import operator
from collections.abc import Sequence
from typing import Any

import torch
from torch import fx, nn
from torch.fx.node import map_aggregate, map_arg

# In the `meta` of a node that asks a tensor for its floating-point type or its device.
KIND = "says of what kind"


def is_batch_size(node: fx.Node) -> bool:
    """Whether a node only says how many images there are, which every layer's output says as well."""
    if node.op == "call_method" and node.target == "size" and node.args[1:] == (0,):
        return True
    shape = node.args[0] if node.args else None
    return (
        node.target is operator.getitem
        and node.args[1:] == (0,)
        and isinstance(shape, fx.Node)
        and shape.target is getattr
        and shape.args[1:] == ("shape",)
    )


def is_kind(node: fx.Node) -> bool:
    """Whether a node only says of what floating-point type, or on what device, a tensor is."""
    return bool(node.meta.get(KIND))


def says_nothing_new(node: fx.Node) -> bool:
    """Whether what a node gives can be had of any layer's output: the number of images, their type and device."""
    return is_batch_size(node) or is_kind(node)


def asked_of(node: fx.Node, output: fx.Node) -> fx.Node:
    """The node that asks another output what `node`, one of those that say nothing new, asks."""
    if is_batch_size(node):
        return output.graph.call_method("size", (output, 0))
    return output.graph.call_function(getattr, (output, *node.args[1:]))


def dependent(graph: fx.Graph, source: fx.Node) -> dict[fx.Node, bool]:
    """Of each node whether it depends on the numbers of a source; how many images there are, and of what type, are no
    such numbers."""
    depends: dict[fx.Node, bool] = {}
    for node in graph.nodes:
        read = any(depends[before] for before in node.all_input_nodes)
        depends[node] = node is source or (read and not says_nothing_new(node))
    return depends


def needed(graph: fx.Graph, wanted: Sequence[fx.Node], stop: fx.Node | None = None) -> list[fx.Node]:
    """The nodes that `wanted` are computed from, in order; nothing below `stop`, and not its sources."""
    reached, waiting = set(), list(wanted)
    while waiting:
        node = waiting.pop()
        if node in reached:
            continue
        reached.add(node)
        if node is not stop and not (stop is not None and says_nothing_new(node)):
            waiting.extend(node.all_input_nodes)
    return [node for node in graph.nodes if node in reached]


def averages_places(model: nn.Module, node: fx.Node) -> bool:
    """Whether a node averages over the places of a map."""
    module = model.get_submodule(str(node.target)) if node.op == "call_module" else None
    by_function = node.target is nn.functional.adaptive_avg_pool2d
    by_mean = node.target == "mean" and tuple(node.args[1:2]) in (([2, 3],), ((2, 3),))
    return isinstance(module, nn.AdaptiveAvgPool2d) or by_function or by_mean


def graph_digest(model: nn.Module, graph: fx.Graph) -> str:
    """The SHA-256 of a model's graph: what is computed from what, by which functions and modules; parameters by name,
    and tensors that no state dict holds by what is in them."""
    places, held = {node: place for place, node in enumerate(graph.nodes)}, model.state_dict().keys()

    def written(value: Any) -> str:
        if isinstance(value, torch.Tensor):
            numbers = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
            return hashlib.sha256(numbers.numpy().tobytes()).hexdigest()
        if callable(value) and not isinstance(value, nn.Module):
            return f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', value)}"
        return str(value)

    lines = []
    for node in graph.nodes:
        arguments = map_arg((node.args, node.kwargs), lambda source: f"%{places[source]}")
        target = written(node.target)
        if node.op == "call_module":
            target += written(model.get_submodule(target))
        if node.op == "get_attr":
            target = target if target in held else written(operator.attrgetter(target)(model))
        lines.append(f"{node.op} {target} {map_aggregate(arguments, written)}")
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def operations(network: nn.Module, image_size: int) -> int:
    """Floating-point operations for one image of a network without numbers, a multiply-add counted as two."""
    from torch.utils.flop_counter import FlopCounterMode  # it brings triton, where that is installed

    with FlopCounterMode(display=False) as counter, torch.no_grad(), torch.device("meta"):
        network(torch.empty(2, 3, image_size, image_size))
    return counter.get_total_flops() // 2
