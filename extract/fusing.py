"""Convolutions as oneDNN likes them on a processor: weights laid out once, what follows them done on the way out.

Each convolution takes the activation or the addition (and its activation) that reads it along, so that a map is written
once instead of three times. This is what `torch.compile` with freezing does to a network of convolutions, without the
minute that compiling takes; what else it does is left to it.
"""

import copy
import operator
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, TypeGuard

import torch
from torch import fx, nn
from torch.nn import functional

from extract.winograd import WinogradConvolution, suits
from features.overwriting import OnMeta
from features.shapes import found_once
from features.twins import parts_without_numbers

# oneDNN's names and numbers for what may follow a convolution.
Activation = tuple[str, tuple[float, ...]]

_ACTIVATIONS: dict[type | None, Activation] = {
    nn.ReLU: ("relu", ()),
    nn.ReLU6: ("hardtanh", (0.0, 6.0)),
    nn.SiLU: ("swish", ()),
    nn.Hardswish: ("hardswish", ()),
}
_FUNCTIONS: dict[Any, type] = {
    functional.relu: nn.ReLU,
    torch.relu: nn.ReLU,
    functional.relu6: nn.ReLU6,
    functional.silu: nn.SiLU,
}
_ADDITIONS = (operator.add, operator.iadd, torch.add)


def can_fuse(network: nn.Module, dtype: torch.dtype = torch.float32) -> bool:
    """Whether this torch and processor have the operations, and the network is one of convolutions, for the most part.

    oneDNN has float32 everywhere, and bfloat16 from AVX-512 on: without it torch computes in bfloat16 by itself.
    """
    names = ("_convolution_pointwise", "_reorder_convolution_weight")
    supported = torch.backends.mkldnn.is_available() and all(hasattr(torch.ops.mkldnn, name) for name in names)
    supported = supported and (dtype != torch.bfloat16 or torch.ops.mkldnn._is_mkldnn_bf16_supported())
    weighted = [module for module in network.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    return supported and 2 * sum(map(is_plain, weighted)) > len(weighted)


def fuse_convolutions(network: fx.GraphModule, images: torch.Size, *, winograd: bool = False) -> fx.GraphModule:
    """Replace convolutions of a graph of an eval-mode network, in place, for batches of about this shape.

    winograd: those of 3 x 3 by Winograd, where that is faster.
    Weights keep their type; the result computes on a processor only, and is for reading features, not for training.
    """
    given = note_shapes(network, images)
    order = {node: place for place, node in enumerate(network.graph.nodes)}
    modules = dict(network.named_modules())
    for node in list(network.graph.nodes):
        convolution = module_of(node, modules)
        if not is_plain(convolution):
            continue
        last, other, activation = what_follows(node, order, modules)
        name = f"packed_{order[node]}"
        packed: nn.Module
        if winograd and suits(convolution, given[node], activation[0]):
            packed = WinogradConvolution(convolution, given[node], activation[0])
        else:
            packed = PackedConvolution(convolution, given[node], *activation)
        network.add_module(name, packed)
        compute_by(name, read_by(node), other, last, order)
    network.delete_all_unused_submodules()
    network.recompile()
    return network


def compute_by(name: str, read: fx.Node, other: fx.Node | None, last: fx.Node, order: dict[fx.Node, int]) -> None:
    """Have a module of this name, which reads a node and may be given another, do all up to `last` in its place."""
    with last.graph.inserting_after(last):
        fused = last.graph.call_module(name, (read,) if other is None else (read, other))
    fused.meta["shape"], order[fused] = last.meta["shape"], order[last]
    last.replace_all_uses_with(fused)
    _erase_unread(last)


def _erase_unread(node: fx.Node) -> None:
    """Erase a node that nothing reads, and what only it read: the whole graph is not looked through for it."""
    waiting, erased = [node], set()
    while waiting:
        node = waiting.pop()
        if node.users or node in erased or node.is_impure():
            continue
        waiting += node.all_input_nodes
        node.graph.erase_node(node)
        erased.add(node)


def compute_apart(network: fx.GraphModule) -> fx.GraphModule:
    """Compute once more, in place, what a graph gives and its next operation would take along: then all else that it
    gives comes out as if that had not been asked for, and that as if nothing else had. For a graph before folding;
    `recompile` is left to do."""
    modules = dict(network.named_modules())
    output = next(node for node in network.graph.nodes if node.op == "output")
    outputs = output.args[0]
    assert isinstance(outputs, tuple | list), "a trunk gives a tuple"
    nodes = [node for node in outputs if isinstance(node, fx.Node)]
    copies = {node: read_by(node) for node in nodes if node.target == "clone" and len(node.users) == 1}
    given = [copies.get(node, node) for node in nodes]

    def taken_along(node: fx.Node) -> bool:
        readers = [reader for reader in node.users if reader is not output and reader not in copies]
        return len(readers) == 1 and _takes_along(readers[0], node, modules)

    def again(node: fx.Node) -> fx.Node:
        module = module_of(node, modules)
        # What it takes along itself has to be its own.
        parts = {} if is_plain(module) else {part: again(part) for part in node.all_input_nodes if taken_along(part)}
        with network.graph.inserting_before(node):
            twin = network.graph.node_copy(node, lambda part: parts.get(part, part))
        twin.meta["stands for"] = name_of(node)
        if module is not None:
            twin.target = f"again_{len(modules)}"
            modules[twin.target] = copy.deepcopy(module)
            network.add_module(twin.target, modules[twin.target])
        return twin

    apart = {node: again(node) for node in dict.fromkeys(given) if taken_along(node)}
    output.args = (tuple(apart.get(node, own) for node, own in zip(given, nodes, strict=True)),)
    network.graph.eliminate_dead_code()
    return network


def _takes_along(reader: fx.Node, node: fx.Node, modules: Mapping[str, nn.Module]) -> bool:
    """Whether the only reader of a node may be computed with it: folded into it, or done on the way out."""
    kind = type(module_of(node, modules))
    if kind is nn.Conv2d and type(module_of(reader, modules)) is nn.BatchNorm2d:
        return True
    if kind is nn.Linear:
        return activation_of_linear(reader, modules) is not None or reader.target in _ADDITIONS
    done = kind in (nn.Conv2d, nn.BatchNorm2d) or node.target in _ADDITIONS
    return done and (activation_of(reader, modules) is not None or reader.target in _ADDITIONS)


def name_of(node: fx.Node) -> str:
    """The name that a map has in the network as it was traced, whatever was folded into the node or made of it."""
    return node.meta.get("stands for", node.name)


def grey_suffices(graph: fx.Graph, modules: Mapping[str, nn.Module]) -> bool:
    """Whether `take_grey` works for a network: nothing but one plain convolution of three channels reads the images."""
    first = _only_reader(next(node for node in graph.nodes if node.op == "placeholder"))
    convolution = None if first is None else module_of(first, modules)
    return is_plain(convolution) and convolution.in_channels == 3 and convolution.groups == 1


def take_grey(network: fx.GraphModule, mean: Sequence[float], std: Sequence[float]) -> fx.GraphModule:
    """Have a network's first convolution read grey images as two channels: their values from 0 to 255, and ones.

    Three equal channels, normalised, are a linear map of these two, and outside of an image all are zero: so it is the
    same function, for two thirds of the work. bfloat16 holds these whole numbers without rounding, and of the weights
    that it rounds the sums are kept: even areas, which most of a grey image is, come out as in float32.
    """
    means, stds = (torch.tensor(numbers, dtype=torch.float64).view(1, -1, 1, 1) for numbers in (mean, std))
    # That one convolution may be computed apart as well (`compute_apart`).
    for reader in next(node for node in network.graph.nodes if node.op == "placeholder").users:
        old = network.get_submodule(str(reader.target))
        assert is_plain(old), "grey_suffices was asked first"
        shape: dict[str, Any] = {name: getattr(old, name) for name in ("kernel_size", "stride", "padding", "dilation")}
        new = nn.Conv2d(2, old.out_channels, **shape, bias=old.bias is not None)
        weight = old.weight.detach().double()
        with torch.no_grad():
            new.weight[:, 0] = _rounded((weight / (255 * stds)).sum(dim=1))
            new.weight[:, 1] = _rounded((weight * (-means / stds)).sum(dim=1))
            if old.bias is not None and new.bias is not None:
                new.bias.copy_(old.bias)
        network.set_submodule(str(reader.target), new.requires_grad_(False))
    return network


def _rounded(kernels: torch.Tensor) -> torch.Tensor:
    """Numbers of bfloat16 near those of each kernel (K, H, W), what one loses in rounding made up for by the next."""
    left = torch.zeros(len(kernels), dtype=kernels.dtype)
    rounded = torch.empty_like(kernels)
    for wanted, kernel in zip(kernels.flatten(1).T, rounded.flatten(1).T, strict=True):
        kernel.copy_((wanted + left).to(torch.bfloat16))
        left += wanted - kernel
    return rounded


@cache
def _adds_one_pixel() -> bool:
    """Whether this torch adds a map of one pixel in the convolution's own step; 2.6 to 2.10 at least do not."""
    how, pixel = ((0, 0), (1, 1), (1, 1), 1), torch.zeros(1, 64, 1, 1)
    weight = torch.ops.mkldnn._reorder_convolution_weight(torch.zeros(64, 64, 1, 1), *how, [1, 64, 1, 1])
    try:
        torch.ops.mkldnn._convolution_pointwise.binary(pixel, pixel, weight, None, *how, "add", 1.0, None, [], "")
    except RuntimeError:
        return False
    return True


class PackedConvolution(nn.Module):
    """A convolution with its weights in oneDNN's own layout, what is added to it, and its activation."""

    def __init__(self, convolution: nn.Conv2d, shape: torch.Size, activation: str, numbers: tuple[float, ...]) -> None:
        super().__init__()
        self.how = (convolution.padding, convolution.stride, convolution.dilation, convolution.groups)
        weight = convolution.weight.detach().contiguous(memory_format=torch.channels_last)
        self.weight = torch.ops.mkldnn._reorder_convolution_weight(weight, *self.how, list(shape))
        self.bias = None if convolution.bias is None else convolution.bias.detach()
        self.activation, self.numbers = activation, list(numbers)

    def forward(self, images: torch.Tensor, other: torch.Tensor | None = None) -> torch.Tensor:
        """(N, C, H, W) in the weights' type, channels last."""
        if other is None:
            return torch.ops.mkldnn._convolution_pointwise(
                images, self.weight, self.bias, *self.how, self.activation, self.numbers, ""
            )
        if other.shape[2:].numel() == 1 and not _adds_one_pixel():
            alone = torch.ops.mkldnn._convolution_pointwise(images, self.weight, self.bias, *self.how, "none", [], "")
            return alone.add_(other) if self.activation == "none" else alone.add_(other).relu_()
        relu = self.activation if self.activation != "none" else None
        return torch.ops.mkldnn._convolution_pointwise.binary(
            images, other, self.weight, self.bias, *self.how, "add", 1.0, relu, [], ""
        )


def what_follows(
    node: fx.Node, order: Mapping[fx.Node, int], modules: Mapping[str, nn.Module]
) -> tuple[fx.Node, fx.Node | None, Activation]:
    """What a convolution can take along: the last node of it, the map that is added if any, and the activation."""
    addition, other = addition_to(node, order)
    last = addition or node
    follower = _only_reader(last)
    activation = activation_of(follower, modules) if follower else None
    # oneDNN's addition goes with a relu or with nothing.
    if follower and activation and (other is None or activation[0] == "relu"):
        return follower, other, activation
    return last, other, ("none", ())


def module_of(node: fx.Node, modules: Mapping[str, nn.Module]) -> nn.Module | None:
    """The module that a node calls, if that is what it does."""
    return modules.get(str(node.target)) if node.op == "call_module" else None


def read_by(node: fx.Node) -> fx.Node:
    """What a node that calls a module of one argument reads."""
    source = node.args[0]
    assert isinstance(source, fx.Node), f"{node} reads {source}"
    return source


def is_plain(module: nn.Module | None) -> TypeGuard[nn.Conv2d]:
    """Whether a module is a convolution that oneDNN can do as it stands."""
    return type(module) is nn.Conv2d and module.padding_mode == "zeros" and not isinstance(module.padding, str)


def _only_reader(node: fx.Node) -> fx.Node | None:
    return next(iter(node.users)) if len(node.users) == 1 else None


def activation_of(node: fx.Node, modules: Mapping[str, nn.Module]) -> Activation | None:
    """The activation that a node is, if a convolution can take it along."""
    kind = type(module_of(node, modules)) if node.op == "call_module" else _FUNCTIONS.get(node.target)
    return _ACTIVATIONS.get(kind)


def activation_of_linear(node: fx.Node, modules: Mapping[str, nn.Module]) -> Activation | None:
    """The same for a linear layer, which takes GELU along too; of that the form is a part of the name."""
    module = module_of(node, modules)
    if type(module) is nn.GELU:
        return f"gelu {module.approximate}", ()
    if node.op == "call_function" and node.target is functional.gelu and len(node.args) == 1:
        return f"gelu {node.kwargs.get('approximate', 'none')}", ()
    return activation_of(node, modules)


def addition_to(node: fx.Node, order: Mapping[fx.Node, int]) -> tuple[fx.Node | None, fx.Node | None]:
    """The node that adds a convolution's output to a map of the same shape that is there before it, and that map."""
    addition = _only_reader(node)
    if addition is None or addition.target not in _ADDITIONS or addition.kwargs or len(addition.args) != 2:
        return None, None
    other = addition.args[1] if addition.args[0] is node else addition.args[0]
    if not isinstance(other, fx.Node) or other is node or order[other] > order[node]:
        return None, None
    return (addition, other) if other.meta.get("shape") == node.meta["shape"] else (None, None)


def note_shapes(network: fx.GraphModule, images: torch.Size) -> dict[fx.Node, torch.Size]:
    """The shape of what each module is given; every node's own is noted with it."""

    def run() -> list[Any]:
        # Of a copy, which may remember what it is given; and what a module makes by itself has no numbers there either.
        recorder, parameter = OnMeta(parts_without_numbers(network), network.graph), next(network.parameters())
        with torch.no_grad(), torch.device("meta"):
            recorder.run(torch.empty(images, dtype=parameter.dtype))
        return [recorder.shapes.get(node) for node in network.graph.nodes]

    given: dict[fx.Node, torch.Size] = {}
    for node, shape in zip(network.graph.nodes, found_once("shapes", network, network.graph, images, run), strict=True):
        if shape is None:
            continue
        node.meta["shape"] = torch.Size(shape)
        source = node.args[0] if node.op == "call_module" and node.args else None
        # Some modules are given no map: a size, of positions.
        if isinstance(source, fx.Node) and "shape" in source.meta:
            given[node] = source.meta["shape"]
    return given
