"""What rows are chosen on: folds, a hold-out or what `auto` takes; it is told and kept, and is never the test rows."""

import numpy as np
import pytest

from classify import probe
from classify.commands.run import main
from classify.experiments.compare import compare
from classify.experiments.validating import Folds, parse_folds, settled
from classify.heads import HEADS
from classify.measure.results import find_result, load_results
from features.datasets import digits
from features.errors import UserError
from features.folds import draw_folds
from features.reading import read_layer
from features.request import Request, plan
from tests.classify.experiments.test_probe import Watch

ASKED = {"dataset": "digits", "weights": "random", "image_size": 32, "limit": 60, "limit_test": 40}
PLAIN = {"scores": False, "controls": False, "widths": False, "jobs": 1}


def _probe(folder, **changes):
    fields = {**ASKED, **PLAIN, "layers": ("layer1", "layer2"), "heads": ("knn", "ridge"), "results": folder}
    return probe(**{**fields, **changes})


def _request(**changes) -> Request:
    return Request(**{**ASKED, "layers": ("layer1",), **changes}).normalised()


def test_predictions_out_of_folds_are_kept_and_each_is_of_a_head_that_has_not_seen_its_row(home, tmp_path):
    result = _probe(tmp_path, validate="cv:3x2", layers=("layer1",))
    for row in result.rows:
        kept, config = row.saved.predictions(), row.result.config
        assert (config.validate, config.refit, row.result.rows["train"]) == ("cv:3x2", True, 60)
        assert np.array_equal(kept.validation_rows, np.arange(60)) or len(np.unique(kept.validation_rows)) == 60
        assert kept.validation_folds.shape == kept.validation_predicted.shape == (2, 60)
        assert row.validation == pytest.approx(np.mean(kept.validation_predicted == kept.validation_labels))
    features = read_layer(plan(_request()), "layer1", "train")[0].reshape(60, -1)
    knn = next(row for row in result.rows if row.head == "knn")
    kept = knn.saved.predictions()
    assert np.array_equal(kept.validation_folds, draw_folds(kept.validation_labels, count=3, repeats=2, seed=0))
    for predicted, numbers in zip(kept.validation_predicted, kept.validation_folds, strict=True):
        for fold in range(3):
            held = numbers == fold
            head = HEADS["knn"].build(**knn.result.chosen).fit(features[~held], kept.validation_labels[~held])
            assert np.array_equal(head.predict(features[held]), predicted[held])


def test_auto_takes_folds_of_few_rows_says_so_and_is_no_part_of_what_a_row_is(home, tmp_path):
    found = _probe(tmp_path)
    assert found.best.result.config.validate == "cv:5x3"
    assert any(
        note.startswith("chosen by cross-validation, 5 folds, drawn 3 times: 60 training") for note in found.notes
    )
    again = _probe(tmp_path, validate="cv:5x3")
    assert [row.result.digest for row in again.rows] == [row.result.digest for row in found.rows]
    assert again.digest == found.digest
    held = _probe(tmp_path, validate="holdout")
    assert not {"validate", "score"} & set(held.best.result.config)
    assert held.best.result.rows["train"] + held.best.result.rows["validation"] == 60


@pytest.mark.parametrize(
    ("rows", "heads", "taken"),
    [(500, 4, "cv:5x3"), (501, 4, "cv:5"), (5000, 9, "cv:5"), (12_500, 4, "cv:5"), (12_501, 4, "holdout")],
)
def test_auto_goes_by_rows_and_heads(home, rows, heads, taken, monkeypatch):
    labels = np.arange(rows) % 10
    monkeypatch.setattr(digits.Digits, "load", lambda data, split: type("Split", (), {"labels": labels}))
    assert settled("auto", _request(limit=None), ["ridge"] * heads)[0] == taken


def test_fewer_folds_are_drawn_where_a_class_has_too_few_images_and_it_is_said(home, monkeypatch):
    labels = np.repeat([0, 1], [30, 4])
    monkeypatch.setattr(digits.Digits, "load", lambda data, split: type("Split", (), {"labels": labels}))
    on, line = settled("cv:10x2", _request(limit=None), ["ridge"])
    assert on == "cv:4x2"
    assert "not 10, since the smallest class has 4 images" in line


@pytest.mark.parametrize("text", ["cv", "cv:1", "cv:5x0", "cv:5x", "5", "kfold", "cv:-3", ""])
def test_what_is_no_way_of_choosing_is_told_with_those_that_are(text):
    with pytest.raises(UserError, match="give auto, holdout, cv:5 for five folds"):
        parse_folds(text)


def test_folds_are_spelled_in_one_way():
    assert str(parse_folds("cv:5x1")) == "cv:5"
    assert parse_folds("cv:07x2") == Folds(7, 2)
    assert parse_folds("holdout") is parse_folds("auto") is None


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--validate", "cv:5", "--no-refit"], "leave out --no-refit"),
        (["--validate", "cv:0"], "folds are 2 or more"),
        (["--score", "acuracy"], "did you mean accuracy"),
        (["--score", "log-loss", "--validate", "holdout"], "is measured out of folds"),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_extracted(home, arguments, words):
    asked = ["--dataset", "digits", "--weights", "random", "--image-size", "32", "--limit", "60", "--model", "ridge"]
    with pytest.raises(UserError, match=words):
        main([*asked, *arguments])
    assert not list((home / "features").glob("*.h5")) if (home / "features").is_dir() else True


@pytest.mark.parametrize("score", ["macro-f1", "balanced-accuracy"])
def test_hyper_parameters_go_by_the_score_that_was_asked_for(home, tmp_path, score):
    result = _probe(tmp_path, validate="cv:3", score=score, heads=("knn",), layers=("layer1",))
    row, name = result.rows[0].result, score.replace("-", "_")
    best = max(row.extra.trials, key=lambda trial: trial[name])
    assert {key: value for key, value in best.items() if key in row.chosen} == row.chosen
    assert row.config.score == score


def test_nothing_but_the_final_evaluation_opens_the_test_split_on_folds_too(home, tmp_path, monkeypatch):
    _probe(tmp_path / "first", heads=("centroid",))
    watch = Watch(monkeypatch)
    result = _probe(tmp_path / "second", validate="cv:3")
    assert len(result.rows) == 4
    assert sorted(watch.opened) == sorted(set(watch.opened)), "a test split was read more than once"


def test_the_test_rows_have_no_say_in_what_folds_choose(home, tmp_path):
    few, many = (_probe(tmp_path, validate="cv:3", limit_test=number) for number in (20, 200))
    assert [row.accuracy for row in few.rows] != [row.accuracy for row in many.rows]
    assert [(row.validation, row.result.chosen) for row in few.rows] == [
        (row.validation, row.result.chosen) for row in many.rows
    ]
    assert (few.best.layer, few.best.head) == (many.best.layer, many.best.head)


def test_heads_are_compared_on_folds_in_one_row_each(home, tmp_path):
    asked = {**ASKED, "results": tmp_path, "jobs": 1, "layers": ("layer1",)}
    found = compare(models=["knn@layer1", "ridge@layer1"], **asked)
    assert {row.first.config.validate for row in found.rows} == {"cv:5x3"}
    assert [row.refit for row in found.rows] == [True, True]


def test_a_row_on_folds_is_found_again_and_made_again_from_its_record(home, tmp_path):
    from classify.experiments.row import Row

    saved = _probe(tmp_path, validate="cv:3", heads=("knn",), layers=("layer1",)).rows[0].saved
    row = Row.from_config(saved.result.config)
    assert row.settings.validate == "cv:3"
    assert find_result(tmp_path, row.config).path == saved.path
    assert len(load_results(tmp_path)) == 1


def test_a_log_loss_is_worked_out_for_heads_without_probabilities_too(home, tmp_path):
    row = _probe(tmp_path, validate="cv:3", score="log-loss", heads=("ridge",), layers=("layer1",)).rows[0].result
    best = max(row.extra.trials, key=lambda trial: trial["log_loss"])
    assert {key: value for key, value in best.items() if key in row.chosen} == row.chosen
    assert -best["log_loss"] == pytest.approx(row.extra.validation_scores["log_loss"], rel=0.05)


def test_whether_more_images_would_help_is_told_from_halves_of_them(home, tmp_path):
    found = _probe(tmp_path, validate="cv:5", heads=("centroid",), layers=("layer1",), limit=300)
    half, kept = found.best.result.extra.half, found.best.saved.predictions()
    assert half["whole"] == pytest.approx(np.mean(kept.validation_predicted[0] == kept.validation_labels))
    assert half["accuracy"] < half["whole"] + 0.05
    (sentence,) = [sentence for sentence in found.sentences if " more images would" in f" {sentence.lower()}"]
    assert f"{100 * half['accuracy']:.2f} % with half of them, {100 * half['whole']:.2f} % with all" in sentence
    assert ("cannot be told" in sentence) == (half["p_value"] >= 0.05)
    assert found.best.validation == half["whole"] and sentence.endswith("out of folds.")


def test_where_folds_are_drawn_several_times_it_is_said_that_halves_are_of_one_draw(home, tmp_path):
    found = _probe(tmp_path, validate="cv:3x2", heads=("centroid",), layers=("layer1",), limit=100)
    (sentence,) = [sentence for sentence in found.sentences if " more images would" in f" {sentence.lower()}"]
    mean = f"{100 * found.best.validation:.2f} %"
    assert sentence.endswith(f" with all, out of folds drawn once ({mean} with all is the mean of 2 draws).")
    assert f"({mean})" in found.sentences[0]


def test_the_size_of_the_images_is_probed_like_layer_and_pooling(home, tmp_path):
    found = _probe(tmp_path, heads=("centroid",), image_size=(32, 48), validate="cv:3")
    places = [(row.layer, row.pool) for row in found.rows]
    assert places == [(layer, f"avg {size} px") for size in (32, 48) for layer in ("layer1", "layer2")]
    assert {row.result.config.image_size for row in found.rows} == {32, 48}
    assert len(found.standings) == 4
    flops = {(standing.row.layer, standing.row.pool): standing.flops for standing in found.standings}
    assert flops["layer1", "avg 48 px"] > 2 * flops["layer1", "avg 32 px"]
    assert found.sentences[0].startswith(f"Best on validation: {found.best.layer} ({found.best.pool}) with centroid")
    alone = _probe(tmp_path, heads=("centroid",), image_size=48, validate="cv:3")
    assert [row.result.digest for row in alone.rows] == [row.result.digest for row in found.rows[2:]]
    assert [row.pool for row in alone.rows] == ["avg", "avg"]
