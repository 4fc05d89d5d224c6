"""What a row is: every field of it is a part of its identity or is named here as none, and its record describes it."""

import dataclasses

import pytest
import torch
from PIL import Image

from classify.experiments.kinds.classical import Classical, head2toe
from classify.experiments.kinds.network import Network
from classify.experiments.kinds.untouched import Untouched
from classify.experiments.row import Row, network_row, untouched_row
from classify.experiments.settings import Settings
from classify.experiments.sources import CachedLayer, Pixels
from classify.experiments.training_sets import Imbalance, LabelNoise
from classify.heads import HEADS
from classify.heads.network.settings import TrainingSettings
from classify.heads.on_axes import Reduction
from classify.heads.regularizers import parse_regularizers
from extract.planning import plan
from features.architectures import build_model
from features.errors import UserError
from features.request import Request

REQUEST = Request(
    dataset="digits", weights="random", image_size=32, limit=60, limit_test=30, precision="float32", device="cpu",
    layers=("layer1", "layer2", "layer1+layer2"), pools=("avg", "max"),
)  # fmt: skip
# Fields that change no number, and why.
NO_IDENTITY = {
    (Row, "keep"): "what is kept of it",
    (Settings, "jobs"): "on how many cores",
    (Settings, "blocks"): "where features are read from, to rounding",
    (Classical, "searched"): "what a search has found already",
    (Network, "trunk_precision"): "follows from the request",
    (Pixels, "layer"): "always 'pixels'",
    (CachedLayer, "plan"): "the request's fields are looked at instead",
    (Pixels, "asked"): "the request's fields are looked at instead",
}
PLAIN = TrainingSettings(precision="float32")
TRAINING = {
    "epochs": 3, "steps": 4, "batch_size": 9, "optimizer": "sgd", "learning_rate": 0.5, "head_multiple": 2.0,
    "schedule": "constant", "weight_decay": 0.5, "patience": 2, "batch_norm": "freeze", "precision": "bfloat16",
    "label_smoothing": 0.25, "augment": ("flip",), "init_head": "probe", "layer_decay": 0.5,
}  # fmt: skip


@pytest.fixture(autouse=True)
def _in_a_home(home):
    return home


def _head(**fields) -> Row:
    source = CachedLayer(plan(REQUEST), "layer1", "avg")
    return Row(**{"source": source, "head": Classical(head=HEADS["svm"]), **fields})


def _finetune(**fields) -> Row:
    return network_row(REQUEST, "finetune", **{"unfreeze": "layer4", **fields})


def _changed(field: str) -> list[tuple[Row, Row]]:
    """Pairs of rows that differ in one field, for every kind of head that has it."""
    head, pixels = _head(), Pixels(REQUEST, 8, False)
    seen_thrice = dataclasses.replace(REQUEST, test_views=3)

    def reduced(kind: str, width: int) -> Row:
        return _head(head=Classical(head=HEADS["svm"], reduction=Reduction(kind, width)))

    def settings(**change) -> list[tuple[Row, Row]]:
        return [(head, _head(settings=Settings(**change)))]

    networks = {name: lambda name=name: [(_finetune(), _finetune(**{name: OPTIONS[name]}))] for name in OPTIONS}
    pairs = {
        "source": lambda: [(head, _head(source=pixels))],
        "head": lambda: [(head, _head(head=Classical(head=HEADS["ridge"])))],
        "settings": lambda: settings(seed=1),
        "shuffled": lambda: [(head, _head(shuffled=True))],
        "change": lambda: [
            (made(), made(change=change)) for made in (_head, _finetune) for change in (LabelNoise(0.1), Imbalance(3))
        ],
        "seed": lambda: settings(seed=1),
        "class_weight": lambda: settings(class_weight="balanced"),
        "search": lambda: settings(search=False),
        "refit": lambda: settings(refit=False),
        "search_rows": lambda: settings(search_rows=50),
        "validation": lambda: [
            *settings(validation=False), (_finetune(), _finetune(settings=Settings(validation=False))),
        ],
        "validation_share": lambda: [
            *settings(validation_share=0.2), (_finetune(), _finetune(settings=Settings(validation_share=0.2))),
        ],
        "validate": lambda: [*settings(validate="cv:5"), (_finetune(), _finetune(settings=Settings(validate="cv:5")))],
        "score": lambda: settings(score="macro-f1"),
        "test": lambda: settings(test="cv:5"),
        "calibrate": lambda: settings(calibrate=False),
        "reduction": lambda: [
            (head, reduced("pca", 7)), (reduced("pca", 7), reduced("pca", 8)),
            (reduced("pca", 7), reduced("projection", 7)),
        ],
        "layer": lambda: [(head, _head(source=dataclasses.replace(head.source, layer="layer1+layer2")))],
        "pool": lambda: [(head, _head(source=dataclasses.replace(head.source, pool="max")))],
        "side": lambda: [(_head(source=pixels), _head(source=dataclasses.replace(pixels, side=None)))],
        "colour": lambda: [(_head(source=pixels), _head(source=dataclasses.replace(pixels, colour=True)))],
        "network": lambda: [(_finetune(), network_row(REQUEST, "scratch"))],
        "training": lambda: [
            (_finetune(training=PLAIN), _finetune(training=dataclasses.replace(PLAIN, **{name: value})))
            for name, value in TRAINING.items()
        ],
        "test_views": lambda: [(_finetune(), network_row(seen_thrice, "finetune", unfreeze="layer4"))],
        "reading": lambda: [(untouched_row(REQUEST, "own"), untouched_row(REQUEST, "first"))],
        **networks,
    }  # fmt: skip
    return pairs[field]()


OPTIONS = {
    "unfreeze": "fc",
    "regularizers": parse_regularizers(["l2"]),
    "fresh_above": "layer4",
    "until": "layer4",
}
FIELDS = [
    (kind, field.name)
    for kind in (Row, Settings, Classical, Network, Untouched, CachedLayer, Pixels)
    for field in dataclasses.fields(kind)
    if (kind, field.name) not in NO_IDENTITY
]


@pytest.mark.parametrize(("kind", "field"), FIELDS, ids=lambda value: getattr(value, "__name__", value))
def test_rows_that_differ_in_a_field_have_two_names(kind, field):
    for one, other in _changed(field):
        assert one.digest != other.digest


def test_every_setting_of_training_is_tried():
    assert {field.name for field in dataclasses.fields(TrainingSettings)} == {*TRAINING, "seed"}


# For each field of a request another value, on which a row has another name; and the one that changes no number.
REQUESTS = {
    "dataset": "digits[0,1,2]", "backbone": "squeezenet1_1", "weights": "another file", "layers": ("layer4",),
    "pools": ("max",), "image_size": 40, "precision": "bfloat16", "dtype": "float16", "limit": 50, "limit_test": 20,
    "seed": 1, "crop_mode": "pad", "resize": 40, "interpolation": "nearest", "mean": (0.1, 0.2, 0.3),
    "std": (0.3, 0.2, 0.1), "decode": "draft", "views": 3, "view_augment": ("flip",), "test_views": 2,
}  # fmt: skip
NO_PART_OF_A_ROW = {"device": "where it is computed, to rounding"}


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(Request)])
def test_every_field_of_a_request_is_a_part_of_the_rows_that_read_it(field, tmp_path):
    if field in NO_PART_OF_A_ROW:
        return
    value = REQUESTS[field]
    if field == "weights":
        value = str(tmp_path / "weights.pth")
        torch.save(build_model("resnet18").state_dict(), value)
    before = dataclasses.replace(REQUEST, layers=("avgpool",), pools=("avg",))
    if field == "decode":
        for label in "ab":
            (tmp_path / label).mkdir()
            for grey in range(5):
                Image.new("L", (40, 40), 20 * grey).save(tmp_path / label / f"{grey}{label}.png")
        before = dataclasses.replace(before, dataset=f"folder:{tmp_path}")
    if field in ("view_augment", "test_views"):
        before = dataclasses.replace(before, views=4)
    rows = [
        Row(source=CachedLayer(plan(asked), asked.layers[0], asked.pools[0]), head=Classical(head=HEADS["ridge"]))
        for asked in (before, dataclasses.replace(before, **{field: value}))
    ]
    assert rows[0].digest != rows[1].digest


def test_the_seed_of_a_request_is_that_of_a_network():
    seeds = [network_row(dataclasses.replace(REQUEST, seed=seed), "convnet") for seed in (0, 1)]
    assert seeds[0].digest != seeds[1].digest


@pytest.mark.parametrize(
    "make",
    [
        _head,
        lambda: _head(head=Classical(head=HEADS["knn"], reduction=Reduction("pca", 5)), change=Imbalance(4)),
        lambda: _head(source=Pixels(REQUEST, 8, False), settings=Settings(search=False, refit=False)),
        lambda: _head(
            source=CachedLayer(plan(REQUEST), "layer1+layer2", "max"), head=Classical(head=head2toe((64, 128)))
        ),
        lambda: _finetune(until="layer4", training=TrainingSettings(augment=("shift",), steps=3)),
        lambda: _finetune(in_loop=True, regularizers=parse_regularizers(["bss=0.01"]), change=LabelNoise(0.2)),
        lambda: network_row(REQUEST, "convnet", settings=Settings(validation=False)),
        lambda: network_row(REQUEST, "spottune"),
        lambda: untouched_row(REQUEST, "matched"),
    ],
)
def test_a_record_describes_its_row(make):
    row = make()
    again = Row.from_config(row.config)
    assert again.config == row.config
    assert again.digest == row.digest


def test_a_record_of_other_data_is_refused_by_name():
    with pytest.raises(UserError, match="dataset_sha256 is .* here and '000' in the record"):
        Row.from_config({**_head().config, "dataset_sha256": "000"})
