"""Heads on what people bring: any scale, constants, few rows, weights of rows, and what can be of no use."""

import numpy as np
import pytest
from scipy.sparse import csr_array

from classify.heads import HEADS
from classify.heads.head2toe import Head2Toe
from classify.heads.knn import KNN
from classify.heads.ridge import Ridge
from classify.heads.scaling import Standardiser
from classify.heads.svm import RBFSVM
from features.errors import UserError

WEIGHTED = ("ridge", "logistic", "linear-svm", "lda", "centroid")
ALL = (*HEADS, "head2toe")


def build(name):
    if name == "head2toe":
        return Head2Toe(fractions=(0.5, 1.0), max_steps=100)
    few = {"linear": {"learning_rate": 0.03, "batch": 16}, "mlp": {"hidden": 16, "learning_rate": 0.03}}
    return HEADS[name].build(**few.get(name, {}))


def blobs(rows=40, width=5, classes=3, seed=0):
    draw = np.random.default_rng(seed)
    labels = np.arange(rows) % classes
    return draw.normal(size=(rows, width)) + 2 * np.eye(classes, width)[labels], labels


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize(
    ("dtype", "power"), [("f4", 63), ("f4", 120), ("f4", -73), ("f4", -110), ("f8", 600), ("f8", -600)]
)
def test_a_head_says_the_same_at_any_scale(name, dtype, power):
    X, y = blobs()
    X = X.astype(dtype)
    expected = build(name).fit(X, y).predict(X)
    assert (expected == y).mean() > 0.6
    scaled = np.ldexp(X, power)
    assert np.isfinite(scaled).all()
    head = build(name).fit(scaled, y)
    assert (head.predict(scaled) == expected).all()
    scores = head.predict_proba(scaled) if name == "knn" else head.decision_function(scaled)
    assert np.isfinite(scores).all()


@pytest.mark.parametrize("name", ALL)
def test_a_head_takes_the_smallest_numbers_there_are_and_queries_from_afar(name):
    X, y = blobs()
    tiny = np.ldexp(X.astype("f4"), -140)
    assert 0 < np.abs(tiny).max() < np.finfo("f4").tiny
    head = build(name).fit(tiny, y)
    assert (head.predict(tiny) == y).mean() > 0.6
    far = np.full((2, X.shape[1]), 3e38, "f4")
    assert np.isin(head.predict(far), y).all()
    assert np.isin(build(name).fit(X.astype("f4"), y).predict(-far), y).all()


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize(
    "X",
    [
        np.ones((4, 10)),
        np.zeros((4, 10)),
        np.ones((5, 10)),  # of which the classes are not equally many
        np.ones((20, 3), "f4"),
        np.eye(2)[np.arange(8) % 2][:, [0, 1] * 6],
    ],
)
def test_features_that_do_not_vary_or_vary_together_are_no_mistake(name, X):
    y = np.arange(len(X)) % 2
    head = build(name).fit(X, y)
    predicted = head.predict(X)
    if len(np.unique(X, axis=0)) > 1 and name != "knn":
        assert (predicted == y).all()
    else:
        assert np.isin(predicted, y).all()


@pytest.mark.parametrize("name", HEADS)
def test_as_many_rows_as_classes_and_a_single_feature_are_enough(name):
    X, y = np.array([[0.0, 1, 0], [1, 0, 0], [2, 2, 5]]), np.array([2, 0, 7])
    assert np.isin(build(name).fit(X, y).predict(X), y).all()
    draw = np.random.default_rng(0)
    y = np.arange(60) % 2
    X = draw.normal(size=(60, 1)) + 4 * y[:, None]
    head = KNN(metric="euclidean") if name == "knn" else build(name)
    assert (head.fit(X, y).predict(X) == y).mean() > 0.9


@pytest.mark.parametrize("name", ALL)
def test_what_no_head_can_use_is_one_line(name):
    X, y = blobs()
    for wrong, labels, words in (
        (X * 1e306, y, "to another scale"),
        (X * 1e-300, y, "to another scale"),
        (csr_array(X), y, "no sparse features"),
        (X, X[:, 0], "Unknown label type: continuous; give a class for each row"),
        (X, np.zeros(len(X), int), "at least two classes to tell apart, and all 40 rows are of one class, 0"),
        (np.where(X > 1, np.nan, X), y, "NaN"),
    ):
        with pytest.raises(UserError, match=words) as caught:
            build(name).fit(wrong, labels)
        assert isinstance(caught.value, ValueError)
        assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="no sparse features"):
        build(name).fit(X, y).predict(csr_array(X))


def test_head2toe_needs_a_second_row_of_each_class():
    X, y = blobs()
    with pytest.raises(UserError, match="class 9 has one; add rows, or give validation_rows"):
        Head2Toe().fit(X, np.where(np.arange(40) == 5, 9, y))


def test_a_float32_mean_takes_nothing_away_from_features_far_from_zero():
    draw = np.random.default_rng(0)
    X = (1e6 + draw.normal(size=(500, 3))).astype("f4")
    scale = Standardiser.fit(X)
    exact = (X.astype(float) - X.mean(axis=0, dtype=float)) / X.std(axis=0, dtype=float)
    # With the mean rounded to float32 it was 0.02.
    assert np.abs(scale.apply(X) - exact).max() < 1e-5
    near = draw.normal(size=(500, 3)).astype("f4") + 3
    fitted = Standardiser.fit(near)
    plain = (near - fitted.mean.astype("f4")) * fitted.factor.astype("f4")
    assert np.array_equal(fitted.apply(near), plain)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_neighbours_of_float64_features_are_told_apart_in_float64(metric):
    angles = 0.5 + 1e-6 * np.arange(200)
    X = np.stack([np.cos(angles), np.sin(angles)], axis=1) * np.random.default_rng(0).uniform(1, 1.001, (200, 1))
    if metric == "euclidean":
        X = np.concatenate([1 + 1e-4 * np.arange(199), [1e3]])[:, None]
    nearest = KNN(k=1, metric=metric).fit(X, np.arange(200) % 2).neighbours(X)[:, 0]
    assert np.array_equal(nearest, np.arange(200))


def test_a_kernel_in_other_units_is_the_same_kernel():
    X, y = blobs(60)
    plain, scaled = RBFSVM().fit(X.astype("f4"), y), RBFSVM().fit(np.ldexp(X.astype("f4"), 63), y)
    assert (plain.unit_, scaled.unit_) == (1, scaled.unit_) != (1, 1)
    assert np.array_equal(plain.n_support_, scaled.n_support_)
    np.testing.assert_allclose(plain.decision_function(X), scaled.decision_function(np.ldexp(X, 63)), rtol=1e-4)


@pytest.mark.parametrize("name", WEIGHTED)
@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("width", [5, 80])
@pytest.mark.parametrize("class_weight", [None, "balanced"])
def test_a_weight_of_three_is_the_row_three_times_and_of_nought_no_row(name, classes, width, class_weight):
    if name == "centroid" and class_weight:
        return
    X, y = blobs(50, width, classes)
    y = np.where(np.arange(50) % 7 == 0, 0, y)
    counts = np.random.default_rng(1).integers(0, 4, 50)
    tight = {"tol": 1e-9} if name in ("logistic", "linear-svm") else {}
    weighted = HEADS[name].build(class_weight=class_weight, **tight).fit(X, y, sample_weight=counts)
    repeated = HEADS[name].build(class_weight=class_weight, **tight).fit(X.repeat(counts, axis=0), y.repeat(counts))
    np.testing.assert_allclose(weighted.coef_, repeated.coef_, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(weighted.intercept_, repeated.intercept_, rtol=1e-5, atol=1e-6)
    # Weights that are all alike change nothing where the penalty does not grow with them.
    if name in ("lda", "centroid"):
        plain = HEADS[name].build(class_weight=class_weight).fit(X, y)
        same = HEADS[name].build(class_weight=class_weight).fit(X, y, sample_weight=np.full(50, 0.3))
        np.testing.assert_allclose(same.coef_, plain.coef_, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        (np.full(40, -1.0), "[Nn]egative"),
        (np.zeros(40), "at least one non-zero"),
        (np.ones(39), "sample_weight.shape"),
        (np.where(np.arange(40) == 3, np.nan, 1), "NaN"),
        (np.arange(40) % 3 == 0, "one class"),
    ],
)
def test_weights_that_are_none_are_one_line(weights, words):
    X, y = blobs()
    with pytest.raises(UserError, match=words) as caught:
        Ridge().fit(X, y, sample_weight=weights)
    assert "\n" not in str(caught.value)
