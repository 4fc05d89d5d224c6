"""Where a network looked: what each place of its last map adds to a decision, and that laid over the image.

The decision is the margin of one class over another: the difference of their log-probabilities, or of their scores for
a head without any. A place's part in it is what stands there, times the margin's gradient on the way from an empty map
(integrated gradients, Sundararajan et al. 2017), summed over the channels; what is then missing of the margin, which is
that of the empty map, is shared equally by all places, so that their parts add up to it. With a linear head on an
averaged map (class activation maps, Zhou et al. 2016) that is the intercept, and a place's part, times the number of
places, is exactly the margin of an image that looks everywhere as there.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import fx, nn

from classify.heads.network.classifier import NetworkClassifier
from classify.heads.network.trained import TrainedNetwork
from classify.measure.results import SavedResult
from classify.use.explanation import Explanation
from classify.use.modules import head_module
from classify.use.predicting import likeliest
from classify.use.saved import SavedModel
from classify.use.whole import normalisation
from extract.pooling import pool_output
from features.cut import Cut
from features.errors import UserError
from features.pooling import prefix_tokens
from features.twins import twin

_STEPS = 16  # on the way from an empty map


class Explainer:
    """Explains the decisions of one model: a head on features, or a network trained from scratch or fine-tuned.

    It computes in float32 on the processor, whatever the precision of the model. maps: the layers whose places are
    told, and how many these are, once something has been explained. UserError for a head that has no form as a network,
    and for a network that has no maps.
    """

    def __init__(self, model: SavedModel) -> None:
        self._normalisation, self._classes = normalisation(model), model.classes
        self._decide: nn.Module | None = None
        if isinstance(model.head, NetworkClassifier):
            self._cut, taken = model.head.network_.cut, [("fc", "none")]
        elif isinstance(model.head, TrainedNetwork) or model.reader is None:
            name = model.saved.result.config["head"]
            raise UserError(
                f"what {name} decides is not explained; a head on features is, and finetune and scratch are"
            )
        else:
            self._cut = model.reader.cut
            taken = [(output.node, output.pool) for output in model.reader.outputs]
            self._decide = head_module(model.head).double()
        self._parts = [_Part(self._cut, self._cut.resolve(layer), pool) for layer, pool in taken]
        self._trunk = self._below()

    @property
    def maps(self) -> tuple[str, ...]:
        """Of each layer that the model reads, the map whose places are told: 'layer4 (7 x 7)'."""
        stages = {self._cut.resolve(stage): stage for stage in self._cut.stages}
        return tuple(f"{stages.get(part.lower, part.lower)} ({part.side} x {part.side})" for part in self._parts)

    def explain(self, ready: torch.Tensor, outputs: Sequence[Sequence[int]]) -> list[Explanation]:
        """Of prepared images (N, 3, S, S): for each, why the first of two outputs, and not the second."""
        classes, others = torch.tensor(outputs).T
        ready = ready.detach().float().cpu()
        mean, std = (value.view(1, -1, 1, 1) for value in self._normalisation)
        pixels = (ready * std + mean).round().clamp(0, 255).byte().expand(-1, 3, -1, -1).permute(0, 2, 3, 1).numpy()
        while True:
            margins, places = self._explained(ready, classes, others)
            # Where a class token is taken, no place above the last attention matters: they are told below it.
            pairs = zip(self._parts, places, strict=True)
            blind = [part for part, activation in pairs if part.has_tokens and not activation.count_nonzero()]
            if not sum(part.go_down() for part in blind):
                break
            self._trunk = self._below()
        largest = max(grid.shape[1] for grid in places)
        whole = torch.stack([_brought_to(grid, largest) for grid in places]).sum(0)
        whole += ((margins - whole.sum((1, 2))) / largest**2).view(-1, 1, 1)
        names = [self._classes[other] for other in others.tolist()]
        return [Explanation(*parts) for parts in zip(names, margins.tolist(), whole.numpy(), pixels, strict=True)]

    def _explained(
        self, ready: torch.Tensor, classes: torch.Tensor, others: torch.Tensor
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Margins (N,), and of each part the places (N, H, W), the margin of the empty map left out."""
        with torch.no_grad():
            maps = self._trunk(ready)
            margins = self._margins(maps, classes, others)
        empty = [part.empty(activation) for part, activation in zip(self._parts, maps, strict=True)]
        slopes = [torch.zeros_like(activation) for activation in maps]
        for step in range(_STEPS):
            share = (step + 0.5) / _STEPS
            way = [(start + share * (end - start)).requires_grad_() for start, end in zip(empty, maps, strict=True)]
            with torch.enable_grad():
                there = self._margins(way, classes, others).sum()
            if not there.requires_grad:
                raise UserError("this head decides by votes, which no single place of an image moves; train another")
            for slope, activation in zip(slopes, torch.autograd.grad(there, way), strict=True):
                slope += activation / _STEPS
        parts = zip(self._parts, maps, empty, slopes, strict=True)
        return margins, [part.places((activation - start) * slope) for part, activation, start, slope in parts]

    def _margins(self, maps: Sequence[torch.Tensor], classes: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
        layers = [part.above(activation).flatten(1) for part, activation in zip(self._parts, maps, strict=True)]
        features = torch.cat(layers, 1).double()
        values = features if self._decide is None else _values(self._decide, features)
        rows = torch.arange(len(values))
        return values[rows, classes] - values[rows, others]

    def _below(self) -> nn.Module:
        return _plain(self._cut.trunk([part.lower for part in self._parts]))


def explain(model: SavedModel, images: np.ndarray | Sequence[Any]) -> list[Explanation]:
    """Why a model decides as it does about images.

    Parameters
    ----------
    model : SavedModel
        A head on features, or a network trained from scratch or fine-tuned.
    images : ndarray (N, H, W) or (N, H, W, 3), or list of images and paths
        As `SavedModel.predict` takes them.

    Returns
    -------
    list of Explanation
        Of each image: why its class, and not the next likeliest; `picture()` is an image of it.

    Raises
    ------
    UserError
        For what is no image, and for a model whose decisions are not explained.
    """
    explainer, explanations = Explainer(model), []
    for ready, outputs in model.through(images):
        orders = [likeliest(outputs, row)[:2] for row in range(len(ready))]
        explanations += explainer.explain(ready, orders)
    return explanations


def explain_between(
    saved: SavedResult, images: Sequence[Any], pairs: Sequence[tuple[str, str]], weights: str | None = None
) -> list[Explanation]:
    """Of each image (uint8, of any size), why a result's model has the first of two classes and not the second.

    weights: where those of its frozen network are. UserError as of `explain`, and for a class that the model has not.
    """
    model = SavedModel.open(saved, weights=weights, device="cpu")
    explainer, names = Explainer(model), list(model.classes)
    if unknown := {name for pair in pairs for name in pair} - set(names):
        raise UserError(f"{saved.path}: its model has no class {sorted(unknown)[0]}")
    explanations: list[Explanation] = []
    for ready, _ in model.through(images):
        own = pairs[len(explanations) : len(explanations) + len(ready)]
        explanations += explainer.explain(ready, [[names.index(name) for name in pair] for pair in own])
    return explanations


class _Part:
    """One layer that a model reads, and the last map at or below it.

    lower: the layer of the map, which everything above it reads alone.
    """

    def __init__(self, cut: Cut, layer: str, pool: str) -> None:
        self._cut, self._layer, self._pool = cut, layer, pool
        # Of a layer inside a block nothing below is all that it reads.
        below = cut.layers[: cut.layers.index(layer) + 1] if layer in cut.legal else (layer,)
        self._left = [name for name in below if name in cut.legal or name == layer if _side(cut, name) > 1]
        if not self._left:
            raise UserError(f"there is no map with places at or below {layer}, so that none can be told")
        self.go_down()

    def go_down(self) -> bool:
        """Take the next lower map, if there is one."""
        if not self._left:
            return False
        self.lower = self._left.pop()
        self.layout, self.side = self._cut.layout(self.lower), _side(self._cut, self.lower)
        own = self.lower == self._layer
        self._between = None if own else _plain(self._cut.between(self.lower, self._layer))
        return True

    @property
    def has_tokens(self) -> bool:
        """Whether the map is one of tokens."""
        return self.layout not in ("map", "map last")

    def above(self, activation: torch.Tensor) -> torch.Tensor:
        """The layer's pooled output, of the map's."""
        output = activation if self._between is None else self._between(activation)
        return pool_output(output, self._pool, self._cut.layout(self._layer))

    def empty(self, activation: torch.Tensor) -> torch.Tensor:
        """The map without anything to see: zeros, which are what is left where nothing was found, or of tokens, whose
        length says nothing (each is normalised), their average everywhere."""
        if not self.has_tokens:
            return torch.zeros_like(activation)
        prefix = prefix_tokens(self.layout)
        average = activation[:, prefix:].mean(1, keepdim=True).expand_as(activation[:, prefix:])
        return torch.cat([activation[:, :prefix], average], 1)

    def places(self, products: torch.Tensor) -> torch.Tensor:
        """The sum over the channels at each place, (N, H, W)."""
        if not self.has_tokens:
            return products.sum(1 if self.layout == "map" else 3)
        return products[:, prefix_tokens(self.layout) :].sum(2).unflatten(1, (self.side, self.side))


def _side(cut: Cut, layer: str) -> int:
    """How many places a layer has in a row; 0 where they are in no square."""
    shape, layout = cut.shape(layer), cut.layout(layer)
    if layout in ("map", "map last"):
        return shape[1] if layout == "map" else shape[0]
    if layout in ("flat", "other"):
        return 0
    count = shape[0] - prefix_tokens(layout)
    return side if (side := math.isqrt(max(count, 0))) ** 2 == count else 0


def _plain(graph: fx.GraphModule) -> nn.Module:
    """A copy that computes in float32 on the processor."""
    return twin(graph).cpu().float().eval()


def _brought_to(places: torch.Tensor, side: int) -> torch.Tensor:
    """The same parts on a grid of so many places in a row, with the same sum."""
    larger = nn.functional.interpolate(places[:, None], (side, side), mode="bilinear", align_corners=False)[:, 0]
    return larger * (places.shape[1] / side) ** 2


def _values(decide: nn.Module, features: torch.Tensor) -> torch.Tensor:
    """What margins are differences of: log-probabilities, or the scores of a head that has none."""
    _, scores, probabilities, _ = decide(features)
    return scores if probabilities is None else probabilities.clamp_min(torch.finfo(torch.float64).tiny).log()
