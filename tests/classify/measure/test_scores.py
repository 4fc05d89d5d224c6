"""Scores that a choice may go by, against scikit-learn and against the metrics of a record."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from classify.measure.metrics import measure
from classify.measure.scores import SCORES


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_scores_equal_scikit_learn_and_the_metrics(seed):
    random = np.random.default_rng(seed)
    classes, n = int(random.integers(2, 6)), int(random.integers(1, 40))
    labels, predicted = random.integers(0, classes, (2, n))
    probabilities = random.dirichlet(np.ones(classes), n)
    ours = {name: score(labels, predicted, probabilities) for name, score in SCORES.items()}
    f1 = reference.f1_score(labels, predicted, average="macro", zero_division=0)
    recall = reference.recall_score(labels, predicted, labels=np.unique(labels), average="macro", zero_division=0)
    loss = -reference.log_loss(labels, probabilities, labels=np.arange(classes))
    expected = {"accuracy": np.mean(labels == predicted), "macro-f1": f1, "balanced-accuracy": recall, "log-loss": loss}
    assert ours == pytest.approx(expected, abs=1e-12)
    measured = measure(labels, predicted, probabilities)
    kept = (measured.accuracy, measured.macro_f1, measured.balanced_accuracy, -measured.log_loss)
    assert kept == pytest.approx(tuple(ours.values()), abs=1e-12)
    assert measured.majority == np.bincount(labels).max() / n


def test_unequal_classes_are_seen_through():
    """Saying the larger class of everything."""
    labels, predicted = np.array([0] * 95 + [1] * 5), np.zeros(100, int)
    measured = measure(labels, predicted)
    assert (measured.accuracy, measured.majority, measured.balanced_accuracy) == (0.95, 0.95, 0.5)
    assert SCORES["macro-f1"](labels, predicted, None) == pytest.approx(0.4871794871)


def test_a_log_loss_needs_probabilities():
    with pytest.raises(ValueError, match="choose by another score"):
        SCORES["log-loss"](np.array([0, 1]), np.array([0, 1]), None)
    with pytest.raises(ValueError, match="sum to 1"):
        SCORES["log-loss"](np.array([0]), np.array([0]), np.array([[0.4, 0.4]]))
