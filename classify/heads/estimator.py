"""What all heads share as scikit-learn classifiers: legal arguments, class weights, threads, linear prediction.

A head's constructor stores its arguments and nothing else. `fit` begins with `HeadClassifier._start`, which checks
the arguments against the class's `LEGAL` table, checks the samples and encodes the labels. Mistakes are raised as
`FitError`, which is both a UserError (one line on the command line) and the ValueError that scikit-learn's users
expect.
"""

import functools
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, ClassVar, Self

import numpy as np
from scipy.sparse import issparse
from scipy.special import log_softmax, softmax
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.utils.multiclass import type_of_target
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, column_or_1d, validate_data
from threadpoolctl import ThreadpoolController

from classify.heads.around import plain_head
from classify.heads.legal import FitError, Number, OneOf
from classify.measure.wording import one_line
from features.blocks import Blocks, memory_told

BLOCK_ROWS = 4096
# Beyond these the largest feature can be neither squared nor inverted in float64.
TINY, HUGE = 1e-290, 1e290
_jobs: ContextVar[int | None] = ContextVar("jobs", default=None)


JOBS = (OneOf((None,)), Number(1, closed=True, integer=True))


class HeadClassifier(ClassifierMixin, BaseEstimator):
    """The base of all heads: sets `classes_` and `n_features_in_` in fit, and checks samples in prediction."""

    jobs: int | None
    classes_: np.ndarray
    n_features_in_: int
    # A file of a fitted head may hold one (`classify.measure.kept_heads`); parts that are no heads say so themselves.
    kept_in_files: ClassVar[bool] = True
    LEGAL: ClassVar[dict[str, tuple]] = {}
    # Whether it learns and predicts in passes over blocks of rows, and so takes `Blocks` in the place of an array.
    BLOCKS: ClassVar[bool] = False

    def _check_arguments(self) -> None:
        for name, rules in self.LEGAL.items():
            value = getattr(self, name)
            if not any(rule.admits(value) for rule in rules):
                raise FitError(
                    f"{name}={value!r} of {type(self).__name__} is not legal; give {', or '.join(map(str, rules))}"
                )

    def _start(self, X: Any, y: Any) -> tuple[np.ndarray, np.ndarray]:
        """Check arguments and samples; X stays as it is where it is float32 or float64, labels become 0 .. K-1."""
        return self._start_weighted(X, y, None)[:2]

    def _start_weighted(self, X: Any, y: Any, sample_weight: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """The same with a weight for each row, float64 (N,), or None where all are alike; rows of no weight are left
        out, labels of theirs too."""
        self._check_arguments()
        X, y = self._validated(X, y, ensure_min_samples=2)
        if (kind := type_of_target(y)) not in ("binary", "multiclass"):
            # scikit-learn's own words first: its users look for them.
            raise FitError(
                f"{type(self).__name__}: Unknown label type: {kind}; give a class for each row, a whole number or text"
            )
        weights = self._row_weights(X, sample_weight)
        if weights is not None and not weights.all():
            kept = np.flatnonzero(weights)
            X, y, weights = X.take(kept, axis=0), y[kept], weights[kept]
        self.classes_, codes = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise FitError(
                f"{type(self).__name__} needs at least two classes to tell apart, and all {len(y)} rows are of one "
                f"class, {self.classes_.tolist()[0]!r}; add rows of another class"
            )
        return X, codes, weights

    def _row_weights(self, X: Any, sample_weight: Any) -> np.ndarray | None:
        if sample_weight is None:
            return None
        try:
            weights = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        except ValueError as error:
            raise FitError(f"{type(self).__name__}: {one_line(error)}") from error
        if not weights.any():  # scikit-learn before 1.9 does not ask
            raise FitError(f"{type(self).__name__}: Sample weights must contain at least one non-zero number.")
        return weights

    def _start_like(self, other: "HeadClassifier") -> None:
        """Begin a fit on the samples that `other` has checked."""
        self._check_arguments()
        for name in ("classes_", "n_features_in_", "feature_names_in_"):
            if hasattr(other, name):
                setattr(self, name, getattr(other, name))

    def codes_of(self, decisions: np.ndarray) -> np.ndarray:
        """The numbers in `classes_` (N,) that decision values say: (N, K), or (N,), positive for the second of two."""
        return (decisions > 0).astype(int) if decisions.ndim == 1 else decisions.argmax(axis=1)

    def logits(self, scores: np.ndarray) -> np.ndarray:
        """Of `class_scores` (N, K) what gives probabilities at some temperature, the largest that of the class decided
        for (N, K)."""
        return scores

    def _samples(self, X: Any) -> np.ndarray:
        check_is_fitted(self)
        return self._validated(X, reset=False)

    def _validated(self, X: Any, *y: Any, **options: Any) -> Any:
        if isinstance(X, Blocks):
            return self._validated_blocks(X, *y, **options)
        name = type(self).__name__
        if issparse(X):
            raise FitError(f"{name} takes no sparse features; give them as a dense array, X.toarray()")
        try:
            checked = validate_data(self, X, *y, dtype=(np.float32, np.float64), **options)
        except ValueError as error:
            # scikit-learn's reasons (NaN, too few columns) go over several lines.
            raise FitError(f"{name}: {one_line(error)}") from error
        samples = checked[0] if y else checked
        if samples.dtype == np.float64 and (largest := np.abs(samples).max()) and not TINY < largest < HUGE:
            raise FitError(
                f"{name}: the largest feature is {largest:.1e}, whose square or inverse overflows; bring the "
                "features to another scale"
            )
        return checked

    def _validated_blocks(self, X: Blocks, *y: Any, reset: bool = True, ensure_min_samples: int = 1) -> Any:
        """The same checks without reading: what the store holds is finite, and verified when it is read."""
        if not self.BLOCKS:
            raise FitError(
                f"{type(self).__name__} needs all of its features in memory: {memory_told(X)}; take a head that "
                "learns in passes (centroid, lda, linear, linear-svm, logistic, mlp, ridge), fewer rows (--limit) or "
                "fewer numbers (--pool, --pca)"
            )
        if reset:
            self.n_features_in_ = X.shape[1]
        elif X.shape[1] != self.n_features_in_:
            raise FitError(
                f"{type(self).__name__}: X has {X.shape[1]} features, but was fitted on {self.n_features_in_}; give it "
                "features of the same layer and pooling"
            )
        if len(X) < ensure_min_samples:
            raise FitError(f"{type(self).__name__} needs at least {ensure_min_samples} rows, not {len(X)}")
        if not y:
            return X
        labels = column_or_1d(y[0])
        if len(labels) != len(X):
            raise FitError(f"{type(self).__name__}: {len(labels)} labels for {len(X)} rows of features")
        return X, labels


def class_shares(
    class_weight: str | dict | None, classes: np.ndarray, codes: np.ndarray, weights: np.ndarray | None = None
) -> np.ndarray:
    """The weight of each class, float64 (K,): 1, or inversely to its frequency ('balanced'), or as a dict says.

    weights: of the rows (N,), which then count so often. A class that a dict leaves out weighs 1. Raises FitError for a
    class that is not there and for a weight that is no positive number.
    """
    if class_weight is None:
        return np.ones(len(classes))
    if isinstance(class_weight, str) and class_weight == "balanced":
        total = len(codes) if weights is None else weights.sum()
        return total / (len(classes) * np.bincount(codes, weights, minlength=len(classes)))
    if not isinstance(class_weight, dict):
        raise FitError(f"class_weight={class_weight!r} is not legal; give None, 'balanced' or a dict of label: weight")
    weights = np.ones(len(classes))
    position = {label: number for number, label in enumerate(classes.tolist())}
    for label, weight in class_weight.items():
        if label not in position:
            raise FitError(f"class_weight names the class {label!r}, which is not among {list(position)[:10]}")
        if not Number(0).admits(weight):
            raise FitError(f"class_weight gives the class {label!r} the weight {weight!r}; give {Number(0)}")
        weights[position[label]] = weight
    return weights


def of_classes(class_weight: str | dict | None, classes: np.ndarray) -> str | dict | None:
    """The weights of these classes alone."""
    if not isinstance(class_weight, dict):
        return class_weight
    there = set(classes.tolist())
    return {label: weight for label, weight in class_weight.items() if label in there}


@contextmanager
def threads(jobs: int | None) -> Iterator[None]:
    """Matrix products on at most `jobs` threads inside the block (None: as the process has it)."""
    if jobs is None:
        yield
        return
    token = _jobs.set(jobs)
    try:
        with _libraries(len(sys.modules)).limit(limits=jobs):
            yield
    finally:
        _jobs.reset(token)


def in_threads(work: Callable[[Any], None], parts: Sequence[Any]) -> None:
    """Work on each part, on as many threads as matrix products may have here: for what they leave to one thread."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    asked = os.environ.get("OMP_NUM_THREADS", "")
    most = min(cores, _jobs.get() or cores, int(asked) if asked.isdigit() and int(asked) else cores, len(parts))
    if most < 2:
        for part in parts:
            work(part)
        return
    with ThreadPoolExecutor(most) as pool:
        for _ in pool.map(work, parts):
            pass


@functools.lru_cache(maxsize=1)
def _libraries(modules: int) -> ThreadpoolController:
    """The libraries with threads in this process: searched for anew only after imports, which alone bring more of
    them, since a search takes longer than many a prediction."""
    return ThreadpoolController()


def row_blocks(count: int, size: int = BLOCK_ROWS) -> Iterator[slice]:
    """Slices that cover `count` rows."""
    return (slice(start, min(start + size, count)) for start in range(0, count, size))


def by_blocks(X: np.ndarray, function: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """`function` over blocks of rows as float64, the results stacked: no copy of X as a whole."""
    return np.concatenate([function(np.asarray(X[rows], dtype=np.float64)) for rows in row_blocks(len(X))])


def trained_parameters(head: Any) -> int | None:
    """How many numbers a fitted head has trained: weights, dual coefficients and intercepts; None for one without."""
    head = plain_head(head)
    head = getattr(head, "head_", head)
    arrays = [getattr(head, name) for name in ("coef_", "coefficients_", "intercept_") if hasattr(head, name)]
    arrays += getattr(head, "parameters_", ())
    return sum(int(np.size(array)) for array in arrays) if arrays else None


class LinearHead(HeadClassifier):
    """A head whose scores are `X @ coef_.T + intercept_`, in float64.

    With two classes there is one row of coefficients, and a positive score means the second class; with K > 2 there
    are K rows.
    """

    BLOCKS = True
    coef_: np.ndarray
    intercept_: np.ndarray

    def _set_plane(self, coef: np.ndarray, intercept: np.ndarray, scale: Any) -> None:
        """Keep weights (D, K) and intercepts (K,) over standardised features as weights over the features given."""
        if len(self.classes_) == 2 and coef.shape[1] == 2:
            coef, intercept = coef[:, 1:] - coef[:, :1], intercept[1:] - intercept[:1]
        raw = coef * scale.factor[:, None]
        self.coef_ = np.ascontiguousarray(raw.T)
        self.intercept_ = intercept - scale.mean @ raw

    def decision_function(self, X: Any) -> np.ndarray:
        """Scores, float64: (N, K), or (N,) with two classes."""
        return self._decided(self._samples(X))

    def _decided(self, X: Any) -> np.ndarray:
        with threads(self.jobs):
            scores = by_blocks(X, lambda block: block @ self.coef_.T + self.intercept_)
        return scores[:, 0] if scores.shape[1] == 1 else scores

    def predict(self, X: Any) -> np.ndarray:
        """The class of the highest score for each row."""
        decisions = self.decision_function(X)
        return self.classes_[self.codes_of(decisions)]


def both_planes(weights: np.ndarray, intercept: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weights (K, D) and intercepts (K,); of the one plane between two classes (1, D) half and its negative, so that
    the softmax of the scores is what it was."""
    if len(weights) > 1:
        return weights, intercept
    return np.concatenate([-weights, weights]) / 2, np.concatenate([-intercept, intercept]) / 2


class PathHead(HeadClassifier):
    """A head that is fitted for many candidates with hardly more work than for one: `_path` fits them in turn."""

    def fit(self, X: Any, y: Any) -> Self:
        """Fit on X (N, D) and labels y (N,); raises FitError for an argument that is not legal."""
        return next(self._path(X, y, [self]))

    def fit_path(self, X: Any, y: Any, candidates: Iterable[dict]) -> Iterator[Self]:
        """A fitted copy for each candidate's parameters, in this order, which may start from the one before."""
        return self._path(X, y, [clone(self).set_params(**params) for params in candidates])

    def _path(self, X: Any, y: Any, heads: list[Self]) -> Iterator[Self]:
        raise NotImplementedError


class WeightedPathHead(PathHead):
    """One whose rows may have weights."""

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Fit on X (N, D) and labels y (N,), each row counting as often as its sample weight (N,) says; raises FitError
        for an argument that is not legal."""
        return next(self._path(X, y, [self], sample_weight))

    def _path(self, X: Any, y: Any, heads: list[Self], sample_weight: Any = None) -> Iterator[Self]:
        raise NotImplementedError


class ProbabilityMixin(LinearHead):
    """Probabilities for a linear head that was fitted by maximum likelihood: the softmax of its scores."""

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities (N, K), in the order of `classes_`."""
        return softmax(self._scores(X), axis=1)

    def predict_log_proba(self, X: Any) -> np.ndarray:
        """The logarithm of `predict_proba`."""
        return log_softmax(self._scores(X), axis=1)

    def _scores(self, X: Any) -> np.ndarray:
        scores = self.decision_function(X)
        return np.stack([np.zeros_like(scores), scores], axis=1) if scores.ndim == 1 else scores
