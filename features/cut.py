"""The cut: a network taken apart at any node of its traced graph.

Below the cut is the trunk, above it the tail, and `tail(trunk(x))` is the network, bit for bit. Both are graphs over
the model's own modules: nothing is copied, so whoever changes a module (folding, training) copies it first.
"""

import math
from collections.abc import Sequence
from functools import cached_property

from torch import fx, nn
from torch._subclasses.fake_tensor import DataDependentOutputException

from features.backbones.family import Traits
from features.backbones.torchvision import FAMILY as TORCHVISION
from features.errors import UserError, nearest
from features.overwriting import DROPOUTS, dropped_write, kept, watched, written_over
from features.pooling import tokens_layout
from features.tracing import Traced
from features.twins import without_numbers
from features.walking import asked_of, averages_places, dependent, graph_digest, needed, operations, says_nothing_new


class Cut:
    """A model's graph, the names of its layers, and the two halves at any of them.

    A layer is named by its node (`layer1.0.relu`), by a module, which means the last node in it (`layer1`), or by one
    of `input`, `avgpool` (the pooled output, whatever this architecture calls it) and `fc` (the classifier's output).
    """

    def __init__(
        self, model: nn.Module, image_size: int = 224, headless: bool = False, traits: Traits | None = None
    ) -> None:
        self.model = model
        self.traits = TORCHVISION.traits(model) if traits is None else traits
        self.image_size = image_size
        self.headless = headless
        self._counted: dict[frozenset[str], int] = {}
        traced = Traced(model, image_size, self.traits)
        self.graph, self._names = traced.graph, traced.names
        self._nodes = {name: node for node, name in self._names.items() if node.op != "output"}
        self._order = {node: position for position, node in enumerate(self.graph.nodes)}
        self._input = next(node for node in self.graph.nodes if node.op == "placeholder")
        self._output = next(node for node in self.graph.nodes if node.op == "output").args[0]
        if not isinstance(self._output, fx.Node):
            given = f"a dict of {', '.join(map(str, self._output))}" if isinstance(self._output, dict) else "a tuple"
            raise UserError(
                f"{type(model).__name__} gives {given}; a backbone gives the classes alone: have its forward return "
                "the one tensor (N, classes), or wrap it in a module that does"
            )

    @cached_property
    def digest(self) -> str:
        """The SHA-256 of the graph."""
        return graph_digest(self.model, self.graph)

    def last_modules(self) -> tuple[str, ...]:
        """The linear layer or convolution whose output the network gives, but for its shape; () where there is none."""
        kept = (nn.Flatten, nn.Identity, nn.Dropout, nn.Softmax, nn.LogSoftmax)
        node = self._output
        while True:
            module = self.model.get_submodule(str(node.target)) if node.op == "call_module" else None
            if isinstance(module, nn.Linear | nn.Conv2d):
                return (str(node.target),)
            name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
            passes = isinstance(module, kept) if module else name in ("flatten", "reshape", "view", "squeeze")
            sources = self._sources(node)
            if not passes or len(sources) != 1:
                return ()
            node = sources[0]

    @property
    def node_names(self) -> dict[str, str]:
        """For each layer's name, what the node is called in the graphs that the cut gives."""
        return {name: node.name for name, node in self._nodes.items()}

    # ---- names -------------------------------------------------------------------------------------------------

    @cached_property
    def layers(self) -> tuple[str, ...]:
        """Every node that gives a tensor, in the order of the computation."""
        return tuple(self._names[node] for node in self._shapes if node is not self._input)

    @cached_property
    def legal(self) -> frozenset[str]:
        """The layers that a tail can start from: no later node reads anything from before them."""
        legal: set[str] = set()
        # Walking from the end, `latest` is the earliest position that anything after this node reads.
        latest = len(self._order)
        for node in reversed(self._order):
            if node.op == "output":
                latest = self._order[self._output]
                continue
            if not self._depends[node] or node not in self._needed:
                continue
            if self._order[node] <= latest and node in self._shapes:
                legal.add(self._names[node])
            reads = [self._order[source] for source in self._sources(node)]
            latest = min([latest, *reads])
        return frozenset(legal)

    def resolve(self, layer: str) -> str:
        """The node that a layer's name stands for; UserError with the nearest names where it stands for none."""
        if layer == "fc" and self.headless:
            raise UserError("these weights came without a classifier, so there are no 'fc' features; take 'avgpool'")
        if layer == "input":
            return self._names[self._input]
        if layer in self._nodes and self._nodes[layer] in self._shapes:
            return self._canonical(layer)
        if layer == "avgpool":
            return self._names[self._pooled]
        if layer == "fc":
            return self._names[self._output]
        inside = [node for node in self._shapes if self._names[node].startswith(f"{layer}.")]
        if inside:
            used = [node for node in inside if node in self._needed]
            return self._canonical(self._names[(used or inside)[-1]])
        names = dict.fromkeys([*self.stages, *self.layers])
        near = nearest(layer, names)
        hint = f"did you mean {' or '.join(near)}?" if near else f"stages are {', '.join(self.stages)};"
        raise UserError(f"there is no layer {layer!r}; {hint} extract --list-layers has all")

    def _canonical(self, name: str) -> str:
        """Flattening a pooled output changes no number: both are called by the pooled node."""
        return self._names[self._pooled] if self._nodes[name] is self._flat else name

    def pooled_twin(self, layer: str) -> str:
        """The layer whose average-pooled features equal this one's: `avgpool` for the maps that it averages."""
        pooled, node = self._pooled, self._nodes[layer]
        if self._shapes[pooled][2:] not in ((), (1, 1)) or self.layout(layer) != "map":
            return layer
        return (
            self._names[pooled] if node is self._sources(pooled)[0] and averages_places(self.model, pooled) else layer
        )

    @cached_property
    def stages(self) -> tuple[str, ...]:
        """The names that `all` stands for, shallow to deep, `avgpool` and `fc` last.

        Some networks declare theirs; any other's are found from the graph: the last block at each resolution (a network
        without blocks: the last legal cut), and where the resolution never changes, as in transformers, four blocks
        at even distances.
        """
        last = [] if self.headless else ["fc"]
        maps = self._legal_before_pooling
        there = [
            stage for stage in self.traits.stages if any(f"{name}.".startswith(f"{stage}.") for name in self.layers)
        ]
        declared = [stage for stage in there if self.resolve(stage) in maps]
        if declared and len(declared) == len(self.traits.stages):
            return (*declared, "avgpool", *last)
        if not maps:
            return ("avgpool", *last)
        candidates = self.blocks if len(self.blocks) >= 4 else maps
        stages: dict[float, str] = {}
        side = math.inf
        for layer in candidates:
            # 149 and 147 pixels are one resolution: what counts is a halving, not a border that was not padded.
            if self._side(layer) < 0.75 * side:
                side = self._side(layer)
            stages[side] = layer
        if len(stages) < 3 and len(self.blocks) >= 4:
            chosen = [self.blocks[round((quarter + 1) * len(self.blocks) / 4) - 1] for quarter in range(4)]
        else:
            chosen = list(stages.values())
            if self._side(maps[-1]) == side:
                chosen[-1] = maps[-1]
        return (*chosen, "avgpool", *last)

    @property
    def inner_stages(self) -> tuple[str, ...]:
        """The stages of the body of the network: without the pooled output and the classifier."""
        return tuple(stage for stage in self.stages if stage not in ("avgpool", "fc"))

    @cached_property
    def blocks(self) -> tuple[str, ...]:
        """The ends of the repeated blocks (residual, transformer, dense); the activations where there are none."""
        if self._repeated:
            return tuple(nodes[-1] for nodes in self._repeated)
        # A plain chain: each activation ends what a convolution began.
        kinds = (nn.ReLU, nn.ReLU6, nn.SiLU, nn.GELU, nn.Hardswish)
        active = {name for name, module in self.model.named_modules() if isinstance(module, kinds)}
        return tuple(name for name in self._legal_before_pooling if name in active)

    @property
    def below_blocks(self) -> str:
        """The layer that the first of the blocks reads: the output of the stem, or the images themselves."""
        if not self._repeated:
            return self._names[self._input]
        start = self._order[self._nodes[self._repeated[0][0]]]
        below = [name for name in self._legal_before_pooling if self._order[self._nodes[name]] < start]
        return below[-1] if below else self._names[self._input]

    @cached_property
    def _repeated(self) -> tuple[tuple[str, ...], ...]:
        """For each block whose kind of module is repeated, the names of its nodes, if it ends where one can cut."""
        kinds = [type(module) for module in self.model.modules()]
        outer: list[str] = []
        for path, module in self.model.named_modules():
            container = type(module) in (nn.Sequential, nn.ModuleList, nn.ModuleDict)
            if not path or container or not list(module.children()) or any(path.startswith(f"{o}.") for o in outer):
                continue
            if kinds.count(type(module)) > 1:
                outer.append(path)
        before, blocks = set(self._legal_before_pooling), []
        used = [name for name, node in self._nodes.items() if node in self._needed]
        for path in outer:
            inside = tuple(name for name in used if name == path or name.startswith(f"{path}."))
            if inside and inside[-1] in before:
                blocks.append(inside)
        return tuple(blocks)

    # ---- shapes ------------------------------------------------------------------------------------------------

    def shape(self, layer: str) -> tuple[int, ...]:
        """The shape of one image's output at a layer."""
        return tuple(self._shapes[self._nodes[layer]][1:])

    def layout(self, layer: str) -> str:
        """How a layer's output is laid out: 'flat', 'map' (channels first), 'map last', or tokens in the words of
        `features.pooling`."""
        shape = self._shapes[self._nodes[layer]]
        if len(shape) == 4:
            # Images are square, so a map's two equal sides tell where the channels stand.
            return "map last" if shape[1] == shape[2] != shape[3] else "map"
        if len(shape) == 3 and self.traits.prefix_tokens is not None:
            # Not in all layers: a class token may come late.
            places = shape[1] - (prefix := self.traits.prefix_tokens)
            is_there = prefix > 0 and places > 0 and math.isqrt(places) ** 2 == places
            return tokens_layout(prefix, self.traits.has_class_token) if is_there else "tokens"
        if len(shape) == 3:
            return "class tokens" if math.isqrt(shape[1] - 1) ** 2 == shape[1] - 1 else "tokens"
        return "flat" if len(shape) == 2 else "other"

    @cached_property
    def overwritten(self) -> frozenset[str]:
        """The layers whose output a later operation writes over: no stage is one. Only training drops anything out."""
        modules = dict(self.model.named_modules())
        writers = [
            node
            for node in self.graph.nodes
            if node.op != "call_module" or not isinstance(modules.get(node.target), DROPOUTS)
        ]
        return frozenset(self._names[node] for node in self._shapes if written_over(node, writers))

    def flops(self, layers: Sequence[str]) -> int:
        """Floating-point operations for one image up to the deepest of `layers`, a multiply-add counted as two."""
        if (asked := frozenset(layers)) not in self._counted:
            self._counted[asked] = operations(without_numbers(self.trunk(layers)), self.image_size)
        return self._counted[asked]

    # ---- the two halves ----------------------------------------------------------------------------------------

    def trunk(self, layers: Sequence[str]) -> fx.GraphModule:
        """The network up to the deepest of `layers` (names of nodes), giving a tuple of their outputs in this order."""
        self._require_watched()
        wanted = [self._nodes[layer] for layer in layers]
        graph = fx.Graph()
        copied: dict[fx.Node, fx.Node] = {}
        for node in needed(self.graph, [*wanted, self._input]):
            copied[node] = graph.node_copy(node, copied.__getitem__)
        graph.output(tuple(kept(copied[node]) for node in wanted))
        return self._module(graph)

    def tail(self, layer: str) -> fx.GraphModule:
        """The network above `layer`, which takes that layer's output, unpooled, and gives the classes."""
        cut = self._nodes[layer]
        if layer not in self.legal:
            near = [name for name in self.layers if name in self.legal]
            near = sorted(near, key=lambda name: abs(self._order[self._nodes[name]] - self._order[cut]))[:3]
            raise UserError(
                f"the network cannot be cut at {layer!r}: later layers read what comes before it; cut at one of "
                f"{', '.join(near)}"
            )
        return self._above(cut, self._output)

    def between(self, lower: str, upper: str) -> fx.GraphModule:
        """The part of the network that turns the output of `lower` into that of `upper`, two layers that it can be cut
        at: run one after the other, such parts are the network."""
        for layer in (lower, upper):
            if layer not in self.legal:
                raise UserError(f"the network cannot be cut at {layer!r}: later layers read what comes before it")
        return self._above(self._nodes[lower], self._nodes[upper])

    def _above(self, cut: fx.Node, end: fx.Node) -> fx.GraphModule:
        self._require_watched()
        graph, inner = fx.Graph(), needed(self.graph, [end], stop=cut)
        copied = {cut: graph.placeholder("features")}
        if written_over(cut, inner):
            # What is given belongs to whoever gives it.
            copied[cut] = graph.call_method("clone", (copied[cut],))
        for node in inner:
            if node is cut:
                continue
            is_asked = says_nothing_new(node)
            copied[node] = asked_of(node, copied[cut]) if is_asked else graph.node_copy(node, copied.__getitem__)
        graph.output(copied[end])
        return self._module(graph)

    def _module(self, graph: fx.Graph) -> fx.GraphModule:
        graph.lint()
        return fx.GraphModule(self.model, graph).train(self.model.training)

    # ---- the graph ---------------------------------------------------------------------------------------------

    @cached_property
    def _depends(self) -> dict[fx.Node, bool]:
        """Which nodes depend on the pixels: constants and the number of images can be had on either side of a cut."""
        return dependent(self.graph, self._input)

    @cached_property
    def _needed(self) -> frozenset[fx.Node]:
        """What the network's output is computed from: some of its code may be for others."""
        return frozenset(needed(self.graph, [self._output]))

    def _require_watched(self) -> None:
        """See to it that the nodes know what writes over them."""
        _ = self._shapes

    def _sources(self, node: fx.Node) -> list[fx.Node]:
        return [source for source in node.all_input_nodes if self._depends[source]]

    @cached_property
    def _shapes(self) -> dict[fx.Node, tuple[int, ...]]:
        """The shape of every tensor, for a batch of two, worked out without computing anything."""
        try:
            shapes = watched(self.model, self.graph, (2, 3, self.image_size, self.image_size))
        except (RuntimeError, AssertionError, ValueError, DataDependentOutputException) as error:
            reason = str(error).strip().splitlines()[0]
            name, size = type(self.model).__name__, self.image_size
            message = f"{name} does not take images of {size} x {size} ({reason}); give another --image-size"
            raise UserError(message) from error
        if writer := dropped_write(self.graph, self._needed):
            raise UserError(
                f"{type(self.model).__name__} changes a tensor in place and drops the result "
                f"('{self._names[writer]}'), which no graph can hold: use what it gives, as in x = self.relu(x)"
            )
        return {node: shape for node, shape in shapes.items() if self._depends[node]}

    @cached_property
    def _flat(self) -> fx.Node:
        """The first legal node whose output has no place in the image left: one row of numbers per image."""
        legal = [node for node in self._shapes if self._names[node] in self.legal]
        flat = next((node for node in legal if len(self._shapes[node]) == 2), None)
        if flat is None or len(self._shapes[self._output]) != 2:
            shape = tuple(self._shapes[self._output][1:])
            raise UserError(
                f"{type(self.model).__name__} gives {shape} for an image, not one row of numbers; end it with pooling: "
                "nn.Sequential(network, nn.AdaptiveAvgPool2d(1), nn.Flatten()), or give its classifier too"
            )
        if read := [source for node in self._classifying for source in self._sources(node)]:
            # Above the pooled output stand a classifier that is a convolution, or several side by side.
            before = [node for node in legal if self._order[node] <= min(self._order[node] for node in read)]
            if len(self._classifying) > 1 and self._order[before[-1]] < self._order[flat]:
                return before[-1]
            if before[-1] is read[0] and self._shapes[read[0]][2:] == (1, 1):
                return read[0]
        return flat

    @property
    def _classifying(self) -> list[fx.Node]:
        """The calls of the modules that are declared to give the classes."""
        return [
            node for node in self.graph.nodes if node.op == "call_module" and node.target in self.traits.classifiers
        ]

    @cached_property
    def _pooled(self) -> fx.Node:
        """The pooled output: what averages over the places before everything is flattened.

        Without such a node it is what is flattened, or the flat node itself where that one chooses (a class token).
        """
        node, numbers = self._flat, math.prod(self._shapes[self._flat])
        if len(self._shapes[node]) == 3:
            return node
        passed = [node]
        while not averages_places(self.model, node) and len(self._sources(node)) == 1:
            node = self._sources(node)[0]
            if math.prod(self._shapes.get(node, ())) != numbers:
                break
            passed.append(node)
        averaging = [node for node in passed if averages_places(self.model, node)]
        return averaging[0] if averaging else passed[min(1, len(passed) - 1)]

    @cached_property
    def _legal_before_pooling(self) -> tuple[str, ...]:
        end = self._order[self._pooled]
        inner = [node for node in self._shapes if node is not self._input and self._order[node] < end]
        return tuple(self._names[node] for node in inner if self._names[node] in self.legal)

    def _side(self, layer: str) -> float:
        """The side of a layer's map in places; for tokens that of the square that they would fill."""
        shape, layout = self.shape(layer), self.layout(layer)
        places = {"map": shape[1:], "map last": shape[:2]}.get(layout, shape[:1])
        return math.sqrt(math.prod(places))
