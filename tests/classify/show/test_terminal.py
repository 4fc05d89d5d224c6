"""Tables on terminals of any width: names and intervals are never folded, and what is left out is said."""

import dataclasses
import io
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from rich.console import Console

from classify.experiments.compared import ComparedRow, ComparisonResult
from classify.experiments.probe.found import ProbeRow, Standing
from classify.experiments.probe.tables import shown_tables
from classify.measure.metrics import measure
from classify.measure.results import Result
from classify.show import columns
from classify.show.table import Column, Table, show
from classify.show.tables import confusion_table, network_tables, summary_table

WIDTHS = (60, 64, 72, 80, 90, 100, 120, 140, 160, 200)
MODELS = (
    ("untouched", "fc", {"matching": "matched"}),
    ("convnet", "input", {}),
    ("finetune", "layer3", {"unfreeze": "layer4", "regularizers": ["l2-sp=0.01,0.01"]}),
    ("svm", "layer2+layer3", {"pool": "avg"}),
    ("linear-svm", "avgpool", {"pool": "avg"}),
)


def _result(head, layer, number=0, classes=10, **config):
    labels = np.arange(1000) % classes
    predicted = np.where(np.arange(1000) % 50 <= 40 + number, labels, (labels + 1) % classes)
    names = [f"class {label}" for label in range(classes)]
    return Result(
        config={"dataset": "digits", "backbone": "resnet18", "weights": "w", "layer": layer, "head": head, **config},
        metrics=measure(labels, predicted, classes=names),
        chosen={"C": 10.0, "width": 1.0},
        validation_accuracy=0.9 + number / 100,
        seconds={"extract": 14.3, "search": 3.0, "fit": 470.0 + number},
        rows={"train": 9001, "validation": 999, "test": 1000},
        extra={
            "trained_parameters": 11_181_642,
            "features": 512,
            "peak_host_bytes": 1_200_000_000,
            "predict_one_seconds": 0.01,
        },
    )


def _comparison(seeds=(0,)):
    saved = [
        tuple(SimpleNamespace(result=_result(head, layer, number, seed=seed, **config)) for seed in seeds)
        for number, (head, layer, config) in enumerate(MODELS)
    ]
    rows = tuple(ComparedRow(each, 0.0046) for each in saved)
    p_values = (None, *([3e-9] * (len(rows) - 1)))
    return ComparisonResult({"seeds": list(seeds)}, rows, rows[0], p_values, (), Path("results")).tables


def _probe():
    rows = [
        ProbeRow(kind, SimpleNamespace(result=_result(head, layer, number, pool=pool)))
        for number, layer in enumerate(("maxpool", "layer1.0", "layer2+layer3"))
        for pool in ("avg", "grid:2")
        for head in ("linear-svm", "logistic")
        for kind in ("layer", "random", "shuffled", "pca", "projection")
    ]
    plain = [row for row in rows if row.kind == "layer"]
    standings = [Standing(row, 37_000_000, 2048, None if row is plain[0] else 0.0123) for row in plain[::2]]
    return shown_tables(rows, plain[0], standings, None)


def _studies():
    """The shapes that the tables of studies have: intervals by size and stage, corruptions, words beside numbers."""
    names = [("finetune:layer4+l2-sp=0.01,0.01",), ("linear-svm@layer2+layer3",), ("scratch",)]
    reached, chosen = (0.9842, 0.9816, 0.9866), ("noise", "maximum of softmax", 0.91, 0.4)
    for count, header in ((9, "{} images"), (7, "up to layer{}"), (3, "usps {}")):
        shown = [columns.text("model"), *(columns.accuracy(f"n{size}", header.format(size)) for size in range(count))]
        yield Table(
            "By size", tuple(shown), tuple(name + (reached,) * count for name in names), ("± half the interval",)
        )
    kinds = ("clean", "noise", "blur", "rotation", "scale", "contrast", "fog", "mean")
    shown = [columns.text("model"), *map(columns.share, kinds), Column("mce", "mCE")]
    yield Table("Corrupted", tuple(shown), tuple(name + (0.8123,) * 8 + (71,) for name in names))
    shown = [*map(columns.text, ("model", "foreign", "score")), columns.share("auroc", "AUROC %")]
    shown += [columns.share("false_positives", "taken for own at 95 %")]
    yield Table("Foreign", tuple(shown), tuple(name + chosen for name in names))


TABLES = [
    *_comparison(),
    *_comparison(seeds=(0, 1, 2)),
    *_probe(),
    *_studies(),
    summary_table([_result("svm", f"layer{number}", number, pool="avg", limit=number) for number in range(3)]),
    confusion_table(_result("svm", "layer3", classes=20)),
    *network_tables([]),
]


def _rendered(table, width):
    stream = io.StringIO()
    Console(file=stream, width=width, force_terminal=True, color_system=None).print(table, crop=False)
    return stream.getvalue().splitlines()


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("number", range(len(TABLES)))
def test_no_cell_is_folded_and_no_line_is_too_long(number, width):
    table = dataclasses.replace(TABLES[number], whole="results/all.json")
    lines = _rendered(table, width)
    assert max(map(len, lines)) <= width
    rule = next(place for place, line in enumerate(lines) if "─" in line)
    body = lines[rule + 1 : rule + 1 + len(table.rows)]
    missing = " ".join(lines).partition("no room for ")[2]
    alone = missing.partition(": ")[0] in [column.shown for column in table.columns]
    stand = "it stands" if alone else "they stand"
    assert f"{stand} in results/all.json" in " ".join(lines) or not missing
    for column, cells in zip(table.columns, zip(*table.cells(), strict=True), strict=True):
        shown = all(cell in line for cell, line in zip(cells, body, strict=True))
        assert shown or column.prose or column.shown in missing
        if column.name in ("layer", "model", "head", "accuracy"):
            assert shown


@pytest.mark.parametrize("number", range(len(TABLES)))
def test_the_wider_the_terminal_the_more_is_shown(number):
    shown = [sum(line.count("─") for line in _rendered(TABLES[number], width)) for width in WIDTHS]
    assert all(wider >= narrower - 3 for narrower, wider in zip(shown, shown[1:], strict=False))
    assert "no room" not in " ".join(_rendered(TABLES[number], 400))


def test_of_a_comparison_what_is_left_out_first_matters_least():
    lines = " ".join(_rendered(TABLES[0], 100))
    missing = lines.partition("no room for ")[2].partition(":")[0]
    assert "memory" in missing and "log loss" in missing
    for kept in ("model", "cut", "fitted on", "validation", "accuracy", "train"):
        assert kept in lines and f"{kept}," not in missing


def test_prose_is_broken_between_words_where_there_is_no_room():
    text = "spotlight 12 %, analog clock 8 %, television 5 %, radio 4 %, projector 3 %, monitor 2 %"
    table = Table("Seen", (Column("label", align="left"), Column("seen", align="left", prose=True)), (("zero", text),))
    narrow, wide = _rendered(table, 60), _rendered(table, 200)
    assert len(narrow) > len(wide) and max(map(len, narrow)) <= 60 and any(text in line for line in wide)
    assert set(text.split()) <= set(" ".join(narrow).split())


def test_wide_letters_take_the_room_that_they_take():
    table = Table("", (Column("class", align="left"), Column("images")), (("猫と犬", 3), ("cat", 12)))
    lines = _rendered(table, 60)
    assert lines[-2].index("3") == lines[-1].index("2") - 3


def test_notes_on_columns_that_are_left_out_are_left_out():
    notes = (
        "p: of McNemar's test",
        "log loss, ECE: of probabilities",
        "model, p: what is what",
        "majority baseline: 10 %",
    )
    shown = (Column("model", align="left"), *(Column(name) for name in ("accuracy", "p", "log loss", "ECE")))
    table = Table("", shown, (("logistic on layer3", "97.50 ±1.25", "< 0.0001", "0.1234", "12.34"),), notes)
    narrow, wide = " ".join(_rendered(table, 44)), " ".join(_rendered(table, 200))
    assert all(note in wide for note in notes)
    assert [note in narrow for note in notes] == [True, False, True, True]
    marked = table.mark(0, "ECE", "best")
    stream = io.StringIO()
    Console(file=stream, width=40, force_terminal=True, color_system="standard").print(marked, crop=False)
    assert re.search(r"\x1b\[1;32mlogistic on layer3", stream.getvalue())


@pytest.mark.parametrize("columns", ["", *map(str, range(40, 201, 20))])
def test_a_path_is_whole_at_any_width(monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", columns)
    path = f"train/a-class-with-a-long-name/{'0123456789' * 4}.png"
    heads = (Column("finding", align="left"), Column("image", align="left", path=True))
    heads += (Column("says", "what", align="left", path=True), Column("label", align="left"), Column("value"))
    table = Table("", heads, (("nearly in train", path, f"nearly {path} in train", "cat", 0.5),))
    stream = io.StringIO()
    show(table, stream=stream)
    text = stream.getvalue()
    assert len(re.findall(re.escape(path), text)) == 2 and "..." not in text and "cat" in text
    if columns and int(columns) < 180:
        assert f"\n  image: {path}\n" in text or f"\n  image:\n  {path}\n" in text
        others = [line for line in text.splitlines() if path not in line]
        assert max(map(len, others)) <= int(columns) and "value" in others[0] and "no room" not in text


@pytest.mark.parametrize("width", range(20, 60, 3))
def test_sentences_are_broken_neither_inside_a_word_nor_before_a_unit(width, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    sentence = "svm on layer3 gets 97.25 % of 2,000 images in 1.5 s (95 % interval 96.25 to 98.00 %), 0.4 ms an image."
    show(f"{sentence}\n\n  indented  twice", stream=stream)
    lines = stream.getvalue().splitlines()
    assert " ".join(lines[:-2]) == sentence and lines[-2:] == ["", "  indented  twice"]
    assert max(map(len, lines)) <= max(width, 20) and not any(line.startswith(("%", "s ", "ms")) for line in lines)
