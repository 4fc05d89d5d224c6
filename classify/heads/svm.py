"""Support vector machine with an RBF kernel: scikit-learn's problem, solved and predicted faster.

Training is our own (`solvers.dual`) as long as few enough rows of each pair of classes enter its solution, and there
are not thousands of pairs of a few rows each. Else it is done by scikit-learn-intelex where it is installed (extra
`fast`), or by scikit-learn's SVC; neither is patched into scikit-learn. Prediction is our own: the kernel between a
block of rows and all support vectors is one matrix product, shared by all pairs of classes, in float64: in float32 some
BLAS kernels (OpenBLAS' for Haswell) round a row in another way at another place among its neighbours, by more than
scikit-learn allows.
"""

import contextlib
import functools
import importlib.util
import itertools
import platform
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning

from classify.heads.estimator import JOBS, Number, PathHead, class_shares, of_classes, row_blocks, threads
from classify.heads.protocol import Fold
from classify.heads.scaling import FAR, Standardiser, middle
from classify.heads.solvers.dual import Dual, TooManyRows
from classify.heads.solvers.many_classes import ROWS, ManyClasses
from classify.heads.solvers.pair_folds import FoldPart, SharedRows
from classify.heads.solvers.pairs import (
    FINE,
    Penalties,
    decisions_of_pairs,
    rbf,
    solve_pairs,
    squared_distances,
    squared_lengths,
)
from classify.heads.solvers.small_pairs import stretches
from features.commands.speaking import tell

MANY_ROWS = 10_000
MODERATE = 60.0  # binary digits of the total variance up to which float32 holds all squares and sums
LARGEST_GAMMA = 1e30
SHARED_ROWS = 6_000  # of which the distances from each other, for all folds of a search, take 144 MB
KERNEL_NUMBERS = 8_000_000  # of the kernel kept in memory at once in prediction, float64
SAID_NUMBERS = 32_000_000  # of what the classes' vectors say in prediction against each rival, float64, at once
MANY_PAIRS = 1_000  # of classes, of FEW_EACH rows or less, that LIBSVM solves sooner one by one
FEW_EACH = 12
VECTORS = 4_000  # of as many classes as have no more together, float64 at once in prediction


def solver_name() -> str:
    """The package that solves what is too large for the solver here: 'sklearnex' where installed, else 'sklearn'."""
    return "sklearnex" if importlib.util.find_spec("sklearnex") else "sklearn"


@functools.cache
def _say_what_is_faster() -> None:
    # On rows that nearly all become support vectors it took a third of scikit-learn's time.
    if solver_name() == "sklearn" and platform.machine() in ("x86_64", "AMD64"):
        tell("svm: with this many support vectors several times faster after pip install 'layerprobe[fast]'")


def _svc(solver: str) -> type:
    if solver == "sklearnex":
        from sklearnex.svm import SVC
    else:
        from sklearn.svm import SVC
    return SVC


@dataclass(eq=False, repr=False)
class RBFSVM(PathHead):
    """Kernel exp(-width * |a - b|^2 / V), V the total variance of the training features; one class against one.

    C: inverse penalty. width: 1 is scikit-learn's gamma='scale' on centred features. tol: the largest violation of the
    optimality conditions at which the solver stops, as in scikit-learn. max_iter: limit of solver steps (-1: none);
    `converged_` says whether the solver ended by itself. class_weight: None, 'balanced' or a dict. jobs: threads.
    Features are centred and otherwise left as they are, since the width follows their variance. It has
    scores and no probabilities.
    """

    LEGAL = {
        "C": (Number(0),),
        "width": (Number(0),),
        "tol": (Number(0),),
        "max_iter": (Number(1, closed=True, integer=True), Number(-1, -1, closed=True, integer=True)),
        "jobs": JOBS,
    }
    # Nothing but its support vectors, `support_` among the rows, decides what it learns.
    HAS_SUPPORT: ClassVar[bool] = True
    mean_: np.ndarray = field(init=False)
    # The rows that are support vectors (S,), those of a class together; absent in heads that were saved before.
    support_: np.ndarray = field(init=False)
    # A power of two by which centred features are multiplied where their squares would be no numbers of float32, and
    # the kernel's gamma for what comes of it; 1 in heads that were saved before there was one.
    unit_: float = field(init=False, default=1.0)
    gamma_: float = field(init=False)
    C: float = 10.0
    _: KW_ONLY
    width: float = 1.0
    tol: float = 1e-3
    max_iter: int = -1
    class_weight: str | dict | None = None
    jobs: int | None = None

    def _path(self, X: Any, y: Any, heads: list[Self]) -> Iterator[Self]:
        X, codes = self._start(X, y)
        shares = class_shares(self.class_weight, self.classes_, codes)
        scale = Standardiser.fit(X)
        unit = _unit(scale.factor)
        variance = _total_variance(scale, unit)
        for head in heads:
            head._start_like(self)
            head.mean_, head.unit_, head.gamma_ = scale.mean, unit, head._gamma(variance)
        counts = np.bincount(codes)
        order = np.argsort(codes, kind="stable")
        rows = heads[0]._centred(X, order)
        with threads(self.jobs):
            solved = None
            pairs = len(counts) * (len(counts) - 1) // 2
            tiny = len(heads) == 1 and pairs >= MANY_PAIRS and len(rows) <= FEW_EACH * len(counts)
            if not tiny:
                with contextlib.suppress(TooManyRows):
                    solved = solve_pairs(rows, counts, [head._penalties(shares) for head in heads])
            for number, head in enumerate(heads):
                if solved is None:
                    # With tiny pairs scikit-learn-intelex takes three times as long as LIBSVM.
                    solver = "sklearn" if tiny else solver_name()
                    head._fit_by_library(solver, rows, np.repeat(np.arange(len(counts)), counts), shares)
                else:
                    head._keep_pairs(rows, counts, [duals[number] for duals in solved])
                head.support_ = order[head.support_]
                yield head

    def fold_decisions(
        self, X: Any, y: Any, folds: Sequence[Fold], candidates: Sequence[dict]
    ) -> Iterator[tuple[int, int, np.ndarray]] | None:
        """The numbers of a fold and of a candidate, and the decision values of the rows held out by that candidate
        fitted on the fold's training part, in any order; None where work cannot be shared.

        Distances do not depend on where the origin is: all folds share one matrix of them.
        """
        X, codes = self._start(X, y)
        heads = [clone(self).set_params(**params) for params in candidates]
        for head in heads:
            head._start_like(self)
        scales = [Standardiser.fit(X[fold.training]) for fold in folds]
        exact = any(head.max_iter != -1 or head.tol < FINE for head in heads)
        if exact or len(X) > SHARED_ROWS or any(_unit(scale.factor) != 1 for scale in scales):
            return None
        # Rows far off that one fold holds out change nothing of its own digits.
        self.mean_ = middle(X, [fold.held_out for fold in folds])
        order = np.argsort(codes, kind="stable")
        with threads(self.jobs):
            shared = SharedRows(self._centred(X, order), np.bincount(codes))
        place = np.argsort(order)
        parts = []
        for fold, scale in zip(folds, scales, strict=True):
            if len(fold.classes) < 2:
                return None
            known, kept = self.classes_[fold.classes], np.searchsorted(fold.classes, codes[fold.training])
            shares = class_shares(of_classes(self.class_weight, known), known, kept)
            variance = _total_variance(scale, 1.0)
            gammas = [head._gamma(variance) for head in heads]
            costs = [head.C * shares for head in heads]
            parts.append(FoldPart(np.sort(place[fold.training]), place[fold.held_out], fold.classes, gammas, costs))
        return self._over_folds(shared, parts, heads)

    def _over_folds(
        self, shared: SharedRows, parts: list[FoldPart], heads: list[Self]
    ) -> Iterator[tuple[int, int, np.ndarray]]:
        for width in sorted({head.width for head in heads}):
            chosen = sorted((n for n, head in enumerate(heads) if head.width == width), key=lambda n: heads[n].C)
            with threads(self.jobs):
                starts = shared.starts(parts, chosen, self.tol)
            for place, part in enumerate(parts):
                with threads(self.jobs):
                    decided = shared.decisions(part, chosen, starts, self.tol)
                for number, decisions in zip(chosen, decided, strict=True):
                    yield place, number, decisions

    def _gamma(self, variance: float) -> float:
        return min(float(self.width / variance), LARGEST_GAMMA) if variance else 1.0

    def _penalties(self, shares: np.ndarray) -> Penalties:
        return Penalties(self.gamma_, tuple((self.C * shares).tolist()), self.tol, self.max_iter)

    def _keep_pairs(self, rows: np.ndarray, counts: np.ndarray, duals: list[Dual]) -> None:
        """Keep what prediction needs: vectors float32 (S, D), ordered by class, and their coefficients by rival."""
        bounds = np.concatenate([[0], np.cumsum(counts)])
        coefficients = np.zeros((len(rows), len(counts) - 1), dtype=np.float32)
        # Of each pair i < j first the rows of i, against the rival j, and then those of j.
        classes = np.transpose(np.triu_indices(len(counts), 1))
        lengths = counts[classes].ravel()
        starts = bounds[classes].ravel() - (np.cumsum(lengths) - lengths)
        rivals = np.repeat((classes[:, ::-1] - [1, 0]).ravel(), lengths)
        every = np.repeat(starts, lengths) + np.arange(len(rivals))
        coefficients[every, rivals] = np.concatenate([dual.beta for dual in duals])
        chosen = np.any(coefficients, axis=1)
        self.solver_, self.support_ = "own", np.flatnonzero(chosen)
        self.vectors_, self.coefficients_ = rows[chosen], coefficients[chosen]
        self.n_support_ = np.array([chosen[low:high].sum() for low, high in itertools.pairwise(bounds)])
        self.intercept_ = np.array([dual.bias for dual in duals])
        self.n_iter_ = max(dual.steps for dual in duals)
        self.converged_ = all(dual.violation <= self.tol for dual in duals)

    def _fit_by_library(self, solver: str, rows: np.ndarray, codes: np.ndarray, shares: np.ndarray) -> None:
        self.solver_ = solver
        if len(rows) >= MANY_ROWS:
            _say_what_is_faster()
        options = {"n_jobs": self.jobs} if self.solver_ == "sklearnex" else {}
        weights = None if self.class_weight is None else dict(enumerate(shares.tolist()))
        svc = _svc(solver)(
            C=self.C,
            gamma=self.gamma_,
            tol=self.tol,
            max_iter=self.max_iter,
            class_weight=weights,
            decision_function_shape="ovo",
            cache_size=2000,
            **options,
        )
        with warnings.catch_warnings():
            # Not converging is said by `converged_`.
            warnings.simplefilter("ignore", ConvergenceWarning)
            svc.fit(rows, codes)
        self.vectors_, self.support_ = np.ascontiguousarray(svc.support_vectors_, dtype=np.float32), svc.support_
        self.n_support_ = np.asarray(svc.n_support_, dtype=int)
        coefficients, self.intercept_ = np.asarray(svc.dual_coef_, dtype=float), np.array(svc.intercept_, dtype=float)
        if len(self.classes_) == 2:
            # With two classes scikit-learn turns the sign, so that the second class is the positive one.
            coefficients, self.intercept_ = -coefficients, -self.intercept_
        self.coefficients_ = np.ascontiguousarray(coefficients.T, dtype=np.float32)
        self.n_iter_ = int(np.max(svc.n_iter_))
        self.converged_ = self.max_iter == -1 or self.n_iter_ < self.max_iter

    def decision_function(self, X: Any) -> np.ndarray:
        """Scores, float64: with two classes (N,), positive for the second; else (N, K), votes before confidences."""
        X = self._samples(X)
        crowd, most = None, ROWS
        with threads(self.jobs):
            if len(X) >= ROWS and ManyClasses.suits(self.n_support_, self.vectors_.shape[1]):
                crowd = ManyClasses(self.vectors_, self.coefficients_, self.n_support_, self.intercept_)
            else:
                together = max(self.n_support_.max(), min(VECTORS, self.n_support_.sum()))
                most = min(KERNEL_NUMBERS // int(together), SAID_NUMBERS // len(self.classes_) ** 2)
            blocks = row_blocks(len(X), max(1, most))
            return np.concatenate([self._decisions(X[rows], crowd) for rows in blocks])

    def predict(self, X: Any) -> np.ndarray:
        """The class with most votes among the pairs, the first of them on a tie, as in scikit-learn."""
        decisions = self.decision_function(X)
        return self.classes_[self.codes_of(decisions)]

    def codes_of(self, decisions: np.ndarray) -> np.ndarray:
        # A confidence is worth less than a third of a vote: rounding leaves the votes.
        return super().codes_of(decisions if decisions.ndim == 1 else np.rint(decisions))

    def logits(self, scores: np.ndarray) -> np.ndarray:
        """Of decision values (N, K) the sums of a class's margins: votes are whole numbers, and say less of how sure a
        decision is. Where another class than the one voted for has the largest sum, the two exchange theirs."""
        if len(self.classes_) == 2:
            return scores
        votes = np.rint(scores)
        squashed = 3 * (scores - votes)
        sums = squashed / np.maximum(1 - np.abs(squashed), np.finfo(np.float64).eps)
        rows, chosen, largest = np.arange(len(sums)), votes.argmax(axis=1), sums.argmax(axis=1)
        sums[rows, chosen], sums[rows, largest] = sums[rows, largest], sums[rows, chosen]
        return sums

    def _centred(self, X: np.ndarray, order: np.ndarray | None = None) -> np.ndarray:
        centred = np.empty(X.shape, dtype=np.float32)
        # What is too far away for float32 is brought to FAR below.
        with np.errstate(over="ignore"):
            for rows in row_blocks(len(X)):
                chosen = X[rows if order is None else order[rows]]
                if self.unit_ == 1:
                    np.subtract(chosen, self.mean_, out=centred[rows], casting="same_kind")
                else:
                    centred[rows] = (chosen - self.mean_) * self.unit_
        return np.clip(centred, -FAR, FAR, out=centred)

    def _kernel(self, vectors: np.ndarray, rows: np.ndarray) -> np.ndarray:
        return rbf(squared_distances(vectors, rows, squared_lengths(rows)), self.gamma_)

    def _decisions(self, X: np.ndarray, crowd: ManyClasses | None) -> np.ndarray:
        rows = self._centred(X).astype(np.float64)
        if crowd:
            return crowd.decisions(self._kernel(crowd.vectors, rows))
        said = np.empty((len(self.classes_), self.coefficients_.shape[1], len(rows)))
        # Some classes at a time, so that no second copy of all support vectors is made.
        for classes in stretches(self.n_support_, VECTORS):
            ends = np.cumsum(self.n_support_[classes])
            support = slice(int(self.n_support_[: classes.start].sum()), None)
            vectors = self.vectors_[support][: ends[-1]].astype(np.float64)
            coefficients = self.coefficients_[support][: ends[-1]].astype(np.float64)
            kernel = self._kernel(vectors, rows)
            for number, (low, high) in enumerate(itertools.pairwise([0, *ends.tolist()]), start=classes.start):
                np.matmul(coefficients[low:high].T, kernel[low:high], out=said[number])
        return decisions_of_pairs(said, self.intercept_)


def _total_variance(scale: Standardiser, unit: float) -> float:
    """The sum of the variances of the features that vary, times the unit's square."""
    with np.errstate(over="ignore"):
        squares = (scale.factor / unit) ** 2
    return float(np.divide(1.0, squares, out=np.zeros(len(squares)), where=squares > 0).sum())


def _unit(factor: np.ndarray) -> float:
    """The power of two that brings features of these inverse standard deviations (D,) to a total variance of about 1;
    1 where it is moderate already."""
    if not factor.any():
        return 1.0
    deviations = 1.0 / factor[factor > 0]
    largest = deviations.max()
    digits = 2 * np.log2(largest) + np.log2(np.sum((deviations / largest) ** 2))
    return 1.0 if abs(digits) <= MODERATE else float(np.ldexp(1.0, -round(digits / 2)))
