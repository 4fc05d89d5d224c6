"""Networks on folds, where they are asked for: what is predicted of a row had no say in it, and a kill loses little."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from classify.__main__ import main
from classify.experiments.compare import compare
from classify.experiments.cross_testing import cross_test
from classify.experiments.kinds.classical import Classical
from classify.experiments.making import make
from classify.experiments.row import Row, network_row
from classify.experiments.settings import How, Settings
from classify.experiments.sources import CachedLayer
from classify.heads import HEADS
from classify.heads.network.settings import TrainingSettings
from classify.measure.results import load_results
from extract.planning import plan
from features.commands.options import run_command
from features.datasets import open_dataset
from features.request import Request

SMALL = ["--weights", "random", "--image-size", "32", "--precision", "float32"]
DIGITS = ["--dataset", "digits", *SMALL, "--limit", "90", "--limit-test", "30"]
FAST = ["--epochs", "2", "--batch-size", "32", "--train-precision", "float32"]
ASKED = {"dataset": "digits", "weights": "random", "image_size": 32, "limit": 90, "limit_test": 30}
REQUEST = Request(**ASKED, precision="float32", device="cpu")
# So fast that it learns something in a moment, and overshoots in some epochs.
TRAINING = TrainingSettings(epochs=3, batch_size=16, precision="float32", learning_rate=0.01)


@pytest.fixture(autouse=True)
def working_folder(home, tmp_path, monkeypatch) -> Path:
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


def _row(validate="cv:3", test="split", **training):
    settings = Settings(validate=validate, test=test)
    return network_row(REQUEST, "convnet", training=dataclasses.replace(TRAINING, **training), settings=settings)


def test_only_a_network_on_folds_is_another_row():
    plain, folds = dict(_row("holdout").config), dict(_row("cv:3").config)
    assert plain == dict(network_row(REQUEST, "convnet", training=TRAINING).config)
    assert folds == {**plain, "validate": "cv:3", "refit": True}
    assert dict(_row("holdout", "cv:2").config) == {**plain, "test": "cv:2"}
    assert Row.from_config(_row("cv:3", "cv:2").config).digest == _row("cv:3", "cv:2").digest


def test_a_network_stands_on_the_folds_of_heads_and_is_trained_on_all_rows_for_the_median_of_epochs():
    source = CachedLayer(plan(dataclasses.replace(REQUEST, layers=("layer1",))), "layer1", "avg")
    head = make(Row(source=source, head=Classical(head=HEADS["ridge"]), settings=Settings(validate="cv:3x2")))
    told = []
    network = make(_row("cv:3x2"), How(say=told.append))
    result, predictions, others = network.result, network.predictions(), head.predictions()
    assert np.array_equal(predictions.validation_folds, others.validation_folds)
    assert np.array_equal(predictions.validation_rows, others.validation_rows)
    assert predictions.validation_predicted.shape == (2, 90)
    right = predictions.validation_predicted == predictions.validation_labels
    assert result.validation_accuracy == right.mean() > 0.2
    assert result.rows["train"] == result.training_images == 90
    assert set(result.extra.validation_scores) == {"accuracy", "macro_f1", "balanced_accuracy", "log_loss"}
    epoch = result.chosen["epoch"]
    assert [record["epoch"] for record in result.extra.history] == list(range(1, epoch + 1))
    assert all(record["validation_accuracy"] is None for record in result.extra.history)
    assert sum("more to train, about" in line for line in told) == 6
    assert not list(Path("results").glob(".running-*"))


def test_rows_inside_a_fold_choose_nothing_of_what_predicts_them(tmp_path):
    row = _row("cv:2", "cv:2")
    training = row.training(How(folder=tmp_path / "a"))
    rows = training.required()
    learned, tested = row.head.learn(training), cross_test(row.head, training)
    for fold in range(2):
        for folds, said in ((training.folds[0], learned.predicted[0]), (tested.folds, tested.predicted)):
            inside, labels = folds == fold, rows.labels.copy()
            labels[inside] = np.random.default_rng(fold).permutation(labels[inside])
            place = tmp_path / f"{fold}-{said is tested.predicted}"
            scrambled = dataclasses.replace(training, rows=dataclasses.replace(rows, labels=labels), place=place)
            if said is tested.predicted:
                with pytest.MonkeyPatch.context() as patch:
                    patch.setattr("classify.experiments.cross_testing.outer_folds", lambda *_: tested.folds)
                    again = cross_test(row.head, scrambled)
                assert again.outer[fold] == tested.outer[fold]
                predicted = again.predicted
            else:
                predicted = row.head.learn(scrambled).predicted[0]
            assert np.array_equal(predicted[inside], said[inside])
            assert not np.array_equal(predicted[~inside], said[~inside]), "labels of these rows change nothing at all"


def test_test_images_are_read_after_all_training_on_folds(monkeypatch):
    events, plain = [], type(open_dataset("digits")).load
    row = _row("cv:2")

    def spy(dataset, split):
        events.append(split)
        return plain(dataset, split)

    monkeypatch.setattr(type(open_dataset("digits")), "load", spy)
    make(row, How(say=lambda line: events.append("told")))
    assert events.count("test") == 1 and events[-1] == "test" and events.count("told") > 6


@pytest.mark.parametrize(("row", "last", "after"), [
    (("cv:3",), "fold 2 of 3: epoch 1", "fold 1 of 3: epoch"),
    (("holdout", "cv:3"), "tested on fold 2 of 3: epoch 1", "tested on fold 1 of 3"),
])  # fmt: skip
def test_a_killed_run_trains_no_fold_again(row, last, after):
    row = _row(*row)
    whole = make(row, How(folder=Path("whole")))

    def kill(line):
        if last in line:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make(row, How(say=kill))
    told = []
    saved = make(row, How(say=told.append))
    assert not any(after in line for line in told) and any(last[:-1] in line for line in told)
    for name in ("predicted", "validation_predicted", "probabilities"):
        assert np.array_equal(getattr(saved.predictions(), name), getattr(whole.predictions(), name)), name
    assert not list(Path("results").glob(".running-*"))


def test_what_is_damaged_of_a_fold_is_trained_again_and_a_row_that_waits_keeps_what_was_tested():
    from classify.experiments.making import Making

    row = _row("holdout", "cv:2")
    making = Making(How())
    making.fit(row)
    waiting = row.place(Path("results"))
    (waiting / "tested-1.npz").write_bytes(b"PK damaged")
    told = []
    saved = Making(How(say=told.append))
    saved.fit(row)
    assert told == ["convnet: trained in an earlier run"] or not any("epoch" in line for line in told)
    tested = saved.test()[row.digest].predictions()
    assert len(tested.rows) == 120 and set(tested.folds.tolist()) == {0, 1}
    again = make(row, How(folder=Path("other")))
    assert np.array_equal(again.predictions().probabilities, tested.probabilities)
    # Without what says that it is fitted, the fold whose file is damaged is trained again.
    training = row.training(How(folder=Path("third"), say=told.append))
    cross_test(row.head, training)
    (training.place / "tested-1.npz").write_bytes(b"PK damaged")
    told.clear()
    cross_test(row.head, training)
    assert any("tested on fold 2 of 2: epoch" in line for line in told)
    assert not any("tested on fold 1 of 2: epoch" in line for line in told)


def test_the_cost_is_said_first_and_by_what_a_hold_out_took_where_that_is_known(capsys):
    assert run_command(main, [*DIGITS, *FAST, "--model", "convnet"]) == 0
    assert "cross-validation" not in capsys.readouterr().out
    assert run_command(main, [*DIGITS, *FAST, "--model", "convnet", "ridge", "--validate", "cv:2"]) == 0
    told = capsys.readouterr().out
    assert told.index("the network is trained 3 times instead of once, about ") < told.index("epoch 1")
    assert {row.result.config.validate for row in load_results("results")} == {"cv:2", "holdout"}
    assert run_command(main, [*DIGITS, *FAST, "--model", "convnet", "--lr", "0.1", "--test", "cv:2"]) == 0
    assert "trained 3 times instead of once; how long that takes is said after" in capsys.readouterr().out
    assert run_command(main, [*DIGITS, *FAST, "--model", "convnet", "ridge", "--test", "cv:2"]) == 0
    assert "networks are chosen on a tenth of the training images, held out: " in capsys.readouterr().out


def test_networks_heads_and_the_untouched_one_are_compared_on_the_same_folds():
    told = []
    found = compare(
        **ASKED, precision="float32", models=["ridge@layer1", "convnet", "untouched"], settings=TRAINING,
        validate="cv:3", score="log-loss", say=told.append, progress="off",
    )  # fmt: skip
    assert any("the network is trained 4 times" in line for line in told)
    folds = [row.saved[0].predictions().validation_folds for row in found.rows]
    assert len(folds) == 5 and all(np.array_equal(own, folds[0]) for own in folds)
    assert found.best.model == "ridge" and "(cv:3)" in found.table.title
    assert any("heads and networks alike" in note for note in found.table.notes)


@pytest.fixture
def arrays(tmp_path):
    """A function that writes some digits with the labels that it is given, and gives the data set's spec."""
    images = (load_digits().images * 15).astype(np.uint8)

    def write(labels, **more):
        np.savez(tmp_path / "some.npz", images=images[: len(labels)], labels=labels, **more)
        return f"npz:{tmp_path / 'some.npz'}"

    return write


def test_fewer_folds_are_said_where_a_class_is_small(arrays, capsys):
    spec = arrays([0] * 20 + [1] * 4)
    model = ["--model", "convnet", *FAST, "--validate", "cv:5", "--test", "cv:3"]
    assert run_command(main, ["--dataset", spec, *SMALL, *model]) == 0
    told = capsys.readouterr().out
    assert "3 folds; not 5, since the smallest class has 3 images" in told
    (row,) = load_results("results")
    assert (row.result.config.validate, row.result.config.test) == ("cv:3", "cv:3")


@pytest.mark.parametrize(
    ("labels", "more", "validate", "words"),
    [
        ([0] * 8, {}, "cv:2", "1 class; two are needed"),
        ([0], {}, "cv:2", "1 class; two are needed"),
        ([0] * 8 + [1], {}, "cv:2", "has one image"),
        ([0] * 8 + [1] * 8, {"groups": [0, 1, 2, 3] * 2 + [4] * 8}, "cv:2", "are of one group"),
        ([0] * 8 + [1] * 8, {}, "cv:1", "folds are 2 or more"),
    ],
)
def test_what_cannot_be_dealt_out_is_one_line_before_anything_is_trained(arrays, capsys, labels, more, validate, words):
    spec = arrays(labels, **more)
    assert run_command(main, ["--dataset", spec, *SMALL, "--model", "convnet", *FAST, "--validate", validate]) == 2
    told = capsys.readouterr()
    assert told.err.startswith("error: ") and told.err.strip().count("\n") == 0 and words in told.err
    assert "epoch" not in told.out and not list(Path().glob("results/*"))


def test_folds_of_all_images_beside_a_test_part_are_refused_for_a_network(arrays, capsys):
    spec = arrays([0, 1] * 10, split=["train"] * 14 + ["test"] * 6)
    assert run_command(main, ["--dataset", spec, *SMALL, "--model", "convnet", *FAST, "--test", "cv:2"]) == 2
    assert "has test images of its own" in capsys.readouterr().err
