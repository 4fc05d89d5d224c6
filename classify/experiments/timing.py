"""How long one prediction takes, and the frozen part for one image: what a head on cached features costs beside itself.

The latter is measured as extraction computes it, once for each network, layer, image size and machine, and remembered.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

from classify.experiments.sources import CachedLayer
from classify.measure.environment import this_environment
from features.digests import sha256_json
from features.key import CacheKey
from features.notes import remembered_answer
from features.request import Request

_TIMED = 9


def seconds_for_one(predict: Callable[[Any], Any], image: Any) -> float:
    """The median time of one prediction after a first one; image: a batch of one."""
    predict(image)
    times = []
    for _ in range(_TIMED):
        started = time.perf_counter()
        predict(image)
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def pass_for_one(source: CachedLayer, image: Any) -> float:
    """Seconds to take one uint8 image (a batch of one) to the deepest of a source's layers."""
    keys = [wanted.key for wanted in source.wanted]
    first = keys[0]
    asked = [first.backbone, first.image_size, first.precision, [[key.layer, key.pool] for key in keys]]
    asked += [list(image.shape), source.request.device, this_environment()]
    question = f"seconds for one image up to layers, {sha256_json(asked)}"
    return float(remembered_answer(question, lambda: repr(_measure(source.request, keys, image))))


def _measure(request: Request, keys: Sequence[CacheKey], image: Any) -> float:
    from extract.preprocess import Preprocessor
    from extract.trunk import Output, Trunk, choose_recipe
    from features.backbones import requested_backbone
    from features.device import resolve_device

    device = resolve_device(request.device)
    backbone = requested_backbone(request)
    cut = backbone.cut(request.image_size)
    outputs = [Output(key.layer, key.pool) for key in keys]
    recipe = choose_recipe(cut, outputs, images=1, precision=keys[0].precision, device=device, compiled="off")
    trunk = Trunk(cut, outputs, recipe, device)
    preprocess = Preprocessor(backbone.preprocessing, device)

    return seconds_for_one(lambda batch: [output.cpu() for output in trunk(preprocess(batch))], image)
