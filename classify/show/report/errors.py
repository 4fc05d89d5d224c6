"""Test rows with what a model said of them: those that are mapped, and those that it got wrong."""

from dataclasses import dataclass

import numpy as np

from classify.measure.outcome import Predictions
from classify.show.report.folder import Model

MOST_ERRORS = 24  # shown of one model


@dataclass(frozen=True)
class Shown:
    """A test row with what a model said: class names (None: no class of the data set), and how sure it was."""

    row: int
    truth: str
    said: str | None
    sure: float | None
    label: int

    @property
    def right(self) -> bool:
        """Whether the model was right."""
        return self.truth == self.said


def shown(predictions: Predictions, place: int, classes: tuple[str, ...]) -> Shown:
    """The row at a place of some predictions."""
    label, guess = int(predictions.labels[place]), int(predictions.predicted[place])
    named = 0 <= guess < len(classes)
    sure = None
    if predictions.probabilities is not None and named and guess < predictions.probabilities.shape[1]:
        sure = float(predictions.probabilities[place, guess])
    said = classes[guess] if named else None
    return Shown(int(predictions.rows[place]), classes[label], said, sure, label)


def errors_of(model: Model, classes: tuple[str, ...]) -> list[Shown]:
    """The errors of a model to show: those that it was most sure of, or the first where it gives no probabilities."""
    predictions = model.saved.predictions().of_test_split()
    wrong = np.flatnonzero(predictions.labels != predictions.predicted)
    errors = [shown(predictions, int(place), classes) for place in wrong]
    return sorted(errors, key=lambda error: -(error.sure or 0.0))[:MOST_ERRORS]
