"""How long the frozen part takes for one image, on its own: what a head on cached features costs beside itself.

Measured as extraction computes it, once for each network, layer, image size and machine, and then remembered.
"""

import statistics
import time
from collections.abc import Sequence
from typing import Any

from classify.measure.environment import this_environment
from features.digests import remembered_answer, sha256_json
from features.key import CacheKey
from features.request import Plan

_TIMED = 9


def pass_for_one(answer: Plan, layers: Sequence[str], image: Any) -> float:
    """Seconds to take one uint8 image (a batch of one) to the deepest of these single layers of a plan."""
    pool = answer.request.pools[0]
    keys = [answer.get(layer, answer.splits[0], pool).key for layer in layers]
    first = keys[0]
    asked = [first.backbone, first.image_size, first.precision, [[key.layer, key.pool] for key in keys]]
    asked += [list(image.shape), answer.request.device, this_environment()]
    question = f"seconds for one image up to layers, {sha256_json(asked)}"
    return float(remembered_answer(question, lambda: repr(_measure(answer, keys, image))))


def _measure(answer: Plan, keys: Sequence[CacheKey], image: Any) -> float:
    from extract.preprocess import Preprocessor
    from extract.trunk import Output, Trunk, choose_recipe
    from features.backbones import load_backbone
    from features.cut import Cut
    from features.device import resolve_device

    request, first = answer.request, keys[0]
    device = resolve_device(request.device)
    backbone = load_backbone(request.backbone, request.weights, request.seed)
    cut = Cut(backbone.model, first.image_size, backbone.headless)
    outputs = [Output(key.layer, key.pool) for key in keys]
    recipe = choose_recipe(cut, outputs, images=1, precision=first.precision, device=device, compiled="off")
    trunk = Trunk(cut, outputs, recipe, device)
    preprocess = Preprocessor(backbone.preprocessing.at(request.image_size), device)

    def once() -> float:
        started = time.perf_counter()
        [output.cpu() for output in trunk(preprocess(image))]
        return time.perf_counter() - started

    once()
    return statistics.median(once() for _ in range(_TIMED))
