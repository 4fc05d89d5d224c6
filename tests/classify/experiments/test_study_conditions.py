"""What studies do to images and training sets, and how they judge foreign images: by hand and by properties."""

import types

import numpy as np
import pytest
from sklearn.covariance import LedoitWolf

from classify.experiments.models import parse_model
from classify.experiments.studies.corruptions import CORRUPTIONS, SEVERITIES, corrupt
from classify.experiments.studies.robustness import _corruption_table, mean_corruption_error
from classify.experiments.training_sets import Imbalance, LabelNoise, change_called
from classify.measure.foreign import Mahalanobis, NearestNeighbours, energy_score, separation, softmax_score
from features.datasets import open_dataset
from features.errors import UserError


@pytest.fixture(scope="module")
def digits():
    images = open_dataset("digits").load("train").images[:24]
    # 28 pixels a side, as most digits have.
    return np.pad(images.repeat(3, axis=1).repeat(3, axis=2), ((0, 0), (2, 2), (2, 2)))


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_the_same_corruption_with_the_same_seed_is_the_same_array(digits, name):
    for severity in SEVERITIES:
        once, twice = (corrupt(digits, name, severity, seed=3) for _ in range(2))
        assert once.dtype == np.uint8
        assert once.shape == digits.shape
        assert np.array_equal(once, twice)
        assert not np.array_equal(once, digits)
    if name in ("noise", "occlusion", "rotation", "stripes", "translation", "shear"):
        assert not np.array_equal(corrupt(digits, name, 5, seed=4), corrupt(digits, name, 5, seed=3))


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_corruptions_take_colour_and_leave_what_they_are_given_alone(digits, name):
    colour = np.stack([digits, 255 - digits, digits // 2], axis=-1)
    before = colour.copy()
    assert corrupt(colour, name, 2).shape == colour.shape
    assert np.array_equal(colour, before)


def test_corruptions_do_what_their_names_say(digits):
    assert np.array_equal(corrupt(digits, "inversion", 5), 255 - digits)
    assert corrupt(digits, "scale", 5).astype(float).sum() < 0.4 * digits.astype(float).sum()
    flat = np.full((4, 28, 28), 100, np.uint8)
    assert np.array_equal(corrupt(flat, "blur", 5), flat)
    assert (corrupt(flat, "occlusion", 5) == 128).mean() == pytest.approx((15 / 28) ** 2)
    assert (corrupt(flat, "stripes", 4) == 255).mean() == pytest.approx(2 / 3, abs=0.06)
    assert corrupt(flat, "noise", 3).std() == pytest.approx(0.3 * 255, rel=0.2)
    spread = [corrupt(digits, "contrast", severity).std() for severity in SEVERITIES]
    assert spread == sorted(spread, reverse=True)
    for wrong in (("blurr", 1), ("blur", 6)):
        with pytest.raises(UserError):
            corrupt(digits, *wrong)


def test_more_label_noise_contains_less():
    labels = np.repeat(np.arange(4), 50)
    rows, little = LabelNoise(0.1).apply(labels, 0)
    _, much = LabelNoise(0.4).apply(labels, 0)
    assert np.array_equal(rows, np.arange(200))
    assert (little != labels).sum() == 20
    assert (much != labels).sum() == 80
    assert np.array_equal(much[little != labels], little[little != labels])
    assert set(much) == set(labels)
    assert not np.array_equal(LabelNoise(0.4).apply(labels, 1)[1], much)


def test_imbalance_falls_by_equal_ratios():
    labels = np.tile(np.arange(3), 400)
    rows, kept = Imbalance(100).apply(labels, 0)
    assert sorted(np.bincount(kept)) == [4, 40, 400]
    assert np.array_equal(labels[rows], kept)
    assert np.array_equal(rows, np.unique(rows))


def test_a_change_is_found_again_by_its_name():
    for change in (LabelNoise(0.1), LabelNoise(0.25), Imbalance(100)):
        assert change_called(change.name) == change
    with pytest.raises(UserError, match="upside down"):
        change_called("upside down 3")


def test_mean_corruption_error_is_the_mean_of_ratios():
    reference = {"noise": (0.5, 0.0), "blur": (0.9, 0.7)}
    assert mean_corruption_error(reference, reference) == 1
    assert mean_corruption_error({"noise": (0.75, 0.5), "blur": (0.9, 0.7)}, reference) == pytest.approx(0.75)
    assert mean_corruption_error(reference, {"noise": (1.0, 1.0), "blur": (0.9, 0.7)}) is None


def test_a_mean_corruption_error_of_nought_is_shown_as_such():
    right, wrong = {"noise": (1.0, 1.0)}, {"noise": (0.5, 0.5)}
    result = types.SimpleNamespace(result=types.SimpleNamespace(metrics=types.SimpleNamespace(accuracy=1.0)))
    finetune, scratch = parse_model("finetune:all"), parse_model("scratch")
    table = _corruption_table({finetune: result, scratch: result}, {finetune: right, scratch: wrong}, scratch)
    assert [row[-1] for row in table.rows] == [0, 1]
    assert [cells[-1] for cells in table.cells()] == ["0", "100"]


def test_scores_are_higher_for_what_is_more_foreign():
    random = np.random.default_rng(0)
    labels = np.repeat([0, 1], 300)
    own = random.normal(size=(600, 5)) * [1, 1, 1, 1, 0.01] + labels[:, None] * [6, 0, 0, 0, 0]
    scorer = Mahalanobis.fit(own, labels)
    # Off by the same length: along the axis that hardly varies it is far, along another it is near.
    near, far = np.zeros((1, 5)), np.zeros((1, 5))
    near[0, 1], far[0, 4] = 0.5, 0.5
    assert scorer.score(far) > 10 * scorer.score(near)
    centred = own - np.array([own[labels == label].mean(axis=0) for label in (0, 1)])[labels]
    shrunk = LedoitWolf(assume_centered=True).fit(centred)
    distances = [shrunk.mahalanobis(own - own[labels == label].mean(axis=0)) for label in (0, 1)]
    assert scorer.score(own) == pytest.approx(np.minimum(*distances))
    turned = NearestNeighbours.fit(np.abs(own), k=3)
    assert turned.score(-np.ones((1, 5)))[0] > turned.score(np.abs(own[:1]))[0]
    assert softmax_score(np.array([[0.7, 0.3], [0.5, 0.5]])) == pytest.approx([0.3, 0.5])
    assert energy_score(np.array([[0.0, 0.0], [1000.0, 0.0]])) == pytest.approx([-np.log(2), -1000])


def test_separation_by_hand():
    own = np.arange(100) / 100
    apart = separation(own, own + 2)
    assert (apart.auroc, apart.false_positives) == (1, 0)
    same = separation(own, own)
    assert same.auroc == pytest.approx(0.5)
    assert same.false_positives == pytest.approx(0.95, abs=0.02)
