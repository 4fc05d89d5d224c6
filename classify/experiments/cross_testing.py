"""Testing by cross-validation, `--test cv:K`: all images are tested, each by heads that have not seen it.

For each outer fold a row is learnt anew from the images outside it, its search and its standing included, so that
whatever is chosen there can be tested inside: nothing that is tested has had a say. The row's last fit is on all
images.
"""

import dataclasses
import functools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from classify.experiments.kinds.kind import Kind, Training
from classify.experiments.learning_rows import folds_of_rows
from classify.experiments.settings import Settings
from classify.experiments.sources import Rows
from classify.experiments.validating import HOLDOUT, Folds, parse_folds
from classify.measure.choice import best_merit, merit_of, score_of
from classify.measure.metrics import Metrics, measure
from classify.measure.results import SavedResult
from classify.measure.scores import validation_scores
from classify.measure.wording import count, percent
from features.folds import draw_folds, most_folds
from features.rows import train_and_validation


@dataclass(frozen=True, eq=False)
class CrossTested:
    """What a row says of all images, each out of its outer fold.

    folds and predicted int64 (N,); probabilities float32 (N, classes) or None. outer: of each fold the row's scores on
    what it was chosen on outside, by name, with the number of images there (`rows`).
    """

    folds: np.ndarray
    predicted: np.ndarray
    probabilities: np.ndarray | None
    outer: list[dict[str, float]]


def cross_test(head: Kind, training: Training) -> CrossTested:
    """Learn a row's head outside each outer fold of its settings, and ask it of the images inside."""
    rows = training.required()
    folds = outer_folds(rows.labels, training.settings, rows.groups)
    predicted = np.empty(len(rows.labels), np.int64)
    shares: list[tuple[np.ndarray, np.ndarray]] = []
    outer = []
    for fold in range(folds.max() + 1):
        inside, outside = np.flatnonzero(folds == fold), np.flatnonzero(folds != fold)
        part = _part(head, training, outside).at(f"tested-{fold}", f"tested on fold {fold + 1} of {folds.max() + 1}")
        arrays = head.once(part.place, functools.partial(_outcome, head, part, _rows(head, rows, inside)))
        predicted[inside] = arrays.pop("predicted")
        if "probabilities" in arrays:
            shares.append((inside, arrays.pop("probabilities")))
        outer.append({**{name: float(score) for name, score in arrays.items()}, "rows": len(part.validation)})
    probabilities = None
    if shares:
        probabilities = np.empty((len(rows.labels), shares[0][1].shape[1]), np.float32)
        for inside, of_fold in shares:
            probabilities[inside] = of_fold
    return CrossTested(folds, predicted, probabilities, outer)


def _outcome(head: Kind, part: Training, asked: Rows) -> dict[str, np.ndarray]:
    """What is predicted for the rows of a fold by what is learnt outside it, and the scores that this is chosen by."""
    learned = head.learn(part)
    said = head.predict(learned.classifier, asked, part.source)
    assert learned.predicted is not None  # there is always something to choose on
    known, labels = np.unique(part.required().labels), part.required().labels[part.validation]
    scores = validation_scores(labels, learned.predicted, learned.scores, known)
    probabilities = {} if said.probabilities is None else {"probabilities": said.probabilities}
    return {"predicted": said.predicted, **probabilities, **{name: np.array(value) for name, value in scores.items()}}


def outer_folds(labels: np.ndarray, settings: Settings, groups: np.ndarray | None) -> np.ndarray:
    """The outer fold of each image, (N,), from which whatever is chosen on folds or a hold-out draws anew."""
    asked = parse_folds(settings.test, "--test")
    assert asked is not None
    return draw_folds(labels, count=asked.count, seed=settings.seed, groups=groups)[0]


def _part(head: Kind, training: Training, numbers: np.ndarray) -> Training:
    """The same training on some of its rows."""
    rows, settings = _rows(head, training.required(), numbers), training.settings
    every = np.arange(len(numbers))
    if settings.validate == HOLDOUT:
        classes = training.source.classes
        share = settings.validation_share
        train, held = train_and_validation(rows.labels, settings.seed, True, share, classes, rows.groups)
        return dataclasses.replace(training, rows=rows, train=train, validation=held, folds=None)
    inner = parse_folds(settings.validate)
    assert inner is not None
    # A class may have fewer images, or groups, outside than there are folds for all of them.
    most = most_folds(rows.labels, rows.groups, classes=training.source.classes, where="outside a fold of --test")
    validate = str(Folds(min(inner.count, most), inner.repeats))
    folds = folds_of_rows(rows, dataclasses.replace(settings, validate=validate))
    return dataclasses.replace(training, rows=rows, train=every, validation=every, folds=folds)


def _rows(head: Kind, rows: Rows, numbers: np.ndarray) -> Rows:
    groups = None if rows.groups is None else rows.groups[numbers]
    return Rows(head.take(rows.features, numbers), rows.labels[numbers], rows.index[numbers], groups)


@dataclass(frozen=True, eq=False)
class Procedure:
    """What choosing among rows and predicting by the chosen one comes to, on images that had no say in either.

    metrics: over all images. accuracies: of each fold. chosen: of each fold the place of the row chosen outside it.
    """

    metrics: Metrics
    accuracies: tuple[float, ...]
    chosen: tuple[int, ...]

    def sentence(self, names: Sequence[str]) -> str:
        """What came out, and what the folds chose; names: of the rows."""
        low, high = self.metrics.accuracy_interval
        ends = f"{percent(min(self.accuracies))} to {percent(max(self.accuracies))}"
        return (
            f"tested by cross-validation, the choice included: right on {percent(self.metrics.accuracy)} % of all "
            f"{count(self.metrics.n)} images (95 % interval {percent(low)} to {percent(high)}; folds {ends}); chosen: "
            f"{self.spread(names)}"
        )

    def spread(self, names: Sequence[str]) -> str:
        """What the folds chose, the most frequent first; names: of the rows."""
        counted = Counter(names[place] for place in self.chosen)
        return ", ".join(f"{name} in {times} of {len(self.chosen)}" for name, times in counted.most_common())


def procedure(rows: Sequence[SavedResult]) -> Procedure | None:
    """The choice among rows that were all tested by cross-validation, made anew outside each fold; None for others."""
    results = [saved.result for saved in rows]
    if not results or any(result.extra.outer is None for result in results):
        return None
    predictions = [saved.predictions() for saved in rows]
    first, score = predictions[0], score_of(results)
    assert first.folds is not None
    predicted = np.empty_like(first.predicted)
    whole: Any = all(mine.probabilities is not None for mine in predictions)
    probabilities = np.empty_like(first.probabilities) if whole else None
    chosen, accuracies = [], []
    for fold in range(int(first.folds.max()) + 1):
        merits = [
            merit_of((result.extra.outer or [])[fold], score, numbers=result.extra.features, name=result.digest)
            for result in results
        ]
        place = best_merit(merits)
        inside = first.folds == fold
        predicted[inside] = predictions[place].predicted[inside]
        if probabilities is not None:
            probabilities[inside] = predictions[place].probabilities[inside]  # type: ignore[index]
        chosen.append(place)
        accuracies.append(float(np.mean(predicted[inside] == first.labels[inside])))
    metrics = measure(first.labels, predicted, probabilities, results[0].metrics.classes)
    return Procedure(metrics, tuple(accuracies), tuple(chosen))
