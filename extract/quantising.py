"""Convolutions of bytes on a processor: maps between them stay bytes, all else is computed in float32 as it stands.

Each convolution takes the activation or the addition that reads it along, as `extract.fusing` has it. Maps are
unsigned with one step for the whole map, weights are signed, of seven or eight bits as the ranges say, with one step
for each output channel. Which maps are bytes
is settled by the whole network, once, and known by its ranges: so they are the same ones whatever layers are asked for.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional

from extract.fusing import Activation, is_plain, module_of, name_of, note_shapes, read_by, what_follows
from extract.levels import Levels
from features.ranges import Ranges, weight_levels

_SAME: tuple[type, ...] = (nn.Dropout, nn.Identity)
_NO_ACTIVATION: Activation = ("none", ())


def maps_in_bytes(network: fx.GraphModule, images: torch.Size) -> tuple[set[str], list[set[str]]]:
    """Of a whole folded network: the maps that need a range, and sets of maps that need the same one."""
    note_shapes(network, images)
    order = {node: place for place, node in enumerate(network.graph.nodes)}
    modules = dict(network.named_modules())

    def source(node: fx.Node) -> fx.Node:
        while _pool_of(node, modules) or _is_same(node, modules):
            node = read_by(node)
        return node

    needed: set[fx.Node] = set()
    made: set[fx.Node] = set()
    for node in order:
        if not is_plain(module_of(node, modules)):
            continue
        needed.add(source(read_by(node)))
        last, other, activation = what_follows(node, order, modules)
        if other is not None and source(other) not in made:
            last, other, activation = node, None, _NO_ACTIVATION
        made.add(last)
        if other is not None:
            needed |= {source(other), last}
        if activation != _NO_ACTIVATION:
            needed.add(last)
    together: list[set[str]] = []
    for node in reversed(order):
        parts = [source(part) for part in _joined(node)]
        if parts and node in needed and all(part in made or _joined(part) for part in parts):
            needed |= set(parts)
            own = {name_of(part) for part in (node, *parts)}
            overlapping = [other for other in together if other & own]
            together = [other for other in together if not other & own] + [own.union(*overlapping)]
    return {name_of(node) for node in needed}, together


def quantise_convolutions(
    network: fx.GraphModule, images: torch.Size, ranges: Ranges
) -> tuple[Levels, dict[int, Levels]]:
    """Replace convolutions of a folded graph in place, for batches of about this shape; the levels of its ends.

    It then takes bytes of the first levels (see `Levels.to_pixels`), and gives a tuple in which the outputs named by
    their place are bytes of theirs.
    """
    nodes = list(network.graph.nodes)
    quantiser = _Quantiser(network, images, ranges)
    for node in nodes:
        if node.op not in ("placeholder", "get_attr", "output") and node.users:
            quantiser.take(node)
    network.graph.eliminate_dead_code()
    network.delete_all_unused_submodules()
    _protect_what_is_read_later(network)
    network.recompile()
    (outputs,) = (node.args[0] for node in network.graph.nodes if node.op == "output")
    levels = quantiser.known
    return levels[quantiser.entry], {place: levels[node] for place, node in enumerate(outputs) if node in levels}


class _Quantiser:
    """Has the nodes of a folded graph compute in bytes, or else in float32, one after the other, in their order.

    levels: of the maps that have a range, by name. known: the nodes that give bytes, and what these stand for.
    """

    def __init__(self, network: fx.GraphModule, images: torch.Size, ranges: Ranges) -> None:
        self.network, self.graph = network, network.graph
        self.given = note_shapes(network, images)
        self.modules = dict(network.named_modules())
        self.order = {node: place for place, node in enumerate(network.graph.nodes)}
        self.levels = {name: Levels.between(*bounds) for name, bounds in ranges.items()}
        self.weight_levels = weight_levels(ranges)
        self.entry = next(node for node in network.graph.nodes if node.op == "placeholder")
        self.known = {self.entry: self.levels[name_of(self.entry)]}
        # The bytes of a map of numbers, or the numbers of one of bytes, where they are wanted.
        self._twins: dict[fx.Node, fx.Node] = {}

    def take(self, node: fx.Node) -> None:
        """Settle how a node computes; what it reads is settled."""
        convolution = module_of(node, self.modules)
        if is_plain(convolution) and (read := self._as_bytes(read_by(node))):
            self._convolve(node, convolution, read)
        elif (pool := _pool_of(node, self.modules)) and (read := read_by(node)) in self.known:
            with self.graph.inserting_after(node):
                pooled = self.graph.call_function(torch.ops.quantized.max_pool2d, (read, *pool))
            self._replace(node, pooled, self.known[read])
        elif _is_same(node, self.modules) or (node.target == "clone" and read_by(node) in self.known):
            # Nothing writes over bytes that are still read, so a copy of them is of no use.
            node.replace_all_uses_with(read_by(node))
        elif (parts := _joined(node)) and parts[0] in self.known and len({self.known.get(part) for part in parts}) == 1:
            self.known[node] = self.known[parts[0]]
        else:
            for part in node.all_input_nodes:
                if (values := self._as_values(part)) is not part:
                    node.replace_input_with(part, values)

    def _convolve(self, node: fx.Node, convolution: nn.Conv2d, read: fx.Node) -> None:
        last, other, activation = what_follows(node, self.order, self.modules)
        if other is not None and (other not in self.known or other is self.entry or name_of(last) not in self.levels):
            last, other, activation = node, None, _NO_ACTIVATION
        target = self.levels.get(name_of(last))
        added = None if other is None else self.known[other]
        name = f"bytes_{self.order[node]}"
        in_bytes = ByteConvolution(
            convolution,
            self.given[node],
            activation,
            weight_levels=self.weight_levels,
            read=self.known[read],
            target=target,
            added=added,
        )
        self.network.add_module(name, in_bytes)
        with self.graph.inserting_after(last):
            new = self.graph.call_module(name, (read,) if other is None else (read, other))
        self._replace(last, new, target)

    def _replace(self, old: fx.Node, new: fx.Node, levels: Levels | None) -> None:
        new.meta |= {"shape": old.meta["shape"], "stands for": name_of(old)}
        self.order[new] = self.order[old]
        old.replace_all_uses_with(new)
        if levels:
            self.known[new] = levels

    def _as_bytes(self, node: fx.Node) -> fx.Node | None:
        """A node that gives the bytes of a map; None where it has no range."""
        if node in self.known:
            return node
        if node not in self._twins and (levels := self.levels.get(name_of(node))):
            with self.graph.inserting_after(node):
                self._twins[node] = self.graph.call_function(_bytes, (node, levels.scale, levels.zero))
            self.known[self._twins[node]] = levels
        return self._twins.get(node)

    def _as_values(self, node: fx.Node) -> fx.Node:
        """A node that gives a map's numbers."""
        if node in self.known and node not in self._twins:
            levels = self.known[node]
            with self.graph.inserting_after(node):
                settings = (levels.scale, levels.zero, node.meta["shape"][1])
                self._twins[node] = self.graph.call_function(_values, (node, *settings))
        return self._twins[node] if node in self.known else node


class ByteConvolution(nn.Module):
    """A convolution of bytes with its weights in oneDNN's own layout, what is added to it, and its activation.

    weight_levels: of its weights, on each side of zero. read, target, added: the levels of what it reads, gives (None:
    float32) and adds. The map that is added is written over unless `keeps_added`.
    """

    def __init__(
        self,
        convolution: nn.Conv2d,
        shape: torch.Size,
        activation: Activation,
        *,
        weight_levels: int,
        read: Levels,
        target: Levels | None,
        added: Levels | None,
    ) -> None:
        super().__init__()
        weight = convolution.weight.detach().float()
        if shape[1] == 3:
            # Pixels come as four bytes (see `Levels.to_pixels`).
            weight = functional.pad(weight, (0, 0, 0, 0, 0, 1))
            shape = torch.Size((shape[0], 4, *shape[2:]))
        self.steps = weight.abs().amax((1, 2, 3)).div(weight_levels).clamp_min(torch.finfo(torch.float32).tiny)
        levels = (weight / self.steps.view(-1, 1, 1, 1)).round_().to(torch.int8)
        self.how = (convolution.stride, convolution.padding, convolution.dilation, convolution.groups)
        self.weight = torch.ops.onednn.qconv_prepack(levels, self.steps, read.scale, read.zero, *self.how, list(shape))
        self.zeros = torch.zeros(len(weight), dtype=torch.int64)
        self.bias = None if convolution.bias is None else convolution.bias.detach().float()
        self.read, self.target, self.added = read, target, added
        self.activation, self.numbers = activation[0], list(activation[1])
        self.keeps_added = True

    def forward(self, images: torch.Tensor, other: torch.Tensor | None = None) -> torch.Tensor:
        """uint8 (N, C, H, W) of its target's levels, or float32, channels last."""
        weights = (self.weight, self.steps, self.zeros)
        target = self.target or Levels(1.0, 0)
        kind = torch.uint8 if self.target else torch.float32
        to = (target.scale, target.zero, kind)
        if other is None:
            return torch.ops.onednn.qconv2d_pointwise(
                images, self.read.scale, self.read.zero, *weights, self.bias, *self.how, *to,
                self.activation, self.numbers, "",
            )  # fmt: skip
        assert self.added is not None, "a convolution that adds was told the levels of what it adds"
        if self.keeps_added:
            other = other.clone()
        return torch.ops.onednn.qconv2d_pointwise.binary(
            images, self.read.scale, self.read.zero, *weights, other, self.bias, *self.how, *to,
            self.added.scale, self.added.zero, "sum", 1.0, self.activation, [], "",
        )  # fmt: skip


def _protect_what_is_read_later(network: fx.GraphModule) -> None:
    """Let a map that is added be written over where nothing reads it any more."""
    order = {node: place for place, node in enumerate(network.graph.nodes)}
    modules = dict(network.named_modules())
    for node in order:
        module = module_of(node, modules)
        # A map that is both read and added is one input, not two; it is kept.
        if isinstance(module, ByteConvolution) and len(node.all_input_nodes) == 2:
            added = node.all_input_nodes[1]
            module.keeps_added = max(order[reader] for reader in added.users) > order[node]


def _bytes(values: torch.Tensor, scale: float, zero: int) -> torch.Tensor:
    return Levels(scale, zero).to_bytes(values)


def _values(levels: torch.Tensor, scale: float, zero: int, channels: int) -> torch.Tensor:
    """float32 (N, channels, H, W): what bytes stand for, without the channel that only fills a pixel."""
    return Levels(scale, zero).to_values(levels[:, :channels])


def _pool_of(node: fx.Node, modules: Mapping[str, nn.Module]) -> tuple[Any, ...] | None:
    """What a maximum over windows is told, if that is what a node does: windows, stride, padding, dilation, ceiling."""
    module = module_of(node, modules)
    if type(module) is not nn.MaxPool2d or module.return_indices:
        return None
    settings = (module.kernel_size, module.stride, module.padding, module.dilation)
    pairs = ([setting] * 2 if isinstance(setting, int) else list(setting) for setting in settings)
    return (*pairs, module.ceil_mode)


def _is_same(node: fx.Node, modules: Mapping[str, nn.Module]) -> bool:
    """Whether a node gives what it reads."""
    return type(module_of(node, modules)) in _SAME


def _joined(node: fx.Node) -> list[fx.Node]:
    """The maps that a node puts side by side, channel by channel, if that is what it does."""
    if node.target is not torch.cat:
        return []
    parts, place = [*node.args, *node.kwargs.values(), 0][:2]
    if place != 1 or not isinstance(parts, list | tuple):
        return []
    maps = [part for part in parts if isinstance(part, fx.Node)]
    return maps if len(maps) == len(parts) else []
