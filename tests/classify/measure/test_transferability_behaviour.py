"""What the scores leave unchanged, what they survive, what they refuse, and that real labels beat shuffled ones."""

import numpy as np
import pytest

from classify.measure.transferability import (
    SCORES,
    cka_to_labels,
    h_score,
    leep,
    linear_cka,
    logme,
    nce,
    regularised_h_score,
    source_probabilities,
    transrate,
)
from features.errors import UserError

FEATURE_SCORES = {name: score.function for name, score in SCORES.items() if score.needs == "features"}
SOURCE_SCORES = {name: score.function for name, score in SCORES.items() if score.needs == "source_probabilities"}


@pytest.fixture(scope="module")
def digits():
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    return images.astype(np.float32), labels


@pytest.fixture
def blobs():
    random = np.random.default_rng(3)
    labels = np.arange(120) % 4
    return random.normal(size=(120, 10)) + random.normal(size=(4, 10))[labels], labels


def rotation(size, seed=0):
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(size, size)))[0]


@pytest.mark.parametrize("name", FEATURE_SCORES)
def test_rotation_and_the_order_of_rows_change_nothing(blobs, name):
    features, labels = blobs
    score = FEATURE_SCORES[name]
    expected = pytest.approx(score(features, labels), rel=1e-9)
    assert score(features @ rotation(10), labels) == expected
    order = np.random.default_rng(0).permutation(120)
    assert score(features[order], labels[order]) == expected


@pytest.mark.parametrize("name", SCORES)
def test_names_of_classes_change_nothing(blobs, name):
    features, labels = blobs
    array = features if name in FEATURE_SCORES else source_probabilities(features)
    function = SCORES[name].function
    assert function(array, np.array([7, 0, 1000, -3])[labels]) == pytest.approx(function(array, labels), rel=1e-9)
    assert function(array, np.array(list("zabc"))[labels]) == pytest.approx(function(array, labels), rel=1e-9)


def test_h_score_ignores_any_invertible_linear_map(blobs):
    features, labels = blobs
    linear_map = rotation(10) * np.logspace(0, -5, 10) @ rotation(10, 1)
    assert h_score(features @ linear_map + 4, labels) == pytest.approx(h_score(features, labels), rel=1e-6)


@pytest.mark.parametrize("scale", [1e-3, 100])
def test_scale_changes_nothing_where_the_paper_says_so(blobs, scale):
    features, labels = blobs
    for score in (h_score, regularised_h_score, FEATURE_SCORES["debiased-cka"]):
        assert score(scale * features, labels) == pytest.approx(score(features, labels), rel=1e-9)


def test_transrate_sees_scale_as_its_description_says(blobs):
    features, labels = blobs
    assert transrate(1e-3 * features, labels) < 0.1 * transrate(features, labels)


def test_logme_hardly_sees_scale(blobs):
    """The prior's variance is fitted, so scale drops out but for the guard of 1e-5."""
    features, labels = blobs
    assert logme(3 * features, labels) == pytest.approx(logme(features, labels), abs=1e-3)


def test_cka_of_a_layer_with_itself_rotated_scaled_and_shifted_is_one(blobs):
    features, _ = blobs
    assert linear_cka(features, 5 * features @ rotation(10) - 2) == pytest.approx(1, rel=1e-9)
    assert linear_cka(features, np.random.default_rng(9).normal(size=(120, 10))) < 0.5
    wide = np.random.default_rng(8).normal(size=(120, 200))
    assert linear_cka(wide, wide @ rotation(200)) == pytest.approx(1, rel=1e-9)


@pytest.mark.parametrize("rows", [200, 500])
def test_the_cka_of_noise_does_not_grow_with_width(rows):
    """With 10 classes on 200 rows the biased form is 0.11 at 64 numbers and 0.19 at 1,000."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 10, rows)
    for width in (8, 64, 256, 1000):
        noise = random.normal(size=(rows, width)).astype(np.float32)
        assert abs(cka_to_labels(noise, labels)) < 0.03
        assert abs(linear_cka(noise, random.normal(size=(rows, 64)))) < 0.06


def test_cka_cannot_be_told_of_what_has_no_spread(digits):
    features, labels = digits
    assert cka_to_labels(np.ones((20, 3)), np.arange(20) % 2) == 0
    assert cka_to_labels(features[:3], labels[:3]) == 0
    # Every image is of a class of its own: all are equally far apart.
    assert cka_to_labels(features[:10], np.arange(10)) == 0
    assert linear_cka(np.eye(30), features[:30]) == 0
    for scale in (1e-30, 1e30):
        assert linear_cka(scale * features[:50].astype(float), features[:50]) == pytest.approx(1, rel=1e-9)


def test_h_score_reaches_its_bounds():
    labels = np.arange(90) % 3
    perfect = np.eye(3)[labels]
    assert h_score(perfect, labels) == pytest.approx(2)
    assert h_score(np.random.default_rng(0).normal(size=(30, 2)).repeat(3, axis=0), labels) == pytest.approx(
        0, abs=1e-9
    )


def awkward_features(kind):
    random = np.random.default_rng(1)
    features = random.normal(size=(60, 12))
    if kind == "constant column":
        features[:, 3] = 0.1
    elif kind == "dead column":
        features[:, 3] = 0
    elif kind == "all constant":
        features[:] = 0.3
    elif kind == "all zero":
        features[:] = 0
    elif kind == "duplicated columns":
        features = np.concatenate([features, features, 3 * features], axis=1)
    elif kind == "duplicated rows":
        features[30:] = features[:30]
    elif kind == "more features":
        features = random.normal(size=(60, 500))
    elif kind == "duplicated, more features":
        features = np.tile(features[:20], (3, 20))
    elif kind == "perfect":
        features = np.eye(5)[np.arange(60) % 5]
    elif kind == "large":
        features *= 1e30
    elif kind == "small":
        features *= 1e-30
    elif kind == "far from zero":
        features += 1e6
    return features.astype(np.float32)


AWKWARD = (
    "constant column",
    "dead column",
    "all constant",
    "all zero",
    "duplicated columns",
    "duplicated rows",
    "more features",
    "duplicated, more features",
    "perfect",
    "large",
    "small",
    "far from zero",
)
LABELS = {
    "plain": np.arange(60) % 5,
    "two of a class": np.r_[0, 0, np.arange(58) % 3 + 1],
    "one of a class": np.r_[9, 4, np.arange(58) % 2],
    "every row its own class": np.arange(60),
    "one class": np.zeros(60, int),
    "gaps": np.array([0, 5, 17])[np.arange(60) % 3],
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS.keys())
@pytest.mark.parametrize("kind", AWKWARD)
def test_scores_stay_finite(kind, labels):
    features = awkward_features(kind)
    for name, score in FEATURE_SCORES.items():
        assert np.isfinite(score(features, labels)), name
    with np.errstate(over="ignore"):
        probabilities = source_probabilities(features)
    for name, score in SOURCE_SCORES.items():
        assert np.isfinite(score(probabilities, labels)), name
        assert score(probabilities, labels) <= 0, name


@pytest.mark.parametrize("kind", ["constant column", "dead column"])
def test_columns_that_say_nothing_change_no_h_score(kind):
    features = awkward_features(kind)
    expected = pytest.approx(h_score(np.delete(features, 3, axis=1), LABELS["plain"]), rel=1e-9)
    assert h_score(features, LABELS["plain"]) == expected
    assert h_score(np.concatenate([features, features], axis=1), LABELS["plain"]) == expected


@pytest.mark.parametrize("name", FEATURE_SCORES)
def test_real_labels_beat_shuffled_ones(digits, name):
    features, labels = digits
    score = FEATURE_SCORES[name]
    shuffled = np.random.default_rng(0).permutation(labels)
    assert score(features, labels) > score(features, shuffled)
    half = labels.copy()
    wrong = np.random.default_rng(1).random(len(labels)) < 0.5
    half[wrong] = shuffled[wrong]
    assert score(features, labels) > score(features, half) > score(features, shuffled)


@pytest.mark.parametrize("name", SOURCE_SCORES)
def test_a_source_head_that_knows_the_digits_beats_one_that_does_not(digits, name):
    features, labels = digits
    centres = np.stack([features[labels == label].mean(axis=0) for label in range(10)])
    distances = ((features[:, None] - centres) ** 2).sum(axis=2)
    knowing = source_probabilities(-distances / 50)
    score = SOURCE_SCORES[name]
    assert score(knowing, labels) > score(knowing, np.random.default_rng(0).permutation(labels))
    assert score(np.eye(10)[labels], labels) == pytest.approx(0, abs=1e-12)


def test_a_uniform_source_head_scores_the_entropy_of_the_labels():
    labels = np.array([0, 0, 0, 1])
    entropy = -(0.75 * np.log(0.75) + 0.25 * np.log(0.25))
    assert leep(np.full((4, 6), 1 / 6), labels) == pytest.approx(-entropy)
    assert nce(np.full((4, 6), 1 / 6), labels) == pytest.approx(-entropy)


@pytest.mark.parametrize("name", FEATURE_SCORES)
def test_half_and_single_precision_agree_with_double(digits, name):
    features, labels = digits
    score = FEATURE_SCORES[name]
    exact = score(features.astype(np.float64), labels)
    assert score(features, labels) == pytest.approx(exact, rel=1e-9)
    assert score(features.astype(np.float16), labels) == pytest.approx(exact, rel=1e-9)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_features_that_are_not_numbers_are_refused_in_words(blobs, bad):
    features, labels = blobs
    features[3, 4] = bad
    for score in FEATURE_SCORES.values():
        with pytest.raises(UserError, match="NaN or infinity in 1 of 10 columns"):
            score(features, labels)
    with pytest.raises(UserError, match="finite numbers"):
        source_probabilities(features)


def test_arrays_that_do_not_fit_are_refused(blobs):
    features, labels = blobs
    for score in FEATURE_SCORES.values():
        with pytest.raises(ValueError, match="labels of shape"):
            score(features, labels[:-1])
    with pytest.raises(ValueError, match="same images"):
        linear_cka(features, features[:-1])
    with pytest.raises(ValueError, match="2-D"):
        h_score(features[:, 0], labels)
    for score in (leep, nce):
        with pytest.raises(ValueError, match="add up to 1"):
            score(features, labels)
