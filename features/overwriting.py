"""Operations that write their result over what they read, as in-place activations do: what else is to be had of a
network, or was given to a part of it, is copied before them.

What writes over what is seen by running the graph on tensors without data, whose versions torch counts. It stands in
the nodes' `meta`, and so goes with them into every graph that is made of them.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from typing import Any

import torch
from torch import fx, nn

from features.shapes import found_once
from features.twins import without_numbers

DROPOUTS = nn.modules.dropout._DropoutNd
_PLACE, _WRITERS = "place", "written over at"
_GIVES_NOTHING_NEW = ("get_attr", "output")


def watched(model: nn.Module, graph: fx.Graph, images: Sequence[int]) -> dict[fx.Node, tuple[int, ...]]:
    """The shape of every tensor in a model's graph, given images (N, C, H, W); what writes over what is noted in the
    nodes. Nothing is computed. Raises what torch raises where the model does not take such images."""
    nodes = list(graph.nodes)

    def watch() -> list[Any]:
        # Whoever asks may do so in inference mode, in which torch counts no versions.
        with torch.inference_mode(False), torch.no_grad(), torch.device("meta"):
            watching = _Watch(without_numbers(model), graph)
            watching.run(torch.empty(*images))
        return [[watching.shapes.get(node), sorted(watching.writers[node])] for node in nodes]

    shapes: dict[fx.Node, tuple[int, ...]] = {}
    outcomes = found_once("shapes, and what writes over them,", model, graph, images, watch)
    for place, (node, (shape, writers)) in enumerate(zip(nodes, outcomes, strict=True)):
        node.meta |= {_PLACE: place, _WRITERS: set(writers)}
        if shape is not None and node.op not in _GIVES_NOTHING_NEW:
            shapes[node] = tuple(shape)
    return shapes


class OnMeta(fx.Interpreter):
    """Runs a graph on tensors of the device 'meta', noting the shapes of its nodes."""

    def __init__(self, model: nn.Module, graph: fx.Graph) -> None:
        super().__init__(model, graph=graph)
        self.shapes: dict[fx.Node, tuple[int, ...]] = {}

    def fetch_attr(self, target: str) -> Any:
        """A parameter or buffer; tensors that are neither, as tracing leaves them, stayed where they were."""
        value = super().fetch_attr(target)
        return value.to("meta") if isinstance(value, torch.Tensor) else value

    def run_node(self, node: fx.Node) -> Any:
        """Run it, and note its shape where it is a tensor."""
        value = super().run_node(node)
        if isinstance(value, torch.Tensor):
            self.shapes[node] = tuple(value.shape)
        return value


class _Watch(OnMeta):
    """Notes as well, of each node, the places of those that write over it.

    Dropout is watched as in training: else it writes over nothing.
    """

    def __init__(self, model: nn.Module, graph: fx.Graph) -> None:
        super().__init__(model, graph)
        for module in model.modules():
            if isinstance(module, DROPOUTS):
                module.train()
        self._values: dict[fx.Node, torch.Tensor] = {}
        self._sharing: defaultdict[int, list[fx.Node]] = defaultdict(list)
        self.writers: dict[fx.Node, set[int]] = {node: set() for node in graph.nodes}
        self._places = {node: place for place, node in enumerate(graph.nodes)}

    def run_node(self, node: fx.Node) -> Any:
        """Run it, and compare the versions of all that it is given."""
        read = [self._values[source] for source in node.all_input_nodes if source in self._values]
        versions = [tensor._version for tensor in read]
        value = super().run_node(node)
        for tensor, version in zip(read, versions, strict=True):
            if tensor._version != version:
                for other in self._sharing[_storage(tensor)]:
                    self.writers[other].add(self._places[node])
        if isinstance(value, torch.Tensor) and node.op not in _GIVES_NOTHING_NEW:
            # Kept, so that no other tensor gets its storage.
            self._values[node] = value
            self._sharing[_storage(value)].append(node)
        return value


def written_over(node: fx.Node, by: Iterable[fx.Node]) -> bool:
    """Whether one of these nodes writes over the output of `node`, after it is there."""
    return not node.meta.get(_WRITERS, set()).isdisjoint(other.meta.get(_PLACE) for other in by)


def dropped_write(graph: fx.Graph, needed: Collection[fx.Node]) -> fx.Node | None:
    """A node that writes over what is read after it, and whose own result nobody uses: no path leads to it from the
    output, so that no part of the network would do it. needed: what the output is computed from."""
    for writer in graph.nodes:
        if writer in needed or writer.op == "output":
            continue
        written = [node for node in needed if written_over(node, [writer])]
        readers = [user for node in written for user in node.users if user.op == "output" or user in needed]
        if any(reader.meta[_PLACE] > writer.meta[_PLACE] for reader in readers):
            return writer
    return None


def kept(node: fx.Node) -> fx.Node:
    """What to give away as a node's output: itself, or a copy where another node of its graph writes over it."""
    graph = node.graph
    if not written_over(node, graph.nodes):
        return node
    with graph.inserting_after(node):
        return graph.call_method("clone", (node,))


def _storage(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage()._cdata
