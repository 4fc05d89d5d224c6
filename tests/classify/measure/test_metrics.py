"""Metrics against scikit-learn and against numbers worked out by hand."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from classify.measure.metrics import Metrics, measure


@st.composite
def predictions(draw):
    """Labels and predictions in which classes may be absent from either."""
    classes = draw(st.integers(1, 6))
    n = draw(st.integers(1, 40))
    vector = st.lists(st.integers(0, classes - 1), min_size=n, max_size=n)
    return classes, np.array(draw(vector)), np.array(draw(vector))


@given(predictions())
@settings(max_examples=150, deadline=None)
def test_equals_scikit_learn_whatever_classes_are_absent(drawn):
    classes, labels, predicted = drawn
    ours = measure(labels, predicted, classes=[f"c{i}" for i in range(classes)])
    assert ours.accuracy == pytest.approx(reference.accuracy_score(labels, predicted), abs=1e-12)
    assert ours.macro_f1 == pytest.approx(
        reference.f1_score(labels, predicted, average="macro", zero_division=0), abs=1e-12
    )
    expected = reference.precision_recall_fscore_support(labels, predicted, labels=np.arange(classes), zero_division=0)
    for mine, theirs in zip((ours.precision, ours.recall, ours.f1, ours.support), expected, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-12)
    expected = reference.confusion_matrix(labels, predicted, labels=np.arange(classes))
    np.testing.assert_array_equal(ours.confusion, expected)
    assert Metrics.from_json(json.loads(json.dumps(ours.to_json(), allow_nan=False))) == ours


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-12), (np.float32, 1e-5)])
def test_log_loss_equals_scikit_learn_and_counts_what_it_clips(dtype, tolerance):
    random = np.random.default_rng(0)
    labels = random.integers(0, 4, 200)
    probabilities = random.dirichlet(np.full(5, 0.2), 200).astype(dtype)
    probabilities[:3] = np.eye(5, dtype=dtype)[(labels[:3] + 1) % 5]
    probabilities[3] = np.eye(5, dtype=dtype)[labels[3]]
    ours = measure(labels, probabilities.argmax(1), probabilities)
    expected = reference.log_loss(labels, probabilities, labels=np.arange(5))
    assert ours.log_loss == pytest.approx(expected, rel=tolerance)
    assert ours.log_loss_clipped == np.sum(probabilities[np.arange(200), labels] < np.finfo(dtype).eps) >= 3
    assert ours.classes == ("0", "1", "2", "3", "4")
    assert math.isfinite(ours.ece)


def test_by_hand():
    ours = measure(np.array([0, 0, 1, 1]), np.array([0, 1, 1, 1]), classes=("no", "yes"))
    assert ours.correct == 3
    assert ours.precision == (1.0, pytest.approx(2 / 3))
    assert ours.recall == (0.5, 1.0)
    assert ours.f1 == (pytest.approx(2 / 3), pytest.approx(0.8))
    assert ours.confusion == ((1, 1), (0, 2))
    assert ours.log_loss is None and ours.ece is None and ours.log_loss_clipped is None
    assert "accuracy 75.00 %" in str(ours)


def test_a_prediction_that_is_no_class_is_wrong_and_counted():
    ours = measure(np.array([0, 1, 1]), np.array([0, 812, -1]), classes=("a", "b"))
    assert (ours.correct, ours.outside, ours.accuracy) == (1, 2, pytest.approx(1 / 3))
    # Macro F1 is over the two classes of the data set, not over 812 as well.
    assert ours.macro_f1 == pytest.approx(0.5)
    assert Metrics.from_json(ours.to_json()) == ours


@pytest.mark.parametrize(
    ("labels", "predicted", "probabilities", "classes", "message"),
    [
        ([], [], None, (), "whole numbers|at least one"),
        ([0, 1], [0], None, (), "2 labels and 1 predictions"),
        ([0, 2], [0, 1], None, ("a", "b"), "from 0 to 1"),
        ([0, 1], [0.0, 1.0], None, (), "whole numbers"),
        ([0, 1], [0, 1], [[0.5, 0.5]], (), "shape"),
        ([0, 1], [0, 1], [[0.5, 0.4], [0.5, 0.5]], (), "sum to 1"),
        ([0, 1], [0, 1], [[1.5, -0.5], [0.5, 0.5]], (), "sum to 1"),
        ([0, 1], [0, 1], [[np.nan, 1.0], [0.5, 0.5]], (), "sum to 1"),
        ([0, 1], [0, 1], [[0.5, 0.5], [0.5, 0.5]], ("a", "b", "c"), "3 classes"),
    ],
)
def test_what_does_not_fit_is_refused(labels, predicted, probabilities, classes, message):
    with pytest.raises(ValueError, match=message):
        measure(np.array(labels), np.array(predicted), probabilities, classes)


@pytest.mark.parametrize(
    "change",
    [
        {"accuracy": 0.99},
        {"accuracy": float("nan")},
        {"accuracy": 10**400},
        {"n": -4},
        {"confusion": [[1, 1]]},
        {"confusion": [[1, True], [0, 2]]},
        {"classes": "ab"},
        {"f1": [0.1]},
        {"log_loss": "0.3"},
        {"unknown": 1},
    ],
)
def test_metrics_that_cannot_be_are_refused(change):
    fields = measure(np.array([0, 0, 1, 1]), np.array([0, 1, 1, 1])).to_json()
    with pytest.raises(ValueError, match="metrics"):
        Metrics.from_json({**fields, **change})
