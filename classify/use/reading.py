"""Images to the features that a head was trained on, by the code that extraction runs: what to do stands in cache keys.

Nothing is cached here.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch

from extract.preprocess import Preprocessor
from extract.trunk import Output, Trunk, choose_recipe, in_halves
from extract.views import TestViews
from features.backbones import Backbone
from features.blocks import side_by_side
from features.cut import Cut
from features.device import PRECISIONS
from features.errors import UserError
from features.key import TAKEN_BEFORE, CacheKey
from features.pooling import parse_pool, pooled_shape
from features.preprocessing import EARLIER, Preprocessing
from features.ranges import is_int8
from features.request import DTYPES
from features.views import Views

_SMALLEST, _LARGEST = 8, 4096


class LayerReader:
    """The layers that some cache keys name, of one network under one preprocessing, in one precision.

    `prepare` takes uint8 images to float32 (N, 3, S, S) on the device. width: the numbers that it gives for a view of
    an image. views: how many of those in the keys an image is seen in. crop_mode: that of the images trained on, which
    a key leaves out where all of them were squares or large.
    """

    def __init__(
        self,
        backbone: Backbone,
        keys: Sequence[CacheKey],
        device: torch.device,
        crop_mode: str = EARLIER,
        views: int = 1,
    ) -> None:
        first = keys[0]
        steps = preprocessing_of(first, crop_mode)
        for key in keys:
            _require_sound(key)
        self.keys = tuple(keys)
        self.outputs = tuple(Output(key.layer, key.pool) for key in keys)
        self.cut = backbone.cut(steps.crop)
        _require_right(self.cut, keys)
        shapes = [
            pooled_shape(key.pool, self.cut.shape(node), self.cut.layout(node))
            for key, node in ((key, self.cut.resolve(key.layer)) for key in keys)
        ]
        self.width = sum(map(math.prod, shapes))
        self.prepare = Preprocessor(steps, device)
        self.views = test_views(first, views, steps.crop)
        # Images come in any number: compiling for one of them would not pay.
        recipe = choose_recipe(
            self.cut, self.outputs, images=4096, precision=first.precision, device=device, compiled="off"
        )
        self.batch = recipe.batch
        self._trunk = Trunk(self.cut, self.outputs, recipe, device)

    def maps(self, ready: torch.Tensor) -> np.ndarray:
        """The one layer's output for prepared images, pooled as its key says, in the type that it is stored in."""
        return self._layers(ready)[0]

    def features(self, ready: torch.Tensor) -> np.ndarray:
        """(N, D): the layers side by side; of several views one after the other."""
        if self.views is None:
            return side_by_side(self._layers(ready))
        views = self.views.to(ready.device)(self.prepare.pixels(ready))
        outputs = [self._layers(self.prepare.normalised(some)) for some in views.split(len(ready))]
        layers = [np.concatenate(parts) for parts in zip(*outputs, strict=True)]
        return side_by_side([layer.reshape(len(ready), self.views.count, -1) for layer in layers], self.views.count)

    def _layers(self, ready: torch.Tensor) -> list[np.ndarray]:
        count = len(ready)
        # A multiple of 8 goes through the same arithmetic as a full batch, or near enough, and costs less.
        missing = -count % 8
        if missing:
            ready = torch.cat([ready, ready.new_zeros(missing, *ready.shape[1:])])
        layers = [output[:count].float().cpu().numpy() for output in in_halves(self._trunk, ready)]
        return [layer.astype(key.dtype, copy=False) for layer, key in zip(layers, self.keys, strict=True)]


def _require_sound(key: CacheKey) -> None:
    """UserError for what no run of ours writes into a key."""
    parse_pool(key.pool)
    precisions = set(PRECISIONS) - {"auto", "int8"}
    if not (key.precision in precisions or is_int8(key.precision)) or key.dtype not in DTYPES:
        raise UserError(f"the record's features, {key.precision} stored as {key.dtype}, are not known; run it again")


def _require_right(cut: Cut, keys: Sequence[CacheKey]) -> None:
    """UserError for features that version 0.1.0 may have computed wrongly: a head of them is none of right ones."""
    if wrong := [key.layer for key in keys if key.layer in cut.overwritten and key.revision < TAKEN_BEFORE]:
        raise UserError(
            f"this was trained on features of {wrong[0]} as version 0.1.0 cached them, perhaps after a later in-place "
            "operation had written over them; run it again"
        )


def test_views(key: CacheKey, count: int, side: int) -> TestViews | None:
    """What makes so many of the views in a key; None where it is the image alone. UserError where a hand has written
    what cannot be."""
    if count == 1:
        return None
    try:
        views = Views.parse(key.views)
        if not 1 < count <= views.count:
            raise ValueError(key.views)
    except ValueError as error:
        raise UserError(f"the record's views, {count} of {key.views[:80]!r}, are not known; run it again") from error
    return TestViews(views, count, (side, side))


def preprocessing_of(key: CacheKey, crop_mode: str = EARLIER) -> Preprocessing:
    """The preprocessing in a key; UserError where a hand has written what cannot be."""
    try:
        steps = Preprocessing.parse(key.preprocessing, crop_mode)
        if len(steps.mean) != 3 or not all(_SMALLEST <= side <= _LARGEST for side in (steps.crop, steps.resize)):
            raise ValueError(key.preprocessing)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise UserError(
            f"the record's preprocessing, {key.preprocessing[:80]!r}, is not known; run it again"
        ) from error
    return steps
