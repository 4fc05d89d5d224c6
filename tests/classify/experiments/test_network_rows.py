"""Networks on the command line: the same rows as heads, test data last, cache against loop, resume, and mistakes."""

import dataclasses
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from classify.__main__ import main
from classify.experiments import making as making_module
from classify.experiments.fitting import fit, test
from classify.experiments.making import Making, make
from classify.experiments.row import network_row
from classify.experiments.settings import How
from classify.heads.network import batches
from classify.heads.network.settings import TrainingSettings
from classify.heads.regularizers import REGULARIZERS, parse_regularizers
from classify.measure.results import load_results
from classify.use.saved import load_network
from features.commands.options import run_command
from features.datasets import open_dataset
from features.request import Request

DIGITS = ["--dataset", "digits", "--weights", "random", "--image-size", "32", "--limit", "100", "--limit-test", "60"]
FAST = ["--epochs", "1", "--batch-size", "32", "--train-precision", "float32", "--precision", "float32"]
REQUEST = Request(
    dataset="digits", weights="random", image_size=32, limit=100, limit_test=60, precision="float32", device="cpu"
)
SETTINGS = TrainingSettings(epochs=2, batch_size=32, precision="float32")
LAYER4 = {"training": SETTINGS, "unfreeze": "layer4"}


def fit_only(row, say):
    """Train a network and leave it without its test."""
    making = Making(How(say=say))
    making.fit(row)
    return making


@pytest.fixture(autouse=True)
def working_folder(home, tmp_path, monkeypatch) -> Path:
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


def by_head(folder="results"):
    return {row.result.config["head"]: row for row in load_results(folder)}


def test_a_row_that_waits_is_not_fitted_again_by_the_same_run(monkeypatch):
    fitted = []
    monkeypatch.setattr(making_module, "fit", lambda row, how: fitted.append(row.digest) or fit(row, how))
    row = network_row(REQUEST, "finetune", **LAYER4)
    making = Making(How(again=True))
    fields = making.fit(row)
    assert making.fit(row)["validation_accuracy"] == fields["validation_accuracy"]
    assert fitted == [row.digest]
    Making(How(again=True)).fit(row)
    assert fitted == [row.digest] * 2


def test_networks_and_heads_share_validation_and_test_rows_and_the_form_of_a_row(capsys):
    models = ["ridge", "finetune", "convnet", "untouched"]
    assert run_command(main, [*DIGITS, *FAST, "--model", *models, "--unfreeze", "layer4", "--validate", "holdout"]) == 0
    said = capsys.readouterr().out
    assert "to extract: train layer3, 100 x 1,024 numbers" in said
    assert "finetune layer4: epoch 1: loss" in said
    assert "is seen as" in said
    rows = by_head()
    assert set(rows) == set(models)
    head = rows["ridge"].predictions()
    for name, row in rows.items():
        predictions, result = row.predictions(), row.result
        assert np.array_equal(predictions.validation_rows, head.validation_rows), name
        assert np.array_equal(predictions.rows, head.rows), name
        assert result.rows == {**result.rows, "train": 90, "validation": 10, "test": 60}
        truth = open_dataset("digits").load("train").labels[predictions.validation_rows]
        assert result.validation_accuracy == np.mean(predictions.validation_predicted == truth)
        assert result.extra["peak_host_bytes"] > 1e7
        assert result.extra["trained_parameters"] >= 0
    tuned = rows["finetune"].result
    assert tuned.refit is False
    assert tuned.config["training"]["epochs"] == 1
    assert tuned.config["maps"] == "cached"
    assert tuned.keys["train layer3"]["pool"] == "none"
    assert tuned.extra["trained_parameters"] == 8_398_858
    assert {"extract", "fit", "predict"} <= set(tuned.seconds)
    readings = [row.result for row in load_results("results") if row.result.config["head"] == "untouched"]
    assert {result.config["reading"] for result in readings} == {"own", "first", "matched"}


def test_the_network_lies_beside_its_record_and_predicts_the_same():
    saved = make(network_row(REQUEST, "finetune", **LAYER4))
    assert not list(Path("results").glob(".running-*"))
    network = load_network(saved, device="cpu")
    data, predictions = open_dataset("digits").load("test"), saved.predictions()
    proba = network.predict_proba(data.images[predictions.rows])
    np.testing.assert_allclose(proba, predictions.probabilities, atol=1e-5)
    with (saved.path.with_suffix("") / "network.safetensors").open("r+b") as stream:
        stream.seek(-100, 2)
        stream.write(b"other")
    from features.errors import UserError

    with pytest.raises(UserError, match="not the network"):
        load_network(saved)


def test_cached_maps_and_the_frozen_part_in_the_loop_give_the_same_row():
    cached = make(network_row(REQUEST, "finetune", **LAYER4))
    looped = make(network_row(REQUEST, "finetune", **LAYER4, in_loop=True))
    assert cached.result.digest != looped.result.digest
    assert looped.result.config["maps"] == "in the loop"
    np.testing.assert_allclose(cached.predictions().probabilities, looped.predictions().probabilities, atol=1e-4)
    assert np.array_equal(cached.predictions().validation_predicted, looped.predictions().validation_predicted)


@pytest.mark.parametrize("precision", ["bfloat16", "float32"])
def test_several_steps_on_maps_kept_in_float16_cost_no_accuracy_on_real_digits(real_mnist, standin, precision):
    request = Request(
        dataset="mnist", weights=str(standin), image_size=32, limit=1000, limit_test=2000, precision=precision,
        device="cpu",
    )  # fmt: skip
    settings = dataclasses.replace(SETTINGS, precision=precision, steps=32)
    rows = [
        network_row(dataclasses.replace(request, dtype=dtype), "finetune", training=settings, unfreeze="layer4")
        for dtype in ("float32", "float16")
    ]
    whole, half = (make(row) for row in rows)
    assert whole.result.metrics.accuracy > 0.6
    assert abs(whole.result.metrics.correct - half.result.metrics.correct) <= 2  # of 2,000
    if precision == "bfloat16":
        # What was computed in bfloat16 is a float16 number already, so nothing is lost.
        assert np.array_equal(whole.predictions().probabilities, half.predictions().probabilities)
    test_rows = rows[0].source.read("test")
    maps, labels = test_rows.features, test_rows.labels
    rounded = np.asarray(maps, np.float32).astype(np.float16)
    network = load_network(whole, device="cpu")
    right = [int(np.sum(network.predict(inputs) == labels)) for inputs in (np.asarray(maps), rounded)]
    assert abs(right[0] - right[1]) <= 2
    assert np.mean(whole.predictions().predicted == half.predictions().predicted) > 0.97


def test_what_stands_in_results_is_not_trained_again_and_test_data_is_read_last(monkeypatch):
    row = network_row(REQUEST, "convnet", training=SETTINGS)
    events, plain = [], type(open_dataset("digits")).load

    def spy(dataset, split):
        events.append(split)
        return plain(dataset, split)

    first = make(row)
    before = first.path.read_bytes()
    assert make(row, How(say=lambda line: pytest.fail("trained again"))).path == first.path
    assert first.path.read_bytes() == before
    monkeypatch.setattr(type(open_dataset("digits")), "load", spy)
    make(row, How(again=True, say=lambda line: events.append("epoch")))
    assert events[:3] == ["train", "epoch", "epoch"]
    assert events.count("test") == 1
    assert events[-1] == "test"


def test_a_killed_run_carries_on_and_one_that_lacks_its_test_is_not_trained_again():
    row = network_row(REQUEST, "scratch", training=SETTINGS)
    whole = make(row, How(folder=Path("whole")))

    def kill(line):
        if "epoch 1" in line:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit_only(row, say=kill)
    said = []
    fit_only(row, say=said.append)
    assert [line.split(":")[1] for line in said] in ([" epoch 2"], [" epoch 1", " epoch 2"])
    saved = make(row, How(say=said.append))
    assert "trained in an earlier run" in said[-1]
    assert np.array_equal(saved.predictions().probabilities, whole.predictions().probabilities)
    assert saved.result.seconds["fit"] >= sum(epoch["seconds"] for epoch in saved.result.extra["history"])


def test_a_second_process_waits_for_the_first_and_takes_its_result():
    row = network_row(REQUEST, "convnet", training=SETTINGS)
    told, waiting = [], threading.Event()

    def say(line):
        told.append(line)
        waiting.set()

    with ThreadPoolExecutor(1) as pool:
        with Making().alone(row):
            second = pool.submit(make, row, How(say=say))
            assert waiting.wait(60)
            first = test(fit(row), row.source.read("test"))
            row.head.forget(row.place("results"))
            assert not second.done()
        assert second.result(60).path == first.path
    assert told == ["another process is training the same network; waiting to use its result"]
    assert not list(Path("results").glob(".*"))


def test_a_batch_of_rows_is_read_from_the_maps_and_nothing_is_copied(monkeypatch):
    parts = []

    class Watched(batches.Part):
        def __init__(self, whole, rows):
            super().__init__(whole, rows)
            parts.append(self)

    monkeypatch.setattr(batches, "Part", Watched)
    make(network_row(REQUEST, "finetune", **LAYER4))
    assert {isinstance(part.whole, np.memmap) for part in parts} == {True}


def test_settings_and_regularisers_are_part_of_what_a_row_is():
    from classify.heads.regularizers import parse_regularizers

    row = network_row(REQUEST, "finetune", **LAYER4)
    regular = network_row(REQUEST, "finetune", **LAYER4, regularizers=parse_regularizers("bss=0.001"))
    slower = network_row(
        REQUEST, "finetune", training=TrainingSettings(epochs=2, learning_rate=1e-5), unfreeze="layer4"
    )
    assert len({row.digest, regular.digest, slower.digest}) == 3
    assert regular.config["regularizers"] == ["bss=0.001"]
    assert row.config["seed"] == 0
    assert "weights" not in network_row(REQUEST, "scratch", training=SETTINGS).config


def test_the_frozen_part_in_the_loop_and_in_prediction_computes_as_the_maps_were_extracted():
    halves = dataclasses.replace(REQUEST, precision="bfloat16")
    rows = [network_row(halves, "finetune", **LAYER4, in_loop=in_loop) for in_loop in (False, True)]
    cached, looped = (make(row) for row in rows)
    images = open_dataset("digits").load("test").images[:8]
    for saved in (cached, looped):
        network = load_network(saved)
        maps = network._frozen()(network.prepare(images))
        assert torch.equal(maps, maps.bfloat16().float())
    assert looped.result.config["precision"] == "bfloat16"
    assert "precision" not in network_row(REQUEST, "finetune", **LAYER4, in_loop=True).config


@pytest.mark.parametrize("verb", [[], ["compare"]])
def test_help_explains_every_regulariser_with_its_default_strengths(capsys, verb):
    with pytest.raises(SystemExit):
        main([*verb, "--help-all"])
    told = capsys.readouterr().out
    for kind in REGULARIZERS.values():
        (line,) = (line for line in told.splitlines() if line.startswith(f"  {kind.name}="))
        # A description goes on in the next line.
        _, entry = " ".join(told.split()).split(f" {line.split()[0]} {kind.summary}")
        assert parse_regularizers([kind.name]) == parse_regularizers([line.split()[0]])
        assert entry.startswith(" [@LAYER") == kind.layers


def test_top_1_and_top_5_of_a_folder_of_imagenet_that_has_a_test_split_only(real_imagenet, standin, capsys):
    arguments = ["--dataset", f"imagenet:{real_imagenet}", "--weights", str(standin), "--image-size", "96"]
    assert run_command(main, [*arguments, "--limit-test", "40", "--model", "untouched"]) == 0
    (row,) = load_results("results")
    assert row.result.extra["top1"] == row.result.metrics.accuracy
    assert row.result.extra["top5"] > row.result.extra["top1"] > 0.3
    assert "published_top1" not in row.result.extra
    assert "top-5 %" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--model", "finetun"], "did you mean finetune"),
        (["--model", "ridge", "--epochs", "3"], "--epochs is about networks"),
        (["--model", "convnet", "--unfreeze", "fc"], "--unfreeze is about --model finetune"),
        (["--model", "finetune", "--unfreeze", "layr4"], "did you mean layer4"),
        (["--model", "finetune", "--regularizer", "l2sp"], "did you mean l2-sp"),
        (["--model", "finetune", "--layer", "layer2"], "--unfreeze says where"),
        (["--model", "scratch", "--class-weight", "balanced"], "--class-weight is about heads"),
        (["--model", "scratch", "--batch-norm", "freeze"], "starts from a random initialisation"),
        (["--model", "convnet", "--regularizer", "l2"], "acts on a backbone"),
        (["--model", "finetune", "--unfreeze", "layer4", "fc", "--regularizer", "ewc"], "acts on pre-trained weights"),
        (
            ["--model", "untouched", "finetune", "--unfreeze", "layer4", "--regularizer", "delta@layer2"],
            "not above the cut",
        ),
        (["--model", "convnet", "--optimizer", "rms"], "adamw"),
        (["--model", "convnet", "scratch", "--head-multiple", "5"], "convnet, scratch has none"),
        (
            ["--model", "finetune", "--unfreeze", "layer4", "--augment", "shift", "--map-dtype", "float16"],
            "no maps are cached",
        ),
        (["--model", "finetune", "--frozen", "loop"], "with --unfreeze all there is none"),
        (["--model", "scratch", "--epochs", "2", "--steps", "5"], "both say how long"),
        (["--model", "convnet", "--batch-size", "1"], "batches of one image"),
        (["--model", "convnet", "--lr", "1e30", "--optimizer", "sgd", "--epochs", "1"], "try --lr 1e+29"),
        (["--model", "convnet", "--steps", "5", "--patience", "2"], "never stopped early"),
    ],
)
def test_mistakes_are_one_line(capsys, arguments, words):
    assert run_command(main, [*DIGITS, *arguments]) == 2
    told = capsys.readouterr().err.strip()
    assert told.startswith("error: ")
    assert "\n" not in told
    assert words in told
    assert not list(Path().glob("results/*"))
    assert not list(Path().glob("results/.running-*"))
