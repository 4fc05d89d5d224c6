"""What rows were called by version 0.1.0: their configurations and digests, which name results that people keep.

`pins_0_1_0.json` was written by 0.1.0's own code. A pin changes only in the commit that names the correction for which
it has to: results under the old name are then made again, and none of them may be taken for the new one.
"""

import dataclasses
import json
from pathlib import Path

import pytest

from classify.experiments.kinds.classical import Classical, head2toe
from classify.experiments.row import Row, network_row, untouched_row
from classify.experiments.settings import Settings
from classify.experiments.sources import CachedLayer, Pixels
from classify.experiments.training_sets import Imbalance, LabelNoise
from classify.heads import HEADS
from classify.heads.network.settings import TrainingSettings
from classify.heads.on_axes import Reduction
from classify.heads.regularizers import parse_regularizers
from classify.measure.outcome import plain_json
from extract.planning import plan
from features import device
from features.digests import sha256_json
from features.ranges import EIGHT_BITS, keep_ranges
from features.request import Request

PINS = json.loads(Path(__file__).with_name("pins_0_1_0.json").read_text(encoding="utf-8"))
LAYERS = ("layer1", "layer2", "avgpool", "fc", "layer1+layer2")
BASE = Request(
    dataset="digits", weights="random", image_size=32, limit=60, limit_test=30, precision="float32", device="cpu"
)
SHORT = TrainingSettings(epochs=2, batch_size=32, precision="float32")
EVERY_SETTING = TrainingSettings(
    epochs=3, batch_size=16, optimizer="sgd", learning_rate=0.01, head_multiple=5.0, schedule="book", weight_decay=0.0,
    patience=2, batch_norm="freeze", precision="float32", label_smoothing=0.1, init_head="probe",
)  # fmt: skip


def _layer(layer: str = "layer1", pool: str = "avg", **changes) -> CachedLayer:
    asked = {"layers": LAYERS, "pools": ("avg", "max", "grid:2"), **changes}
    return CachedLayer(plan(dataclasses.replace(BASE, **asked)), layer, pool)


def _pooled(**changes) -> CachedLayer:
    return _layer("avgpool", layers=("avgpool",), pools=("avg",), **changes)


def _head(
    name: str, source, reduction: Reduction | None = None, shuffled: bool = False, change=None, **settings
) -> Row:
    head = Classical(head=HEADS[name], reduction=reduction)
    return Row(
        source=source, head=head, settings=Settings(calibrate=False, **settings), shuffled=shuffled, change=change
    )


def _head2toe() -> Row:
    source = _layer("layer1+layer2")
    return Row(source=source, head=Classical(head=head2toe(source.widths)), settings=Settings(calibrate=False))


def _network(name: str, training: TrainingSettings = SHORT, request: Request = BASE, **options) -> Row:
    return network_row(request, name, training=training, **options)


def _with(**changes) -> Request:
    return dataclasses.replace(BASE, **changes)


ROWS = {
    "head": lambda: _head("svm", _layer()),
    "head, seed 3, balanced, no search, no refit": lambda: _head(
        "svm", _layer(seed=3), seed=3, class_weight="balanced", search=False, refit=False
    ),
    "head, fewer rows searched": lambda: _head("svm", _layer(), search_rows=50),
    "head that searches on all rows, fewer allowed": lambda: _head("ridge", _layer(), search_rows=50),
    "head, no validation": lambda: _head("knn", _layer(), validation=False),
    "head, a fifth held out": lambda: _head("lda", _layer(), validation_share=0.2),
    "head, max pooling": lambda: _head("logistic", _layer(pool="max")),
    "head, grid": lambda: _head("linear-svm", _layer(pool="grid:2")),
    "head on avgpool": lambda: _head("linear", _layer("avgpool")),
    "head on fc": lambda: _head("mlp", _layer("fc")),
    "head on joined layers": lambda: _head("centroid", _layer("layer1+layer2")),
    "head, all rows": lambda: _head("ridge", _layer(limit=None, limit_test=None)),
    "head, float16 features": lambda: _head("svm", _layer(dtype="float16")),
    "head, bfloat16": lambda: _head("svm", _layer(precision="bfloat16")),
    "head, int8": lambda: _head("svm", _pooled(precision=keep_ranges({"x": [-1.5, 2.25]}))),
    "head, other backbone": lambda: _head("svm", _pooled(backbone="squeezenet1_1")),
    "shuffled labels": lambda: _head("svm", _layer(), shuffled=True),
    "wrong labels": lambda: _head("svm", _layer(), change=LabelNoise(0.1)),
    "unequal classes": lambda: _head("svm", _layer(), change=Imbalance(10)),
    "principal axes": lambda: _head("svm", _layer(), reduction=Reduction("pca", 7)),
    "random projection": lambda: _head("svm", _layer(seed=3), reduction=Reduction("projection", 7, 3), seed=3),
    "Head2Toe": _head2toe,
    "pixels": lambda: _head("ridge", Pixels(BASE, None, False)),
    "pixels, resized, in colour, seed 3": lambda: _head("ridge", Pixels(_with(seed=3), 8, True), seed=3),
    "finetune": lambda: _network("finetune"),
    "finetune fc": lambda: _network("finetune", unfreeze="fc"),
    "finetune layer4": lambda: _network("finetune", unfreeze="layer4"),
    "finetune layer4, in the loop": lambda: _network("finetune", unfreeze="layer4", in_loop=True),
    "finetune layer4, augmented": lambda: _network(
        "finetune", dataclasses.replace(SHORT, augment=("flip", "shift")), unfreeze="layer4"
    ),
    "finetune layer4, in the loop, trained in bfloat16": lambda: _network(
        "finetune", dataclasses.replace(SHORT, precision="bfloat16"), unfreeze="layer4", in_loop=True
    ),
    "finetune layer4, float16 maps": lambda: _network("finetune", request=_with(dtype="float16"), unfreeze="layer4"),
    "finetune layer4, bfloat16 maps, seed 4": lambda: _network(
        "finetune", request=_with(precision="bfloat16", seed=4), unfreeze="layer4"
    ),
    "finetune layer4, regularised": lambda: _network(
        "finetune", unfreeze="layer4", regularizers=parse_regularizers(["bss=0.01", "l2-sp=0.1,0.2"])
    ),
    "finetune layer3 until layer3, drawn above": lambda: _network(
        "finetune", unfreeze="layer3", until="layer3", fresh_above="layer3"
    ),
    "finetune, steps, no validation, wrong labels": lambda: _network(
        "finetune", TrainingSettings(steps=5, precision="float32"), settings=Settings(validation=False),
        change=LabelNoise(0.2),
    ),
    "finetune, every setting": lambda: _network(
        "finetune", EVERY_SETTING, settings=Settings(validation_share=0.2)
    ),
    "scratch": lambda: _network("scratch"),
    "convnet": lambda: _network("convnet"),
    "spottune": lambda: _network("spottune"),
    "untouched, own": lambda: untouched_row(BASE, "own"),
    "untouched, first": lambda: untouched_row(BASE, "first"),
    "untouched, matched": lambda: untouched_row(_with(seed=2), "matched"),
}  # fmt: skip


def test_every_pin_has_its_row():
    assert set(ROWS) == set(PINS)


@pytest.mark.parametrize("name", PINS)
def test_a_row_has_the_name_that_0_1_0_gave_it(home, monkeypatch, name):
    # int8 may be refused here; what it is called is the same everywhere.
    monkeypatch.setattr(device, "exact_levels", lambda: EIGHT_BITS)
    row = ROWS[name]()
    assert plain_json(row.config) == PINS[name]["config"]
    assert row.digest == PINS[name]["digest"] == sha256_json(PINS[name]["config"])
    assert Row.from_config(PINS[name]["config"]).digest == row.digest
