"""`python -m classify compare`: one table on one split, its tests by hand, nothing made twice, test data last."""

import csv
import dataclasses
import io
import json
from pathlib import Path

import numpy as np
import pytest

from classify.__main__ import main
from classify.experiments.compare import compare
from classify.experiments.compared import MOST_NAMED, ComparedRow
from classify.experiments.models import default_models, parse_model
from classify.heads.network.settings import TrainingSettings
from classify.measure.metrics import measure
from classify.measure.results import load_results
from classify.measure.standing import frontier
from features.commands.options import run_command
from features.errors import UserError
from features.rows import validation_split

DIGITS = ["--dataset", "digits", "--weights", "random", "--image-size", "32", "--limit", "200", "--limit-test", "100"]
FAST = ["--epochs", "1", "--batch-size", "32", "--train-precision", "float32", "--precision", "float32"]
OPTIONS = {"weights": "random", "image_size": 32, "limit": 200, "limit_test": 100, "device": "cpu"}
OPTIONS |= {"settings": TrainingSettings(epochs=1, batch_size=32, precision="float32"), "precision": "float32"}


@pytest.fixture(autouse=True)
def working_folder(home, tmp_path, monkeypatch) -> Path:
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Two heads' rows and two networks', on real digits."""
    folder = tmp_path_factory.mktemp("small")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAYERPROBE_HOME", str(folder / "home"))
        models = ["convnet", "finetune:fc", "ridge", "logistic@layer2"]
        return compare("digits", models=models, search=False, results=folder / "results", **OPTIONS)


def test_every_row_has_the_same_rows_and_the_table_has_what_the_issue_names(small):
    names = [(row.model, row.layer, row.refit) for row in small.rows]
    ridge = [name for name in names if name[0] == "ridge"]
    assert names[:2] == [("convnet", "input", False), ("finetune fc", "avgpool", False)]
    assert ridge[:2] == [("ridge", "avgpool", True), ("ridge", "avgpool", False)]
    assert names[-2:] == [("logistic", "layer2", True), ("logistic", "layer2", False)]
    predictions = [row.saved[0].predictions() for row in small.rows]
    for each in predictions[1:]:
        assert np.array_equal(each.validation_rows, predictions[0].validation_rows)
        assert np.array_equal(each.rows, predictions[0].rows)
    from features.datasets import open_dataset
    from features.rows import limit_rows

    labels = open_dataset("digits").load("train").labels
    rows = limit_rows(labels, 200, 0)
    validation = rows[validation_split(labels[rows], np.arange(200), 0)[1]]
    assert np.array_equal(predictions[0].validation_rows, validation)
    records = small.table.records()
    for record, row in zip(records, small.rows, strict=True):
        metrics = row.first.metrics
        assert (record["accuracy"], record["accuracy_low"], record["accuracy_high"]) == (
            metrics.accuracy,
            *metrics.accuracy_interval,
        )
        assert (record["macro_f1"], record["log_loss"]) == (metrics.macro_f1, metrics.log_loss)
        assert record["trained_parameters"] > 0
        assert record["train_seconds"] > 0
        assert record["one_seconds"] > 0
        assert record["peak_memory"] > 1e7
        assert (record["extract_seconds"] is None) == (row.layer == "input")
    twins = {row.refit: row.first for row in small.rows if row.model == "logistic"}
    assert twins[True].rows == twins[False].rows
    assert twins[True].validation_accuracy == twins[False].validation_accuracy
    assert twins[True].chosen == twins[False].chosen


def test_memory_of_a_gpu_has_a_column_where_one_was_used(small):
    assert "GPU memory" not in str(small.table)
    row = small.rows[0]
    extra = {**row.first.extra, "peak_device_bytes": 2_500_000_000}
    saved = dataclasses.replace(row.saved[0], result=dataclasses.replace(row.first, extra=extra))
    rows = (dataclasses.replace(row, saved=(saved,)), *small.rows[1:])
    table = dataclasses.replace(small, rows=rows).table
    assert "GPU memory" in str(table)
    assert "2.50 GB" in str(table)
    assert [record["peak_gpu_memory"] for record in table.records()[:2]] == [2_500_000_000, None]


def test_mcnemar_and_holm_from_the_stored_predictions_by_hand(small):
    from math import comb

    best = small.best
    assert best.validation == max(row.validation for row in small.rows)
    reference = best.saved[0].predictions()
    right = reference.predicted == reference.labels
    raw = {}
    for place, row in enumerate(small.rows):
        if row is not best:
            other = row.saved[0].predictions()
            theirs = other.predicted == other.labels
            first, second = int(np.sum(right & ~theirs)), int(np.sum(~right & theirs))
            n, k = first + second, min(first, second)
            tail = sum(comb(n, i) for i in range(k + 1)) / 2**n
            raw[place] = min(1.0, 2 * tail - comb(n, k) / 2**n) if n else 1.0
    adjusted, largest = {}, 0.0
    for step, place in enumerate(sorted(raw, key=raw.get)):
        largest = max(largest, min(1.0, raw[place] * (len(raw) - step)))
        adjusted[place] = largest
    assert small.p_values[small.rows.index(best)] is None
    for place, value in adjusted.items():
        assert small.p_values[place] == pytest.approx(value, rel=1e-9), place


def test_the_trade_off_names_the_rows_that_no_other_row_beats(small):
    majority = small.best.first.metrics.majority
    rows = [row for row in small.rows if row.accuracy > majority]
    kept = small.frontier
    assert kept == frontier(rows, lambda row: row.cost, lambda row: row.accuracy)
    for row in rows:
        better = [each for each in rows if each.accuracy >= row.accuracy and each.cost < row.cost]
        better += [each for each in rows if each.accuracy > row.accuracy and each.cost <= row.cost]
        assert (row in kept) == (not better) or row.cost in [each.cost for each in kept]
    assert [row.cost for row in kept] == sorted(row.cost for row in kept)
    assert [row.accuracy for row in kept] == sorted(row.accuracy for row in kept)
    said = small.trade_off()
    named = kept[-MOST_NAMED:]
    assert all(row.name in said for row in named)
    assert said.count(" up to ") == len(named) - 1
    more = len(kept) - len(named)
    assert (f"(nor than {more} that {'is' if more == 1 else 'are'} less accurate)" in said) == (more > 0)
    left_out = ", ".join(row.name for row in small.rows if row not in rows)
    assert ("Left out" in said) == bool(left_out) and left_out in said


def test_a_row_that_has_no_chance_is_left_out_of_the_trade_off_and_named(small):
    saved = small.rows[0].saved[0]
    labels = saved.predictions().labels
    # What the untouched network's own classes are where none of them is a label.
    result = dataclasses.replace(
        saved.result,
        config={**saved.result.config, "head": "untouched", "reading": "own", "training": None, "unfreeze": None},
        metrics=measure(labels, np.full_like(labels, 999), None, saved.result.metrics.classes),
        seconds={"fit": 1e-6},
    )
    hopeless = ComparedRow((dataclasses.replace(saved, result=result),), None)
    comparison = dataclasses.replace(small, rows=(*small.rows, hopeless), p_values=(*small.p_values, 0.0))
    assert comparison.frontier == small.frontier
    assert comparison.trade_off().endswith("untouched own.") and "0.00 %" not in comparison.trade_off()
    assert [row["above_majority"] for row in comparison.body()["rows"]][-1] is False


def test_the_default_set_in_four_forms_and_a_second_run_that_makes_nothing(capsys, monkeypatch):
    written = ["--csv", "a.csv", "--json", "a.json", "--markdown", "a.md"]
    arguments = ["compare", *DIGITS, *FAST, "--no-search", "--layer", "layer2", "layer4", *written]
    assert run_command(main, arguments) == 0
    told = capsys.readouterr()
    assert "scratch: epoch 1: loss" in told.err
    assert "log loss, ECE: of probabilities, which untouched own does not give\n" in told.out
    *_, answer, following = told.out.rstrip().splitlines()
    assert answer.startswith("No other row is both more accurate and sooner ready than ")
    assert following == "next: python -m classify report"
    rows = list(csv.DictReader(io.StringIO(Path("a.csv").read_text())))
    tuned = [row["model"] for row in rows if row["model"].startswith("finetune")]
    assert tuned == ["finetune fc", "finetune layer4", "finetune all"]
    assert {row["model"] for row in rows} >= {"untouched own", "convnet", "scratch", "svm", "logistic", "linear"}
    assert {row["fitted_on"] for row in rows} == {"nothing", "train", "train + validation"}
    record = json.loads(Path("a.json").read_text())
    assert [row["model"] for row in record["rows"]] == [row["model"] for row in rows]
    assert all((Path("results") / name).is_file() for row in record["rows"] for name in row["results"])
    assert (Path("results") / f"{Path(next(Path('results').glob('compare-*.json'))).name}").is_file()
    assert len(load_results("results")) == len(rows)
    assert Path("a.md").read_text().count("| finetune ") == 3
    assert not list(Path("results").glob(".running-*"))
    stamps = {path: path.stat().st_mtime_ns for path in Path("results").rglob("*") if "compare-" not in path.name}
    for module, name in (("making", "fit"), ("making", "test")):
        monkeypatch.setattr(f"classify.experiments.{module}.{name}", lambda *a, **k: pytest.fail("made again"))
    assert run_command(main, arguments) == 0
    again = capsys.readouterr().out
    assert again.index("digits: ") < told.out.index("digits: ")
    assert again[again.index("digits: ") :] == told.out[told.out.index("digits: ") :]
    assert stamps == {path: path.stat().st_mtime_ns for path in stamps}


def test_the_test_split_is_opened_after_everything_is_fitted(monkeypatch):
    from classify.experiments.making import Making
    from features.store import FeatureFile

    models = ["convnet", "finetune:fc", "ridge"]
    compare("digits", models=models, layers=["layer2"], search=False, **OPTIONS)
    events = []
    for name in ("features", "whole"):
        plain = getattr(FeatureFile, name)

        def spy(file, *arguments, _plain=plain, **options):
            events.append(file.key.split)
            return _plain(file, *arguments, **options)

        monkeypatch.setattr(FeatureFile, name, spy)
    plain_test = Making.test
    monkeypatch.setattr(Making, "test", lambda self: (events.append("testing"), plain_test(self))[1])
    compare("digits", models=models, layers=["layer2"], search=False, again=True, **OPTIONS)
    place = events.index("testing")
    assert set(events[:place]) == {"train"}
    assert set(events[place + 1 :]) == {"test"}


def test_several_seeds_give_mean_and_deviation():
    models = ["convnet", "ridge@layer2"]
    result = compare("digits", models=models, seeds=(0, 1, 2), search=False, **OPTIONS)
    for row, record in zip(result.rows, result.table.records(), strict=True):
        accuracies = [saved.result.metrics.accuracy for saved in row.saved]
        assert [saved.result.config["seed"] for saved in row.saved] == [0, 1, 2]
        assert record["seeds_mean"] == pytest.approx(np.mean(accuracies))
        assert record["seeds_sd"] == pytest.approx(np.std(accuracies, ddof=1))
        assert record["accuracy"] == accuracies[0]
    assert "accuracy: with seed 0; mean ± sd: mean and standard deviation over seeds 0, 1 and 2" in str(result)
    alone = compare("digits", models=models, seeds=(1,), search=False, say=lambda line: pytest.fail(line), **OPTIONS)
    assert alone.rows[0].saved[0].path == result.rows[0].saved[1].path


def test_heads_sit_on_their_layers_under_every_pooling_that_is_asked_for():
    asked = {"layers": ["layer1", "layer4"], "pools": ["avg", "grid:2"], "validate": "cv:3", "search": False}
    result = compare("digits", models=["ridge@layer4", "ridge@layer2", "lda", "finetune:fc"], **asked, **OPTIONS)
    places = [(row.model, row.layer) for row in result.rows]
    assert places[:4] == [("ridge", f"layer{layer}{pool}") for layer in (4, 2) for pool in ("", " (grid:2)")]
    (note,) = (note for note in result.notes if note.startswith("best layer: "))
    chosen = note.removeprefix("best layer: ").split(" pooling)")[0]
    assert chosen in [f"layer{layer} ({pool}" for layer in (1, 4) for pool in ("avg", "grid:2")]
    assert ("lda", "avgpool") in places[4:-1]
    assert places[-1] == ("finetune fc", "avgpool")
    assert {row.first.config.pool for row in result.rows[:-1]} == {"avg", "grid:2"}
    usual = compare("digits", models=["ridge@layer2"], validate="cv:3", search=False, **OPTIONS)
    assert [(row.model, row.layer) for row in usual.rows] == [("ridge", "layer2")]
    assert usual.rows[0].first.metrics.accuracy == result.rows[2].first.metrics.accuracy


def test_what_learns_from_views_and_what_draws_its_own_are_asked_over_them_alike():
    asked = {"views": 2, "test_views": 2, "validate": "holdout", "search": False}
    settings = dataclasses.replace(OPTIONS["settings"], augment=("shift",))
    result = compare("digits", models=["ridge", "scratch"], **asked, **{**OPTIONS, "settings": settings})
    told = {row.model: (row.first.config.views, row.first.config.test_views) for row in result.rows}
    assert told == {"ridge": ("2 shift rotate scale", 2), "scratch": (None, 2)}


def test_regularisers_are_models_of_their_own():
    models = ["finetune:layer4", "finetune:layer4+bss=0.001", "finetune:layer4+l2-sp=0.01+bss=0.001"]
    result = compare("digits", models=models, keep_networks=False, **OPTIONS)
    assert [row.model for row in result.rows] == [
        "finetune layer4",
        "finetune layer4, bss=0.001",
        "finetune layer4, l2-sp=0.01,0.01, bss=0.001",
    ]
    assert not list(Path("results").glob("*/network.safetensors"))


def test_a_regulariser_for_all_leaves_out_the_network_that_it_cannot_act_on():
    models = ["finetune:fc", "finetune:layer4"]
    result = compare("digits", models=models, regularizers=["l2-sp=0.1", "l2"], keep_networks=False, **OPTIONS)
    assert [row.model for row in result.rows] == [
        "finetune fc, l2=0.0001",
        "finetune layer4, l2-sp=0.1,0.01, l2=0.0001",
    ]
    assert "finetune fc goes without l2-sp=0.1,0.01: no pre-trained weight of it trains" in result.notes


def test_networks_from_drawn_weights_go_without_a_probe_and_frozen_statistics():
    settings = TrainingSettings(epochs=1, batch_size=32, precision="float32", init_head="probe", batch_norm="freeze")
    result = compare("digits", models=["convnet", "finetune:fc"], **{**OPTIONS, "settings": settings})
    starts = [row.first.config["training"] for row in result.rows]
    assert [(each["init_head"], each["batch_norm"]) for each in starts] == [("random", "train"), ("probe", "freeze")]
    assert "convnet starts from a random initialisation: no head from a probe, no batch norm frozen" in result.notes


def test_how_networks_are_trained_can_be_options_of_the_call_and_other_names_are_told():
    options = {name: value for name, value in OPTIONS.items() if name != "settings"}
    result = compare("digits", models="convnet", epochs=1, batch_size=64, **options)
    training = result.rows[0].first.config["training"]
    assert (training["epochs"], training["batch_size"]) == (1, 64)
    with pytest.raises(UserError, match="epochs and settings were given"):
        compare("digits", models="convnet", epochs=1, **OPTIONS)
    with pytest.raises(UserError, match="'imagesize' is no option of this call; did you mean image_size"):
        compare("digits", models="convnet", imagesize=32)


def test_models_as_they_are_typed():
    assert parse_model("svm").layers == ("avgpool", "best")
    assert parse_model("svm@layer3").layers == ("layer3",)
    assert parse_model("svm@layer2+layer3").layers == ("layer2+layer3",)
    assert parse_model("finetune").unfreeze == "all"
    spec = parse_model("finetune:layer3+delta=0.01@layer3+layer4+bss")
    assert spec.unfreeze == "layer3"
    assert [str(each) for each in spec.regularizers] == ["delta=0.01@layer3+layer4", "bss=0.001"]
    for text in ("finetune:layer3+delta=0.01@layer3+layer4+bss=0.001", "logistic@layer2+layer3", "untouched"):
        assert str(parse_model(text)) == text
    names = [str(model) for model in default_models(("fc", "layer4", "layer3", "all"))]
    assert names[:6] == ["untouched", "convnet", "scratch", "finetune:fc", "finetune:layer4", "finetune:all"]
    for text, words in (
        ("svn", "did you mean svm"),
        ("svm:layer4", "takes a layer"),
        ("scratch:fc", "only finetune takes"),
        ("finetune@layer3", "only heads take"),
        ("convnet+l2", "backbone that trains"),
        ("finetune:all+l2p=1", "did you mean l2"),
        ("", "no model"),
    ):
        with pytest.raises(UserError, match=words):
            parse_model(text)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--models", "svn"], "did you mean svm"),
        (["--models", "svm", "--epochs", "2"], "--epochs is about networks"),
        (["--models", "svm", "--regularizer", "l2"], "--regularizer is about networks"),
        (["--models", "svm", "convnet", "--init-head", "probe"], "starts from a random initialisation"),
        (["--models", "svm@layer9"], "layer9"),
        (["--models", "finetune:layer9"], "choose from"),
        (["--models", "convnet", "finetune:fc+l2-sp"], "acts on pre-trained weights"),
        (["--models", "untouched", "scratch", "--batch-size", "1"], "batches of one image"),
        (["--csv", "nowhere/a.csv"], "there is no folder nowhere"),
        (["--seeds", "-1"], "--seed -1"),
        (["--dataset", "nothing"], "nothing"),
        (["--optimizer", "rms"], "adamw"),
    ],
)
def test_mistakes_are_one_line(capsys, arguments, words):
    assert run_command(main, ["compare", *DIGITS, *arguments]) == 2
    told = capsys.readouterr().err.strip()
    assert told.startswith("error: ")
    assert "\n" not in told
    assert words in told
    assert not list(Path().glob("results/*"))


def test_quick_says_what_it_leaves_out(capsys):
    arguments = ["compare", "--dataset", "digits", "--weights", "random", "--image-size", "32", "--limit", "100"]
    assert run_command(main, [*arguments, "--quick", "--models", "convnet", "ridge@layer1", "--no-search"]) == 0
    told = capsys.readouterr()
    assert "note: quick: 100 training and 2,000 test images at most, of 32 pixels" in told.out
    assert "convnet: epoch 3" in told.err
    assert "epoch 4" not in told.err
