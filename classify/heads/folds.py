"""The choice of a head's parameters over folds: every row is predicted by heads that have not seen it.

Standardising, reducing and fitting happen inside each fold, on its training part alone. What is shared between folds
only saves work: each candidate is, to its solver's tolerance, what fitting it on the fold's training part gives.
"""

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.special import log_softmax, softmax

from classify.heads import Head
from classify.heads.estimator import of_classes
from classify.heads.on_axes import Reduction
from classify.heads.protocol import Fold
from classify.heads.search import head_path
from classify.measure.calibration import fit_temperature
from classify.measure.scores import negative_log_loss
from features.blocks import in_memory
from features.rows import limit_rows

# labels (N,), predicted (N,) and probabilities (N, K) or None: the higher, the better.
Score = Callable[[np.ndarray, np.ndarray, np.ndarray | None], float]
CLOSE = 1e-12  # means of scores that differ by less differ by rounding
LEAST = float(np.log(np.finfo(np.float64).eps))  # the logarithm that stands for a probability of 0
KEPT_NUMBERS = 50_000_000  # of scores (candidates, R, N, K) in memory at once, float64


@dataclass(frozen=True)
class FoldTrial:
    """One candidate: its parameters, its mean score over the repeats, and the seconds that it added in all folds."""

    params: dict
    score: float
    seconds: float


@dataclass(frozen=True)
class FoldSearch:
    """What was taken and its mean score, all trials from the most to the least regularised, and seconds in all.

    rows: training rows that the search used in the largest fold. predicted: (R, N), in the labels' dtype, by the
    candidate taken, each row by a head that was fitted on all rows outside its fold. scores: float64 (R, N, K) by the
    same heads, as `class_scores` gives them, K the sorted classes of all labels; of a class that the fold's training
    part lacks log-probabilities are LEAST and decision values those of the row's last class. log_probabilities: which
    of the two they are.
    """

    params: dict
    score: float
    trials: tuple[FoldTrial, ...]
    rows: int
    seconds: float
    predicted: np.ndarray = field(compare=False, repr=False)
    scores: np.ndarray = field(compare=False, repr=False)
    log_probabilities: bool = False


def search_folds(
    head: Head,
    features: Any,
    labels: np.ndarray,
    folds: Sequence[np.ndarray],
    *,
    score: Score,
    reduction: Reduction | None = None,
    seed: int = 0,
    class_weight: str | dict | None = None,
    jobs: int | None = None,
    device: str | None = None,
    groups: np.ndarray | None = None,
) -> FoldSearch:
    """Fit every candidate of the head's grid outside each fold and choose by the mean score of what it predicts inside.

    features: (N, D), an array or `Blocks`; labels: (N,); folds: of each repeat the fold's number of every row (N,);
    groups: codes (N,), for heads that hold rows out of those that they are fitted on.
    The folds of a repeat are scored together, so that every class is there whatever a fold holds (Forman and Scholz
    2010), and the repeats' scores are averaged. The best mean is taken; of means that are equal but for rounding the
    more regularised candidate's. Where the head limits its search (`head.search_rows`), a stratified, seeded subset of
    each training part is used, and what was taken is fitted again on all of it. A head with one candidate is fitted on
    each fold and scored. Raises FitError for what the head cannot be fitted on, a training part of one class among it.
    """
    began = time.perf_counter()
    features, labels = in_memory(features), np.asarray(labels)
    for numbers in folds:
        if np.shape(numbers) != (len(labels),) or np.ptp(numbers) == 0:
            raise ValueError(f"a repeat gives each of the {len(labels)} rows a number, of at least two folds")
    if reduction is not None and reduction.kind == "projection":
        # It is drawn, whatever the rows.
        features, reduction = reduction.fit(features[:1]).apply(features), None
    data = _Data(features, labels, tuple(folds), reduction, groups)
    fitting: dict[str, Any] = {"seed": seed, "class_weight": class_weight, "jobs": jobs, "device": device}
    candidates = sorted(head.grid, key=head.complexity)
    at_once = max(1, KEPT_NUMBERS // (len(data.classes) * len(labels) * len(folds)))
    trials: list[FoldTrial] = []
    best: FoldTrial | None = None
    taken: _Outputs | None = None
    for start in range(0, len(candidates), at_once):
        tried = _try(dataclasses.replace(head, grid=tuple(candidates[start : start + at_once])), data, fitting)
        for params, outputs in zip(candidates[start:], tried, strict=False):
            of_repeats = outputs.by_repeat(data.classes, labels, score is negative_log_loss)
            mean = float(np.mean([score(labels, *of_repeat) for of_repeat in of_repeats]))
            trials.append(FoldTrial(dict(params), mean, outputs.seconds))
            # Among equals the first stays: the more regularised.
            if best is None or mean > best.score + CLOSE:
                best, taken = trials[-1], outputs
    assert best is not None and taken is not None  # a grid has its untuned default at least
    rows, most = (max(len(fold.training) for fold in data.split(n, seed)) for n in (head.search_rows, None))
    if rows < most:
        whole = dataclasses.replace(head, grid=(best.params,), search_rows=None)
        taken = _try(whole, data, fitting)[0]
    seconds = time.perf_counter() - began
    predicted = data.classes[taken.predicted]
    return FoldSearch(
        dict(best.params), best.score, tuple(trials), rows, seconds, predicted, taken.scores, taken.log_probabilities
    )


def class_scores(head: Any, X: Any) -> np.ndarray:
    """What a fitted head says for each of its classes, float64 (N, K): log-probabilities, of at least LEAST where they
    are logarithms of shares, of a head that has probabilities; else decision values, those of two classes being minus
    and plus half of the one that tells them apart."""
    if decides_by_logits(head) or (hasattr(head, "decision_function") and not hasattr(head, "predict_proba")):
        columns = _columns(head, head.decision_function(X))
        if columns.shape[1] == len(head.classes_):
            return columns
    if hasattr(head, "predict_proba"):
        return _logarithms(head.predict_proba(X))
    # A head that is not ours may have decisions alone, or values for pairs of classes.
    return np.eye(len(head.classes_))[np.searchsorted(head.classes_, head.predict(X))]


def decides_by_logits(head: Any) -> bool:
    """Whether a head's decision values are the logits of its probabilities, if it has these: so are those of every head
    and network of ours, and need not be another's."""
    return hasattr(head, "decision_function") and getattr(head, "decides_by_logits", hasattr(head, "codes_of"))


def _columns(head: Any, decisions: np.ndarray) -> np.ndarray:
    columns = decisions if decisions.ndim == 2 else np.stack([-decisions, decisions], axis=1) / 2
    return log_softmax(columns, axis=1) if hasattr(head, "predict_proba") else columns


def _logarithms(shares: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(shares, np.exp(LEAST)))


@dataclass(frozen=True, eq=False)
class _Data:
    """The rows, their folds, and how their features are reduced in each."""

    features: Any
    labels: np.ndarray
    folds: tuple[np.ndarray, ...]
    reduction: Reduction | None
    groups: np.ndarray | None
    classes: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "classes", np.unique(self.labels))

    def split(self, most: int | None, seed: int) -> list[Fold]:
        """The folds of all repeats, with at most so many rows to train on."""
        codes = np.searchsorted(self.classes, self.labels)
        folds = []
        for repeat, numbers in enumerate(self.folds):
            for number in np.unique(numbers):
                training, held_out = np.flatnonzero(numbers != number), np.flatnonzero(numbers == number)
                training = training[limit_rows(codes[training], most, seed)]
                folds.append(Fold(repeat, training, held_out, np.unique(codes[training])))
        return folds


class _Outputs:
    """What one candidate says of all rows: numbers of classes (R, N) and scores (R, N, K), filled fold by fold."""

    def __init__(self, data: _Data, log_probabilities: bool) -> None:
        shape = len(data.folds), len(data.labels)
        self.predicted = np.empty(shape, dtype=np.int64)
        self.scores = np.empty((*shape, len(data.classes)))
        self.log_probabilities = log_probabilities
        self.seconds = 0.0

    def keep(self, fold: Fold, predicted: np.ndarray, scores: np.ndarray) -> None:
        """What was said of the rows held out: numbers among the fold's classes (n,), and scores for them (n, k)."""
        self.predicted[fold.repeat, fold.held_out] = fold.classes[predicted]
        every = np.full((len(scores), self.scores.shape[2]), LEAST)
        if not self.log_probabilities:
            every[:] = scores.min(axis=1, keepdims=True)
        every[:, fold.classes] = scores
        self.scores[fold.repeat, fold.held_out] = every

    def by_repeat(
        self, classes: np.ndarray, labels: np.ndarray, always: bool
    ) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
        """Of each repeat the labels predicted (N,) and probabilities (N, K); of decision values none, or `always` those
        at the temperature that suits them best."""
        for predicted, scores in zip(self.predicted, self.scores, strict=True):
            logits: np.ndarray | None = scores
            if not self.log_probabilities:
                codes = np.searchsorted(classes, labels)
                logits = scores / fit_temperature(scores, codes) if always else None
            yield classes[predicted], None if logits is None else softmax(logits, axis=1)


def _try(head: Head, data: _Data, fitting: dict[str, Any]) -> list[_Outputs]:
    """What each candidate of the head's grid says of rows that it has not seen."""
    outputs = [_Outputs(data, hasattr(head.build(**fitting), "predict_proba")) for _ in head.grid]
    folds = data.split(head.search_rows, fitting["seed"])
    before = time.perf_counter()
    for place, candidate, predicted, scores in _said(head, data, folds, fitting):
        outputs[candidate].keep(folds[place], predicted, scores)
        now = time.perf_counter()
        outputs[candidate].seconds += now - before
        before = now
    return outputs


_Said = Iterator[tuple[int, int, np.ndarray, np.ndarray]]


def _said(head: Head, data: _Data, folds: list[Fold], fitting: dict[str, Any]) -> _Said:
    """The numbers of a fold and of a candidate, and what this says of the rows held out, in any order."""
    estimator: Any = head.build(**fitting)
    everything = all(len(fold.training) + len(fold.held_out) == len(data.labels) for fold in folds)
    if hasattr(estimator, "fold_decisions") and everything and data.reduction is None:
        decided = estimator.fold_decisions(data.features, data.labels, folds, head.grid)
        if decided is not None:
            for place, candidate, decisions in decided:
                yield place, candidate, estimator.codes_of(decisions), _columns(estimator, decisions)
            return
    for place, fold in enumerate(folds):
        X, queries = data.features.take(fold.training, axis=0), data.features.take(fold.held_out, axis=0)
        if data.reduction is not None:
            axes = data.reduction.fit(X)
            X, queries = axes.apply(X), axes.apply(queries)
        weights = of_classes(fitting["class_weight"], data.classes[fold.classes])
        estimator = head.build(**(fitting | {"class_weight": weights}))
        fit_params = head.told(None if data.groups is None else data.groups[fold.training])
        said = _said_of(estimator, X, data.labels[fold.training], queries, head.grid, fit_params)
        for candidate, (predicted, scores) in enumerate(said):
            yield place, candidate, predicted, scores


def _said_of(
    estimator: Any, X: Any, y: np.ndarray, queries: Any, candidates: Sequence[dict], fit_params: dict[str, Any]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Numbers of classes (n,) and scores (n, k) of queries (n, D) by each candidate fitted on X (N, D) and y (N,)."""
    if hasattr(estimator, "votes_path"):
        for votes in estimator.votes_path(X, y, queries, candidates):
            yield votes.argmax(axis=1), _logarithms(votes / votes.sum(axis=1, keepdims=True))
    else:
        for fitted in head_path(estimator, X, y, candidates, fit_params):
            if not hasattr(fitted, "codes_of"):  # none of ours
                yield np.searchsorted(fitted.classes_, fitted.predict(queries)), class_scores(fitted, queries)
                continue
            decisions = fitted.decision_function(queries)
            yield fitted.codes_of(decisions), _columns(fitted, decisions)
