"""The choice of a head's parameters on validation rows; the test rows are nobody's business here."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from sklearn.base import clone

from classify.heads import Head
from classify.measure.scores import Score, accuracy
from features.blocks import in_memory
from features.rows import limit_rows


@dataclass(frozen=True)
class Trial:
    """One candidate: its parameters, its accuracy on the validation rows, and the seconds that it added."""

    params: dict
    accuracy: float
    seconds: float


@dataclass(frozen=True)
class Search:
    """What was chosen and its validation accuracy, all trials from the most to the least regularised, the number of
    training rows that the search used, and its seconds.

    predicted: the labels of the validation rows by what was chosen, where all training rows were used: fitting it
    again on them would tell the same.
    """

    params: dict
    accuracy: float
    trials: tuple[Trial, ...]
    rows: int
    seconds: float
    predicted: np.ndarray | None = field(default=None, compare=False, repr=False)


def search(
    head: Head,
    X_train: np.ndarray,
    y_train: np.ndarray,
    X_validation: np.ndarray,
    y_validation: np.ndarray,
    *,
    seed: int = 0,
    class_weight: str | dict | None = None,
    jobs: int | None = None,
    device: str | None = None,
    score: Score = accuracy,
    groups: np.ndarray | None = None,
) -> Search:
    """Fit every candidate of the head's grid on training rows and choose by a score, accuracy, on validation rows.

    score: of labels and predictions alone. groups: of the training rows, for heads that hold some of them out. On a tie
    the more regularised candidate wins. Where the head limits its search (`head.search_rows`), a stratified, seeded
    subset of the training rows is used and its size is in the result.
    """
    began = time.perf_counter()
    rows = limit_rows(y_train, head.search_rows, seed)
    part = len(rows) < len(X_train)
    if part:
        X_train, y_train = X_train.take(rows, axis=0), y_train[rows]
        groups = None if groups is None else groups[rows]
    # What every candidate reads anew is better in memory, where it fits.
    X_train, X_validation = in_memory(X_train), in_memory(X_validation)
    candidates = sorted(head.grid, key=head.complexity)
    estimator = head.build(seed=seed, class_weight=class_weight, jobs=jobs, device=device)
    trials: list[Trial] = []
    best: Trial | None = None
    labels: np.ndarray | None = None
    before, highest = began, 0.0
    for params, predicted in zip(
        candidates,
        _predictions(estimator, X_train, y_train, X_validation, candidates, head.told(groups)),
        strict=True,
    ):
        now = time.perf_counter()
        trials.append(Trial(dict(params), accuracy(y_validation, predicted), now - before))
        before = now
        value = score(y_validation, predicted, None)
        # On a tie the first stays: the more regularised.
        if best is None or value > highest:
            best, highest, labels = trials[-1], value, None if part else predicted
    assert best is not None  # a grid has its untuned default at least
    seconds = time.perf_counter() - began
    return Search(dict(best.params), best.accuracy, tuple(trials), len(rows), seconds, labels)


def _predictions(
    estimator: Any,
    X: np.ndarray,
    y: np.ndarray,
    X_validation: np.ndarray,
    candidates: Sequence[Mapping],
    fit_params: Mapping[str, Any],
) -> Iterator[np.ndarray]:
    """The labels that each candidate predicts: `predict_path(X, y, queries, candidates)` yields them where a head has
    it."""
    if hasattr(estimator, "predict_path"):
        yield from estimator.predict_path(X, y, X_validation, candidates)
    else:
        for fitted in head_path(estimator, X, y, candidates, fit_params):
            yield fitted.predict(X_validation)


def head_path(
    estimator: Any, X: Any, y: np.ndarray, candidates: Sequence[Mapping], fit_params: Mapping[str, Any]
) -> Iterator[Any]:
    """A fitted head for each candidate, sharing work where the head offers it: `fit_path(X, y, candidates)` yields
    fitted heads; one without is fitted once for each. fit_params: what `Head.told` gives for these rows."""
    if hasattr(estimator, "fit_path"):
        yield from estimator.fit_path(X, y, candidates)
    else:
        for params in candidates:
            yield clone(estimator).set_params(**params).fit(X, y, **fit_params)
