"""What a choice may go by: scores by name, of labels and of what was predicted for them. Higher is better.

Each takes (labels, predicted, probabilities): whole numbers (N,) from 0 to C - 1, N >= 1, the same, and (N, C) or None.
Values equal those of `Metrics`; the log loss is negated.
"""

from collections.abc import Callable

import numpy as np

from classify.measure.calibration import checked_probabilities, fit_temperature
from classify.measure.intervals import macro_f1 as mean_f1

Score = Callable[[np.ndarray, np.ndarray, np.ndarray | None], float]


def accuracy(labels: np.ndarray, predicted: np.ndarray, probabilities: np.ndarray | None = None) -> float:
    """The share of rows that are right."""
    return float(np.mean(np.asarray(labels) == np.asarray(predicted)))


def balanced_accuracy(labels: np.ndarray, predicted: np.ndarray, probabilities: np.ndarray | None = None) -> float:
    """The mean recall over the classes that occur among the labels (Brodersen et al. 2010)."""
    hits, _, support = _counts(labels, predicted)
    return float(np.mean(hits[support > 0] / support[support > 0]))


def macro_f1(labels: np.ndarray, predicted: np.ndarray, probabilities: np.ndarray | None = None) -> float:
    """The mean F1 over the classes that occur among the labels or the predictions."""
    return float(mean_f1(*_counts(labels, predicted)))


def negative_log_loss(labels: np.ndarray, predicted: np.ndarray, probabilities: np.ndarray | None = None) -> float:
    """The mean logarithm of the label's probability; ValueError without probabilities."""
    if probabilities is None:
        raise ValueError("a log loss is of probabilities, and this head gives none; choose by another score")
    return -log_loss(np.asarray(labels), checked_probabilities(probabilities, len(labels)))[0]


SCORES: dict[str, Score] = {
    "accuracy": accuracy,
    "macro-f1": macro_f1,
    "balanced-accuracy": balanced_accuracy,
    "log-loss": negative_log_loss,
}


def log_loss(labels: np.ndarray, probabilities: np.ndarray) -> tuple[float, int]:
    """The mean of -log of the label's probability, and how many labels had less than eps; probabilities are clipped to
    [eps, 1 - eps] of their own floating type."""
    eps = np.finfo(probabilities.dtype).eps
    of_labels = np.take_along_axis(probabilities, labels[:, None], axis=1)[:, 0]
    losses = -np.log(np.clip(of_labels, eps, 1 - eps), dtype=np.float64)
    return float(losses.mean()), int(np.sum(of_labels < eps))


def validation_scores(
    labels: np.ndarray, predicted: np.ndarray, scores: np.ndarray | None, classes: np.ndarray
) -> dict[str, float]:
    """Every score of what was predicted for validation rows, by its name in a record.

    labels (V,); predicted (V,), or (R, V) of R repeats of folds, whose scores are averaged. scores: (V, K) or
    (R, V, K), logits of any scale for the sorted `classes` (K,), which have all labels among them; the log loss is that
    of their softmax at the one temperature that suits them best, so that heads of all kinds compare. None leaves it
    out.
    """
    from scipy.special import log_softmax

    repeats = np.atleast_2d(predicted)
    kinds = {"accuracy": accuracy, "macro_f1": macro_f1, "balanced_accuracy": balanced_accuracy}
    reached = {
        name: float(np.mean([kind(labels, predictions) for predictions in repeats])) for name, kind in kinds.items()
    }
    if scores is not None:
        logits = np.asarray(scores, dtype=np.float64).reshape(-1, scores.shape[-1])
        codes = np.tile(np.searchsorted(classes, labels), len(repeats))
        logits = log_softmax(logits / fit_temperature(logits, codes), axis=1)
        reached["log_loss"] = float(-logits[np.arange(len(codes)), codes].mean())
    return reached


def _counts(labels: np.ndarray, predicted: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each class that occurs: how often it was right, was predicted, and is."""
    labels, predicted = np.asarray(labels), np.asarray(predicted)
    classes, codes = np.unique(np.concatenate([labels, predicted]), return_inverse=True)
    truth, guess = codes[: len(labels)], codes[len(labels) :]
    size = len(classes)
    hits = np.bincount(truth[truth == guess], minlength=size)
    return hits, np.bincount(guess, minlength=size), np.bincount(truth, minlength=size)
