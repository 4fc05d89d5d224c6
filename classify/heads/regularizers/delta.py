"""DELTA: feature maps are pulled towards the source network's, channel by channel (Li et al. 2019)."""

import copy

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from classify.heads.network.graph import observed, set_linear
from classify.heads.regularizers.protocol import Context, Regularizer, Step

ATTENTION_IMAGES = 32


class Delta(Regularizer):
    """strength * sum over layers and channels of W * |FM(w, x) - FM(w0, x)|^2, the mean over the batch's images.

    Li et al., 'DELTA: deep learning transfer using feature map with attention for convolutional networks', ICLR 2019,
    equations 3 to 5. layers: names of layers above the cut, the stages where none is given. Without attention every W
    is 1. With it, W is the softmax, over a layer's channels, of the rise in loss when the channel is zeroed, times
    their number, so that its mean is 1 as well and a strength means the same; the loss is that of the source features
    under a fitted logistic regression, on 32 training images.
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
    """(C,) from the rise in loss (C,) when each channel is zeroed: the softmax times C, so that the mean is 1."""
    return rises.softmax(0) * len(rises)


def _rises(context: Context, layers: dict[str, str], rows: np.ndarray) -> list[torch.Tensor]:
    """For each layer, how much the loss rises when each of its channels is zeroed, (C,)."""
    network = context.network
    eye = copy.deepcopy(network.tail).eval().requires_grad_(False)
    see = observed(eye, layers.values()).eval()
    weight, bias = context.probe()
    risen = []
    batches = list(context.batches(rows))
    for position, layer in enumerate(layers):
        node = network.cut.resolve(layer)
        rest = copy.deepcopy(network.cut.tail(node)).eval().requires_grad_(False)
        set_linear(rest.get_submodule(network.classifier), weight, bias)
        channel = 1 if network.cut.layout(node) in ("map", "flat") else -1
        with torch.no_grad():
            maps = [(see(inputs)[1][position], codes) for inputs, codes in batches]
            base = _loss(rest, maps)
            rises = []
            for number in range(maps[0][0].shape[channel]):
                zeroed = [(_without(output, channel, number), codes) for output, codes in maps]
                rises.append(_loss(rest, zeroed) - base)
        risen.append(torch.tensor(rises, device=maps[0][0].device))
    return risen


def _without(output: torch.Tensor, channel: int, number: int) -> torch.Tensor:
    copied = output.clone()
    copied.select(channel, number).zero_()
    return copied


def _loss(rest: nn.Module, maps: list[tuple[torch.Tensor, torch.Tensor]]) -> float:
    total = sum(cross_entropy(rest(output.clone()), codes, reduction="sum") for output, codes in maps)
    return float(total) / sum(len(codes) for _, codes in maps)
