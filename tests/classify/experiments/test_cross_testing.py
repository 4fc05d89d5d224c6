"""Testing by cross-validation: all images are tested, none by what has seen it; the choice is made anew each time."""

import dataclasses

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from classify import probe
from classify.experiments.cross_testing import cross_test, procedure
from classify.experiments.kinds.classical import Classical
from classify.experiments.probe.question import ask
from classify.experiments.row import Row
from classify.experiments.settings import Settings
from classify.experiments.sources import CachedLayer
from classify.experiments.validating import settle
from classify.heads import HEADS
from extract.planning import plan
from features.errors import UserError
from features.request import Request

ASKED = {"dataset": "digits", "weights": "random", "image_size": 32, "limit": 60, "limit_test": 30}
PLAIN = {"scores": False, "controls": False, "widths": False, "jobs": 1}


def _row(head="knn", **changes) -> Row:
    request = Request(**ASKED, layers=("layer1",)).normalised()
    settings = Settings(**{"validate": "cv:3", "test": "cv:4", "jobs": 1, **changes})
    return Row(source=CachedLayer(plan(request), "layer1", "avg"), head=Classical(head=HEADS[head]), settings=settings)


def test_what_is_tested_has_no_say_in_what_is_learnt_searched_or_chosen_outside_its_fold(home):
    row = _row()
    row.source.ensure()
    training = row.training()
    assert len(training.required().labels) == 90
    tested = cross_test(row.head, training)
    assert sorted(set(tested.folds.tolist())) == [0, 1, 2, 3]
    rows = training.required()
    for fold in range(4):
        # Other labels and images inside a fold change nothing of what was learnt outside it.
        inside = tested.folds == fold
        labels, features = rows.labels.copy(), np.array(rows.features)
        labels[inside] = np.random.default_rng(fold).permutation(labels[inside])
        scrambled = dataclasses.replace(rows, labels=labels)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("classify.experiments.cross_testing.outer_folds", lambda *_: tested.folds)
            again = cross_test(row.head, dataclasses.replace(training, rows=scrambled))
            features[inside] = 0
            emptied = dataclasses.replace(rows, features=features)
            blind = cross_test(row.head, dataclasses.replace(training, rows=emptied))
        assert np.array_equal(again.predicted[inside], tested.predicted[inside])
        assert again.outer[fold] == blind.outer[fold] == tested.outer[fold]


@pytest.mark.parametrize("validate", ["holdout", "cv:3"])
def test_the_whole_procedure_is_tested_on_every_image_once(home, tmp_path, validate):
    found = probe(
        **ASKED, **PLAIN, layers=("layer1", "layer2"), heads=("knn", "centroid"), results=tmp_path, test="cv:3",
        validate=validate,
    )  # fmt: skip
    assert found.sentences[1].startswith("Tested by cross-validation, the choice included: ")
    whole = procedure([row.saved for row in found.rows])
    predictions = [row.saved.predictions() for row in found.rows]
    assert whole.metrics.n == 90
    assert len(np.unique(predictions[0].rows)) == 90
    assert len(predictions[0].of_test_split().rows) == 30
    right = 0.0
    for fold, place in enumerate(whole.chosen):
        inside = predictions[place].folds == fold
        right += np.sum(predictions[place].predicted[inside] == predictions[place].labels[inside])
    assert whole.metrics.accuracy == pytest.approx(right / 90)
    assert any(f"right on {100 * right / 90:.2f} % of all 90 images" in sentence for sentence in found.sentences)
    assert found.best.result.config.test == "cv:3"
    again = probe(
        **ASKED, **PLAIN, layers=("layer1", "layer2"), heads=("knn", "centroid"), results=tmp_path, test="cv:3",
        validate=validate,
    )  # fmt: skip
    assert [row.result.created for row in again.rows] == [row.result.created for row in found.rows], "made again"
    assert found.best.result.training_images == 90


@pytest.fixture
def folder(home, tmp_path):
    """A function that makes a folder of real digits, so many of each class, in parts or without."""
    images, labels = load_digits(return_X_y=True)

    def make(each: int, parts: tuple[str, ...] = ("",)) -> str:
        root = tmp_path / f"digits{each}{len(parts)}"
        for label in (3, 5):
            members = iter(np.flatnonzero(labels == label))
            for part in parts:
                (root / part / f"digit {label}").mkdir(parents=True)
                for number in range(each):
                    pixels = (images[next(members)].reshape(8, 8) * 15).astype(np.uint8)
                    Image.fromarray(pixels).save(root / part / f"digit {label}" / f"{number:02}.png")
        return f"folder:{root}"

    return make


def _settled(dataset, **changes):
    request = Request(dataset=dataset, weights="random", image_size=32, layers=("layer1",)).normalised()
    return settle(Settings(**{"validate": "auto", "test": "auto", **changes}), request, ["knn"])


def test_all_images_of_a_small_folder_without_a_test_part_are_tested(folder):
    dataset = folder(12)
    settings, lines = _settled(dataset)
    assert (settings.validate, settings.test) == ("cv:5", "cv:5")
    assert lines[1].startswith(
        "tested by cross-validation of all 24 images, 5 folds, the choice included: no test part"
    )


def test_a_folder_with_a_test_part_is_tested_on_that_and_folds_are_refused(folder):
    dataset = folder(6, ("train", "test"))
    assert _settled(dataset)[0].test == "split"
    with pytest.raises(UserError, match="has test images of its own"):
        _settled(dataset, test="cv:5")


def test_what_cannot_be_tested_so_is_said(folder):
    dataset = folder(12)
    for changes, words in [
        ({"test": "cv:5x2"}, "give auto, split, or cv:5"),
        ({"test": "holdout"}, "give auto, split, or cv:5"),
        ({"test": "cv:5", "refit": False, "validate": "holdout"}, "leave out --no-refit or --test"),
    ]:
        with pytest.raises(UserError, match=words):
            _settled(dataset, **changes)


def test_too_few_images_for_folds_within_folds_are_told_where_they_were_asked_for(folder):
    dataset = folder(3)
    assert _settled(dataset)[0].test == "cv:3"
    with pytest.raises(UserError, match="has one image outside a fold of --test"):
        _settled(dataset, test="cv:2")


@pytest.mark.parametrize(("count", "limit_test"), [(12, None), (300, 2000)])
def test_what_is_quick_is_tested_as_the_whole_of_it_is(home, tmp_path, count, limit_test):
    """A folder of 2,000 images and more is tested on a part of them, which quick may make smaller."""
    draw = np.random.default_rng(0)
    for name in ("a", "b") if count < 100 else map(str, range(10)):
        (tmp_path / "images" / name).mkdir(parents=True)
        for number in range(count):
            image = Image.fromarray(draw.integers(0, 256, (8, 8), np.uint8))
            image.save(tmp_path / "images" / name / f"{number}.png")
    request = Request(dataset=f"folder:{tmp_path / 'images'}", weights="random", image_size=32)
    chosen = Settings(validate="auto", test="auto")
    quick, whole = (ask(request, ["knn"], chosen, is_quick) for is_quick in (True, False))
    assert quick.settings.test == whole.settings.test == ("cv:5" if count < 100 else "split")
    assert quick.request.limit_test == limit_test
