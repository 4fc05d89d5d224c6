"""`python -m classify --model ...` as a user meets it, on real digits and on MNIST."""

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score

from classify.__main__ import main
from classify.heads import HEADS
from classify.measure.results import load_results
from features.commands.options import run_command
from features.rows import validation_split

DIGITS = ["--dataset", "digits", "--weights", "random", "--image-size", "32", "--limit", "400", "--limit-test", "150"]


@pytest.fixture(autouse=True)
def working_folder(home, tmp_path, monkeypatch) -> Path:
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


def test_every_head_extracts_what_is_missing_and_keeps_what_came_out(capsys):
    assert run_command(main, [*DIGITS, "--layer", "layer1", "--model", *HEADS]) == 0
    said = capsys.readouterr().out
    assert "to extract: train layer1" in said
    assert "best on validation" in said
    saved = load_results("results")
    assert {row.result.config["head"] for row in saved} == set(HEADS)
    for row in saved:
        result, predictions = row.result, row.predictions()
        assert result.metrics.accuracy == accuracy_score(predictions.labels, predictions.predicted)
        assert result.metrics.macro_f1 == pytest.approx(
            f1_score(predictions.labels, predictions.predicted, average="macro")
        )
        assert result.metrics.accuracy > 0.5, result.config["head"]
        low, high = result.metrics.accuracy_interval
        assert low < result.metrics.accuracy < high
        assert result.rows == {**result.rows, "train": 360, "validation": 40, "test": 150}
        assert {"search", "fit", "predict", "extract"} <= set(result.seconds)
        assert result.keys["train layer1"]["layer"] == "layer1.1.relu_1"
        assert row.load_head().predict(np.zeros((1, 64), np.float32)).shape == (1,)
        assert (result.metrics.log_loss is None) == (predictions.probabilities is None)


def test_the_record_is_json_and_names_command_versions_and_key():
    assert run_command(main, [*DIGITS, "--model", "ridge"]) == 0
    (path,) = Path("results").glob("*.json")
    record = json.loads(path.read_text())["result"]
    assert record["command"].startswith("python -m classify --dataset digits")
    assert record["environment"]["torch"]
    assert len(record["keys"]["train avgpool"]["weights"]) == 64
    assert record["chosen"]["alpha"] > 0
    assert len(record["metrics"]["confusion"]) == 10


def test_a_table_of_layer_by_head_marks_what_was_best_on_validation(capsys):
    assert run_command(main, [*DIGITS, "--layer", "all", "--model", "ridge", "lda"]) == 0
    said = capsys.readouterr().out
    assert "Accuracy on the test set, layer x head" in said
    rows = [line for line in said.splitlines() if line.startswith(("maxpool ", "layer", "avgpool ", "fc "))]
    assert not any(line.startswith("layer4") for line in rows), "avgpool is layer4 pooled: one row"
    results = [row.result for row in load_results("results")]
    top = max(result.validation_accuracy for result in results)
    best = [result.config for result in results if result.validation_accuracy == top]
    assert any(f"best on validation: {config['head']} on {config['layer']} " in said for config in best)


def test_a_row_that_stands_in_results_is_not_made_again_unless_asked(capsys):
    arguments = [*DIGITS, "--model", "lda"]
    assert run_command(main, arguments) == 0
    (path,) = Path("results").glob("*.json")
    before = path.read_bytes()
    time.sleep(1.1)  # records are dated to the second
    capsys.readouterr()
    assert run_command(main, arguments) == 0
    assert "1 of 1 rows stood in results already; --again" in capsys.readouterr().out
    assert path.read_bytes() == before
    assert run_command(main, [*arguments, "--again"]) == 0
    assert path.read_bytes() != before


def test_validation_rows_are_cut_from_training_and_test_rows_stay_out():
    assert run_command(main, [*DIGITS, "--model", "lda", "--layer", "layer2"]) == 0
    (row,) = load_results("results")
    predictions = row.predictions()
    assert len(predictions.validation_rows) == 40
    from features import load_features

    options = {"weights": "random", "image_size": 32, "limit": 400, "limit_test": 150}
    features, labels = load_features("digits", "layer2", **options)
    train, validation = validation_split(labels, np.arange(400), seed=0)
    from features.reading import find_cached
    from features.request import Request, plan

    request = Request(dataset="digits", layers=("layer2",), **options)
    index = find_cached(plan(request).get("layer2", "train"), request).index()
    assert np.array_equal(predictions.validation_rows, index[validation])
    accuracy = float(np.mean(predictions.validation_predicted == labels[validation]))
    assert accuracy == row.result.validation_accuracy


def test_the_test_split_is_read_once_after_everything_is_chosen(monkeypatch):
    from features.store import FeatureFile

    assert run_command(main, [*DIGITS, "--model", "lda"]) == 0
    events = []
    for name in ("features", "whole", "labels"):
        plain = getattr(FeatureFile, name)

        def spy(file, *arguments, _plain=plain, _name=name, **options):
            events.append((file.key.split, _name))
            return _plain(file, *arguments, **options)

        monkeypatch.setattr(FeatureFile, name, spy)
    assert run_command(main, [*DIGITS, "--model", "lda", "ridge", "--again"]) == 0
    reads = [split for split, name in events if name != "labels"]
    assert reads == ["train", "test", "train", "test"]
    assert events.count(("test", "labels")) == 2


def test_the_same_seed_gives_the_same_predictions_and_another_another_split():
    for folder, seed in (("one", "0"), ("two", "0"), ("three", "1")):
        arguments = [*DIGITS, "--model", "linear", "svm", "--results", folder, "--seed", seed]
        assert run_command(main, arguments) == 0
    one, two, three = ([row.predictions() for row in load_results(folder)] for folder in ("one", "two", "three"))
    for first, second, third in zip(one, two, three, strict=True):
        assert np.array_equal(first.predicted, second.predicted)
        assert not np.array_equal(first.validation_rows, third.validation_rows)


def test_real_mnist_through_the_standin(real_mnist, standin, capsys):
    arguments = ["--weights", str(standin), "--image-size", "64", "--limit", "3000", "--limit-test", "1000"]
    assert run_command(main, [*arguments, "--layer", "layer3", "--model", "svm", "logistic"]) == 0
    for row in load_results("results"):
        assert row.result.metrics.accuracy > 0.96


def _fails(capsys, *arguments) -> str:
    assert run_command(main, list(arguments)) == 2
    told = capsys.readouterr().err.strip()
    assert told.startswith("error: ")
    assert "\n" not in told
    return told


def test_mistakes_are_one_line(capsys, real_imagenet):
    assert "logistic" in _fails(capsys, *DIGITS, "--model", "logistik")
    assert "layer3" in _fails(capsys, *DIGITS, "--layer", "layr3")
    told = _fails(capsys, "--dataset", f"imagenet:{real_imagenet}", "--weights", "random", "--image-size", "32")
    assert "train" in told
    assert "centroid" in _fails(capsys, *DIGITS, "--model", "centroid", "--class-weight", "balanced")
    Path("results").write_text("a file in the way")
    assert "results" in _fails(capsys, *DIGITS, "--model", "lda")


def test_balanced_class_weights_raise_the_recall_of_a_rare_class(tmp_path):
    random = np.random.default_rng(0)
    labels = np.repeat([0, 1], [270, 30])
    images = random.integers(0, 120, (300, 8, 8)).astype(np.uint8)
    images[labels == 1, :4] += 12
    np.savez(tmp_path / "rare.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    arguments = ["--dataset", f"npz:{tmp_path / 'rare.npz'}", "--weights", "random", "--image-size", "32"]
    arguments += ["--model", "ridge", "--layer", "layer1", "--no-search"]
    recall = {}
    for name, more in (("plain", []), ("balanced", ["--class-weight", "balanced"])):
        assert run_command(main, [*arguments, *more, "--results", name]) == 0
        recall[name] = load_results(name)[0].result.metrics.recall[1]
    assert recall["balanced"] > recall["plain"]


def test_a_class_that_a_limit_leaves_without_training_rows_is_never_predicted_and_no_error(tmp_path):
    random = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], [100, 100, 3])
    images = random.integers(0, 200, (203, 8, 8)).astype(np.uint8)
    np.savez(tmp_path / "rare.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    arguments = ["--dataset", f"npz:{tmp_path / 'rare.npz'}", "--weights", "random", "--image-size", "32"]
    arguments += ["--layer", "layer1", "--limit", "30", "--model", "logistic", "lda", "knn", "svm"]
    assert run_command(main, arguments) == 0
    for row in load_results("results"):
        assert row.result.metrics.recall[2] == 0
        assert len(row.result.metrics.confusion) == 3


def test_help_takes_less_than_a_third_of_a_second_without_numpy():
    script = (
        "import sys, time; from classify.__main__ import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "assert time.process_time() < 0.3\n"
        "assert not {'numpy', 'torch', 'sklearn', 'rich'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for name in HEADS:
        assert name in done.stdout


def test_a_cached_ridge_never_imports_torch():
    # With a GPU's driver it would, to learn whether heads can run there.
    asked = [*DIGITS, "--device", "cpu"]
    assert run_command(main, [*asked, "--model", "lda"]) == 0
    script = (
        "import sys; from features.commands.options import run_command; from classify.__main__ import main; "
        f"assert run_command(main, {asked!r} + ['--model', 'ridge', 'svm', 'knn', 'logistic']) == 0; "
        "assert not {'torch', 'dask'} & set(sys.modules), 'torch or dask was imported'"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
