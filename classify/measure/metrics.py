"""What one set of predictions is worth: accuracy with its interval, F1, log loss, calibration, confusion.

Values equal scikit-learn's (accuracy_score, precision_recall_fscore_support with zero_division=0, f1_score with
average='macro', log_loss, confusion_matrix), without importing it.
"""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from classify.measure.calibration import checked_probabilities, expected_calibration_error
from classify.measure.intervals import f1_scores, macro_f1, wilson_interval
from classify.measure.scores import log_loss
from classify.measure.wording import percent


@dataclass(frozen=True)
class Metrics:
    """Predictions against labels; fractions lie within 0..1, tuples have one entry for each class.

    accuracy_interval: 95 % Wilson. macro_f1: mean over the classes that occur among the labels or the predictions.
    confusion: C rows of C counts, rows are the truth. outside: predictions that are no class of the data set (a network
    with other classes makes them); they count as wrong and stand in no column. log_loss: mean of -log of the label's
    probability, natural logarithm, probabilities clipped to [eps, 1 - eps] of their own floating type; log_loss_clipped
    says how many labels had less than eps. ece: expected calibration error in 15 bins. The last three are None without
    probabilities.
    """

    n: int
    accuracy: float
    accuracy_interval: tuple[float, float]
    macro_f1: float
    classes: tuple[str, ...]
    precision: tuple[float, ...]
    recall: tuple[float, ...]
    f1: tuple[float, ...]
    support: tuple[int, ...]
    confusion: tuple[tuple[int, ...], ...]
    outside: int = 0
    log_loss: float | None = None
    log_loss_clipped: int | None = None
    ece: float | None = None

    @property
    def correct(self) -> int:
        """How many predictions equal their label."""
        return sum(row[label] for label, row in enumerate(self.confusion))

    @property
    def balanced_accuracy(self) -> float:
        """Mean recall over the classes that occur among the labels."""
        recalls = [recall for recall, images in zip(self.recall, self.support, strict=True) if images]
        return sum(recalls) / len(recalls)

    @property
    def majority(self) -> float:
        """The largest class's share of the rows: what saying the same of every image reaches at best."""
        return max(self.support) / self.n

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {' '.join(str(self).split())[:160]}>"

    def __str__(self) -> str:
        low, high = self.accuracy_interval
        text = (
            f"accuracy {percent(self.accuracy)} % (95 % interval {percent(low)} to {percent(high)}), "
            f"macro F1 {percent(self.macro_f1)} %"
        )
        return text if self.log_loss is None else f"{text}, log loss {self.log_loss:.4f}"

    def to_json(self) -> dict[str, Any]:
        """The fields as a dictionary of plain values."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        fields["confusion"] = [list(row) for row in self.confusion]
        return {name: list(value) if isinstance(value, tuple) else value for name, value in fields.items()}

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> "Metrics":
        """The metrics that `to_json` described; ValueError if they are incomplete or contradict themselves."""
        expected = {field.name for field in dataclasses.fields(cls)}
        if not isinstance(fields, dict) or set(fields) != expected:
            raise ValueError(f"metrics have the fields {', '.join(sorted(expected))}")
        _check_numbers(fields)
        confusion = tuple(map(tuple, fields["confusion"]))
        tuples = {name: tuple(value) for name, value in fields.items() if isinstance(value, list)}
        metrics = cls(**{**fields, **tuples, "confusion": confusion})
        if (
            sum(map(sum, confusion)) + metrics.outside != metrics.n
            or abs(metrics.correct / metrics.n - metrics.accuracy) > 1e-9
        ):
            raise ValueError("the confusion matrix and the accuracy of these metrics contradict each other")
        return metrics


def measure(
    labels: np.ndarray,
    predicted: np.ndarray,
    probabilities: np.ndarray | None = None,
    classes: Sequence[str] = (),
) -> Metrics:
    """Measure predictions against labels.

    labels, predicted: whole numbers (N,), N >= 1, labels from 0 to C - 1. probabilities: (N, C), rows sum to 1.
    classes: the C names; without them classes are numbered as far as labels, predictions or probabilities go.
    ValueError where shapes or values do not fit.
    """
    labels, predicted = _whole_numbers("labels", labels), _whole_numbers("predictions", predicted)
    n = len(labels)
    if n == 0 or len(predicted) != n:
        raise ValueError(f"{n} labels and {len(predicted)} predictions: expected as many of both, and at least one")
    if probabilities is not None:
        probabilities = checked_probabilities(probabilities, n)
    names = _class_names(labels, predicted, probabilities, classes)
    size = len(names)
    if labels.min() < 0 or labels.max() >= size:
        raise ValueError(f"labels go from 0 to {size - 1}, and these from {labels.min()} to {labels.max()}")
    if probabilities is not None and probabilities.shape[1] != size:
        raise ValueError(f"{size} classes need as many columns of probabilities, not {probabilities.shape[1]}")
    inside = (predicted >= 0) & (predicted < size)
    confusion = np.bincount(labels[inside] * size + predicted[inside], minlength=size * size).reshape(size, size)
    support = np.bincount(labels, minlength=size)
    hits, guessed = np.diagonal(confusion), confusion.sum(axis=0)
    correct = int(hits.sum())
    loss, clipped = (None, None) if probabilities is None else log_loss(labels, probabilities)
    return Metrics(
        n=n,
        accuracy=correct / n,
        accuracy_interval=wilson_interval(correct, n),
        macro_f1=float(macro_f1(hits, guessed, support)),
        classes=names,
        precision=tuple((hits / np.maximum(guessed, 1)).tolist()),
        recall=tuple((hits / np.maximum(support, 1)).tolist()),
        f1=tuple(f1_scores(hits, guessed, support).tolist()),
        support=tuple(support.tolist()),
        confusion=tuple(map(tuple, confusion.tolist())),
        outside=int(n - inside.sum()),
        log_loss=loss,
        log_loss_clipped=clipped,
        ece=None if probabilities is None else expected_calibration_error(labels, probabilities),
    )


def _class_names(
    labels: np.ndarray, predicted: np.ndarray, probabilities: np.ndarray | None, classes: Sequence[str]
) -> tuple[str, ...]:
    if len(classes):
        return tuple(map(str, classes))
    columns = 0 if probabilities is None else probabilities.shape[1]
    return tuple(map(str, range(columns or int(max(labels.max(), predicted.max())) + 1)))


def _whole_numbers(quantity: str, values: np.ndarray) -> np.ndarray:
    values = np.asarray(values)
    if values.ndim != 1 or values.dtype.kind not in "iu":
        raise ValueError(f"{quantity} are a vector of whole numbers, not {values.dtype} of shape {values.shape}")
    return values.astype(np.int64)


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**63


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and -1e300 < value < 1e300


def _is_list(value: Any, length: int, check: Callable[[Any], bool]) -> bool:
    return isinstance(value, list) and len(value) == length and all(map(check, value))


def _check_numbers(fields: dict[str, Any]) -> None:
    """ValueError naming the first field whose value cannot be what it should be."""
    size = len(fields["classes"]) if isinstance(fields["classes"], list) else 0
    sound = {
        "n": _is_count(fields["n"]) and fields["n"] > 0,
        "classes": size > 0 and _is_list(fields["classes"], size, lambda name: isinstance(name, str)),
        "accuracy_interval": _is_list(fields["accuracy_interval"], 2, _is_number),
        "support": _is_list(fields["support"], size, _is_count),
        "confusion": _is_list(fields["confusion"], size, lambda row: _is_list(row, size, _is_count)),
        "outside": _is_count(fields["outside"]),
        "log_loss_clipped": fields["log_loss_clipped"] is None or _is_count(fields["log_loss_clipped"]),
    }
    sound |= {name: _is_number(fields[name]) for name in ("accuracy", "macro_f1")}
    sound |= {name: _is_list(fields[name], size, _is_number) for name in ("precision", "recall", "f1")}
    sound |= {name: fields[name] is None or _is_number(fields[name]) for name in ("log_loss", "ece")}
    for name, fine in sound.items():
        if not fine:
            raise ValueError(f"the {name} of these metrics is {str(fields[name])[:60]!r}, which it cannot be")
