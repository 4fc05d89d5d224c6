"""Convolutions of bytes on a processor: maps between them stay bytes, all else is computed in float32 as it stands.

Each convolution takes the activation or the addition that reads it along, as `extract.fusing` has it. Maps are
unsigned with one step for the whole map, weights are signed with one step for each output channel. Which maps are bytes
is settled by the whole network, once, and known by its ranges: so they are the same ones whatever layers are asked for.
"""

import torch
from torch import fx, nn
from torch.nn import functional

from extract.fusing import Activation, is_plain, note_shapes, what_follows
from extract.levels import Levels
from features.ranges import Ranges

_SAME = (nn.Dropout, nn.Identity)


def name_of(node: fx.Node) -> str:
    """The name that a map has in the network as it was traced, whatever was folded into the node or made of it."""
    return node.meta.get("stands for", node.name)


def maps_in_bytes(network: fx.GraphModule, images: torch.Size) -> tuple[set[str], list[set[str]]]:
    """Of a whole folded network: the maps that need a range, and sets of maps that need the same one."""
    note_shapes(network, images)
    order = {node: place for place, node in enumerate(network.graph.nodes)}
    modules = dict(network.named_modules())

    def source(node: fx.Node) -> fx.Node:
        while _pool_of(node, modules) or _is_same(node, modules):
            node = node.args[0]
        return node

    needed: set[fx.Node] = set()
    made: set[fx.Node] = set()
    for node in order:
        if node.op != "call_module" or not is_plain(modules.get(node.target)):
            continue
        needed.add(source(node.args[0]))
        last, other, activation = what_follows(node, order, modules)
        if other is not None and source(other) not in made:
            last, other, activation = node, None, ("none", ())
        made.add(last)
        if other is not None:
            needed |= {source(other), last}
        if activation[0] != "none":
            needed.add(last)
    together: list[set[str]] = []
    for node in reversed(order):
        parts = [source(part) for part in _joined(node)]
        if parts and node in needed and all(part in made or _joined(part) for part in parts):
            needed |= set(parts)
            own = {name_of(each) for each in (node, *parts)}
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
    given = note_shapes(network, images)
    graph = network.graph
    nodes = list(graph.nodes)
    order = {node: place for place, node in enumerate(nodes)}
    modules = dict(network.named_modules())
    levels = {name: Levels.between(*bounds) for name, bounds in ranges.items()}
    entry = next(node for node in nodes if node.op == "placeholder")
    known = {entry: levels[name_of(entry)]}
    # In place of the bytes of a map, or of its numbers, where the other is wanted.
    bytes_of: dict[fx.Node, fx.Node] = {}
    values_of: dict[fx.Node, fx.Node] = {}

    def as_bytes(node: fx.Node) -> fx.Node | None:
        if node in known:
            return node
        if node not in bytes_of and (own := levels.get(name_of(node))):
            with graph.inserting_after(node):
                bytes_of[node] = graph.call_function(_bytes, (node, own.scale, own.zero))
            known[bytes_of[node]] = own
        return bytes_of.get(node)

    def as_values(node: fx.Node) -> fx.Node:
        if node not in known:
            return node
        if node not in values_of:
            with graph.inserting_after(node):
                told = (known[node].scale, known[node].zero, node.meta["shape"][1])
                values_of[node] = graph.call_function(_values, (node, *told))
        return values_of[node]

    def replace(old: fx.Node, new: fx.Node, own: Levels | None) -> None:
        new.meta |= {"shape": old.meta["shape"], "stands for": name_of(old)}
        order[new] = order[old]
        old.replace_all_uses_with(new)
        if own:
            known[new] = own

    for node in nodes:
        if node.op in ("placeholder", "get_attr", "output") or not node.users:
            continue
        module = modules.get(node.target) if node.op == "call_module" else None
        if is_plain(module) and (read := as_bytes(node.args[0])):
            last, other, activation = what_follows(node, order, modules)
            if other is not None and (other not in known or other is entry or name_of(last) not in levels):
                last, other, activation = node, None, ("none", ())
            own = levels.get(name_of(last))
            name = f"bytes_{order[node]}"
            shape = given[node]
            convolution = ByteConvolution(module, shape, known[read], activation, own, known.get(other))
            network.add_module(name, convolution)
            with graph.inserting_after(last):
                new = graph.call_module(name, (read,) if other is None else (read, other))
            replace(last, new, own)
        elif (pool := _pool_of(node, modules)) and node.args[0] in known:
            with graph.inserting_after(node):
                new = graph.call_function(torch.ops.quantized.max_pool2d, (node.args[0], *pool))
            replace(node, new, known[node.args[0]])
        elif _is_same(node, modules):
            node.replace_all_uses_with(node.args[0])
        elif (parts := _joined(node)) and len({known.get(part) for part in parts}) == 1 and parts[0] in known:
            known[node] = known[parts[0]]
        else:
            for part in node.all_input_nodes:
                if (values := as_values(part)) is not part:
                    node.replace_input_with(part, values)
    graph.eliminate_dead_code()
    network.delete_all_unused_submodules()
    _protect_what_is_read_later(network)
    network.recompile()
    given_out = next(node for node in graph.nodes if node.op == "output").args[0]
    return known[entry], {place: known[node] for place, node in enumerate(given_out) if node in known}


class ByteConvolution(nn.Module):
    """A convolution of bytes with its weights in oneDNN's own layout, what is added to it, and its activation.

    read, target, added: the levels of what it reads, gives (None: float32) and adds. The map that is added is written
    over unless `keeps_added`.
    """

    def __init__(
        self,
        convolution: nn.Conv2d,
        shape: torch.Size,
        read: Levels,
        activation: Activation,
        target: Levels | None,
        added: Levels | None,
    ) -> None:
        super().__init__()
        weight = convolution.weight.detach().float()
        if shape[1] == 3:
            # Pixels come as four bytes (see `Levels.to_pixels`).
            weight = functional.pad(weight, (0, 0, 0, 0, 0, 1))
            shape = torch.Size((shape[0], 4, *shape[2:]))
        self.steps = weight.abs().amax((1, 2, 3)).div(127).clamp_min(torch.finfo(torch.float32).tiny)
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
        module = modules.get(node.target) if node.op == "call_module" else None
        if isinstance(module, ByteConvolution) and len(node.args) == 2:
            module.keeps_added = max(order[reader] for reader in node.args[1].users) > order[node]


def _bytes(values: torch.Tensor, scale: float, zero: int) -> torch.Tensor:
    return Levels(scale, zero).to_bytes(values)


def _values(levels: torch.Tensor, scale: float, zero: int, channels: int) -> torch.Tensor:
    """float32 (N, channels, H, W): what bytes stand for, without the channel that only fills a pixel."""
    return Levels(scale, zero).to_values(levels[:, :channels])


def _pool_of(node: fx.Node, modules: dict[str, nn.Module]) -> tuple | None:
    """What a maximum over windows is told, if that is what a node does: windows, stride, padding, dilation, ceiling."""
    module = modules.get(node.target) if node.op == "call_module" else None
    if type(module) is not nn.MaxPool2d or module.return_indices:
        return None
    pairs = (module.kernel_size, module.stride, module.padding, module.dilation)
    return (*([each] * 2 if isinstance(each, int) else list(each) for each in pairs), module.ceil_mode)


def _is_same(node: fx.Node, modules: dict[str, nn.Module]) -> bool:
    """Whether a node gives what it reads."""
    return node.op == "call_module" and type(modules.get(node.target)) in _SAME


def _joined(node: fx.Node) -> list[fx.Node]:
    """The maps that a node puts side by side, channel by channel, if that is what it does."""
    if node.target is not torch.cat:
        return []
    parts, place = [*node.args, *node.kwargs.values(), 0][:2]
    sound = isinstance(parts, list | tuple) and place == 1 and all(isinstance(part, fx.Node) for part in parts)
    return list(parts) if sound else []
