"""DELTA: feature maps are pulled towards the source network's, channel by channel (Li et al. 2019)."""

import copy
from collections.abc import Iterator

import numpy as np
import torch
from torch import fx, nn
from torch.nn.functional import cross_entropy

from classify.heads.network.graph import interrupted, observed, resumed, set_linear
from classify.heads.regularizers.protocol import Context, Regularizer, Step

ATTENTION_IMAGES = 32
TEMPERATURE = 5.0  # what the authors' code divides standardised rises by


class Delta(Regularizer):
    """strength * sum over layers and channels of W * |FM(w, x) - FM(w0, x)|^2, the mean over the batch's images.

    Li et al., 'DELTA: deep learning transfer using feature map with attention for convolutional networks', ICLR 2019,
    equations 3 to 5. layers: names of layers above the cut, the stages where none is given. Without attention every W
    is 1. With it, a filter of the last convolution (or linear layer) in front of the map is zeroed, one for each
    channel, and W is the softmax over the channels of the rises in loss, times their number, so that its mean is 1 as
    well and a strength means the same. The rises are standardised and divided by 5 first, as in the authors' code
    (github.com/lixingjian/DELTA): as they are, they are so small that every W is about 1. Where no layer has a filter
    for each channel (concatenated maps), the channel of the map itself is zeroed. The loss is that of the source
    features under a fitted logistic regression, on 32 training images.
    """

    ON_TRANSFERRED = True

    @classmethod
    def check(cls, context: Context, *strengths: float, layers: tuple[str, ...] = (), attention: bool = False) -> None:
        super().check(context)
        for layer in layers or context.stages_above():
            context.node_above(layer)

    def __init__(
        self, context: Context, strength: float, layers: tuple[str, ...] = (), attention: bool = False
    ) -> None:
        super().__init__()
        chosen = {layer: context.node_above(layer) for layer in layers or context.stages_above()}
        self.observes = tuple(chosen.values())
        network = context.network
        self.layouts = tuple(network.cut.layout(network.cut.resolve(layer)) for layer in chosen)
        # Lists hide the copy from nn.Module: it neither trains nor is saved.
        frozen = copy.deepcopy(network.tail).eval().requires_grad_(False)
        self.source = [observed(frozen, self.observes).eval()]
        self.autocast = context.autocast
        self.strength = strength
        self.weights: list[torch.Tensor | float] = [1.0] * len(chosen)
        self.described = f"{context.name}: feature maps at {', '.join(chosen)}"
        if attention:
            rows = context.some_rows(ATTENTION_IMAGES)
            self.weights = [channel_weights(rise) for rise in _rises(context, chosen, rows)]
            self.described += f", channel weights from {len(rows)} training images"

    def forward(self, step: Step) -> torch.Tensor:
        with torch.no_grad(), self.autocast():
            _, originals = self.source[0](step.inputs)
        terms = [
            (weight * squared_distances(now, original, layout)).sum()
            for weight, now, original, layout in zip(self.weights, step.seen, originals, self.layouts, strict=True)
        ]
        return self.strength * torch.stack(terms).sum()


def squared_distances(now: torch.Tensor, original: torch.Tensor, layout: str) -> torch.Tensor:
    """(C,): the squared distance of each channel's map, summed over its places, the mean over the images."""
    if now.dtype in (torch.bfloat16, torch.float16):
        now, original = now.float(), original.float()
    channel = 1 if layout in ("map", "flat") else now.ndim - 1
    places = [axis for axis in range(1, now.ndim) if axis != channel]
    squares = (now - original).square()
    return (squares.sum(places) if places else squares).mean(0)


def channel_weights(rises: torch.Tensor) -> torch.Tensor:
    """(C,) from the rise in loss (C,) without each channel's filter: softmax((rise - mean) / sd / 5) times C, so that
    the mean is 1; all 1 where the rises are alike."""
    centred = rises - rises.mean()
    deviation = centred.square().mean().sqrt()
    if deviation > 0:
        centred = centred / deviation
    return (centred / TEMPERATURE).softmax(0) * len(rises)


def _rises(context: Context, layers: dict[str, str], rows: np.ndarray) -> list[torch.Tensor]:
    """For each layer, how much the loss rises when each of its channels' filters is zeroed, (C,)."""
    network = context.network
    tail = copy.deepcopy(network.tail).eval().requires_grad_(False)
    set_linear(tail.get_submodule(network.classifier), *context.probe())
    nodes = {node.name: node for node in tail.graph.nodes}
    batches = list(context.batches(rows))
    dtype = torch.promote_types(batches[0][0].dtype, torch.float32)
    risen = []
    for layer, name in layers.items():
        place = network.cut.resolve(layer)
        shape, first = network.cut.shape(place), network.cut.layout(place) in ("map", "flat")
        channels = shape[0] if first else shape[-1]
        node = last_filters(tail, nodes[name], channels) or nodes[name]
        if node is not nodes[name]:
            # A convolution has its channels first whatever becomes of them, a linear layer has them last.
            first = isinstance(tail.get_submodule(str(node.target)), nn.Conv2d)
        losses = torch.zeros(channels + 1, dtype=torch.float64)
        with torch.no_grad():
            for inputs, codes in batches:
                values = interrupted(tail, node, inputs)
                for number, output in enumerate((values[node], *_each_without_one(values[node], 1 if first else -1))):
                    logits = resumed(tail, values, {node: output}).cpu().double()
                    losses[number] += cross_entropy(logits, codes.cpu(), reduction="sum")
        rises = (losses[1:] - losses[0]) / len(rows)
        risen.append(rises.to(dtype).to(batches[0][0].device))
    return risen


def last_filters(tail: fx.GraphModule, node: fx.Node, channels: int) -> fx.Node | None:
    """The convolution or linear layer in front of a node that has one filter for each of its channels.

    None where the nearest has another number of them, or lies below the cut. Of two ways back, one of them a shortcut,
    the longer is taken.
    """
    depths: dict[fx.Node, int] = {}
    for earlier in tail.graph.nodes:
        depths[earlier] = 1 + max((depths[source] for source in earlier.all_input_nodes), default=0)
    while node.all_input_nodes:
        part = tail.get_submodule(str(node.target)) if node.op == "call_module" else None
        if isinstance(part, nn.Conv2d | nn.Linear):
            return node if channels in (getattr(part, "out_channels", 0), getattr(part, "out_features", 0)) else None
        node = max(node.all_input_nodes, key=depths.__getitem__)
    return None


def _each_without_one(output: torch.Tensor, axis: int) -> Iterator[torch.Tensor]:
    """Copies of an output, in each of which another channel is zero."""
    for number in range(output.shape[axis]):
        copied = output.clone()
        copied.select(axis, number).zero_()
        yield copied
