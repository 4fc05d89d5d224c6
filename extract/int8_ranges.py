"""The ranges of int8, found on a part of the training images: the least and the greatest value of every map that
becomes bytes.

The images are 256 training rows, stratified, always the same ones; test images are never looked at. Bounds are rounded
outwards to three digits, so that what rounds otherwise in the last bits (another number of threads) gives them too.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import fx, nn

from extract.fusing import is_plain, name_of
from extract.preprocess import Preprocessor
from extract.quantising import maps_in_bytes
from extract.trunk import fold_batch_norm
from features.backbones import Backbone
from features.cut import Cut
from features.datasets import Dataset, ImageFiles
from features.device import exact_levels
from features.errors import UserError
from features.preprocessing import Preprocessing
from features.ranges import RANGE_ROWS, Ranges, with_levels
from features.rows import limit_rows
from features.twins import twin

_BATCH = 32


def find_ranges(dataset: Dataset, backbone: Backbone, preprocessing: Preprocessing, cut: Cut) -> Ranges:
    """The ranges of a network on a data set's training images."""
    if "train" not in dataset.splits:
        raise UserError(
            f"--precision int8: its ranges are fixed on training images, and the data set '{dataset.spec}' has none; "
            "take --precision bfloat16 or float32, or a data set with a training split"
        )
    data = dataset.load("train")
    rows = limit_rows(data.labels, RANGE_ROWS, seed=0)
    images = data.images.take(rows) if isinstance(data.images, ImageFiles) else data.images[rows]
    return ranges_on(images, backbone.name, preprocessing, cut)


def ranges_on(
    images: np.ndarray | Sequence[np.ndarray] | ImageFiles, name: str, preprocessing: Preprocessing, cut: Cut
) -> Ranges:
    """The ranges of a network on uint8 images, (N, H, W) or (N, H, W, 3), or a list or files of such; name: the
    network's."""
    _require_convolutions(name, cut.model)
    last = cut.resolve("avgpool" if cut.headless else "fc")
    network = fold_batch_norm(twin(cut.trunk([last])).eval().float())
    prepare = Preprocessor(preprocessing)
    images = prepare.decoded(images)
    return observed_ranges(network, (prepare(images[at : at + _BATCH]) for at in range(0, len(images), _BATCH)))


def observed_ranges(network: fx.GraphModule, batches: Iterable[torch.Tensor]) -> Ranges:
    """The ranges of a whole folded network on batches of what it takes, float32 (N, C, H, W), for weights of as many
    bits as this processor adds exactly."""
    ranges: Ranges = {}
    together: list[set[str]] = []

    class Observer(fx.Interpreter):
        def run_node(self, node: fx.Node) -> Any:
            value, name = super().run_node(node), name_of(node)
            if name in ranges:
                low, high = (bound.item() for bound in value.aminmax())
                ranges[name] = (min(low, ranges[name][0]), max(high, ranges[name][1]))
                if not math.isfinite(high - low):
                    raise UserError(
                        f"--precision int8: {name} gives NaN or infinite values; take other --weights, or "
                        "--precision float32 to see them"
                    )
            return value

    with torch.no_grad():
        for batch in batches:
            if not ranges:
                maps, together = maps_in_bytes(network, batch.shape)
                ranges |= dict.fromkeys(maps, (0.0, 0.0))
            Observer(network).run(batch.contiguous(memory_format=torch.channels_last))
    for names in together:
        whole = (min(ranges[name][0] for name in names), max(ranges[name][1] for name in names))
        ranges |= dict.fromkeys(names, whole)
    return with_levels({name: _rounded(low, high) for name, (low, high) in sorted(ranges.items())}, exact_levels())


def _require_convolutions(name: str, model: nn.Module) -> None:
    weighted = [module for module in model.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    plain = sum(map(is_plain, weighted))
    if 2 * plain <= len(weighted):
        raise UserError(
            f"--precision int8 is for networks of convolutions, and of the {len(weighted)} layers of {name} that have "
            f"weights {plain} can be computed so; take --precision bfloat16 or float32, or another --backbone"
        )


def _rounded(low: float, high: float) -> tuple[float, float]:
    """Bounds rounded outwards to three digits; those of a map that is zero everywhere are any."""
    if low == high:
        return 0.0, 1.0
    return 0.0 - _upwards(-low), _upwards(high)


def _upwards(bound: float) -> float:
    if bound <= 0:
        return 0.0
    unit = 10.0 ** (math.floor(math.log10(bound)) - 2)
    # By way of its digits, lest the product have more of them.
    return float(f"{math.ceil(bound / unit) * unit:.3g}")
