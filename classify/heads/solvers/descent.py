"""One solver for every linear head with a smooth convex loss: L-BFGS, preconditioned by the curvature itself.

Minimises mean of weight * loss + penalty / 2 * |W|^2 over W (D, K) and the intercepts (K,), which are not penalised.
Plain L-BFGS needs hundreds of passes over the features. Here the first guess of the inverse Hessian is its block for
each class (`curvature.py`), got anew every few steps, so that some tens of passes reach the optimum. Where that costs
as much as dozens of steps, plain ones may come first, since they may do. Each step reads the features twice: the line
search works on the scores, which are linear in the step.
"""

import math
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import numpy as np

from classify.heads.estimator import in_threads, row_blocks
from classify.heads.on_device import DeviceRows
from classify.heads.scaling import FeatureRows
from classify.heads.solvers.curvature import Curvature, cost_of_a_block
from classify.heads.solvers.losses import Loss

MEMORY = 20  # pairs of steps that L-BFGS keeps
FEW_ROWS = 64  # that are multiplied at once
NARROW = 3  # times as long does an operation take in a product as narrow as that of a step


@dataclass(frozen=True)
class Solution:
    """coef (D, K), intercept (K,), float64; whether the tolerance was met; the steps taken; the value reached."""

    coef: np.ndarray
    intercept: np.ndarray
    converged: bool
    steps: int
    value: float


@dataclass(frozen=True)
class LinearProblem:
    """Features Z (N, D), class numbers (N,), row weights (N,), a loss and its number of columns K.

    Z is an array, or on a GPU, or reads its rows in blocks: then the scores of all rows, (K, N), are what is in memory.
    All is float32, or float64 where Z is an array of that.
    """

    Z: FeatureRows
    codes: np.ndarray
    weights: np.ndarray
    loss: Loss
    columns: int

    @property
    def dtype(self) -> np.dtype:
        """Of scores."""
        return self.Z.dtype if isinstance(self.Z, np.ndarray) else np.dtype(np.float32)

    def scores(self, W: np.ndarray) -> np.ndarray:
        """The scores of all rows, (K, N); W is (K, D + 1), its last column the intercepts."""
        weights = np.ascontiguousarray(W[:, :-1].T, dtype=self.dtype)
        if isinstance(self.Z, DeviceRows):
            return self.Z.scores(weights) + W[:, -1:].astype(np.float32)
        scores = np.empty((len(W), len(self.Z)), self.dtype)

        def fill(rows: slice) -> None:
            block = self.Z[rows]
            # Products of few enough rows run without the copy of them that takes longer than so narrow a product.
            whole = len(block) - len(block) % FEW_ROWS
            many = block[:whole].reshape(whole // FEW_ROWS, FEW_ROWS, block.shape[1]) @ weights
            scores[:, rows.start : rows.start + whole] = many.reshape(whole, len(W)).T
            scores[:, rows.start + whole : rows.stop] = (block[whole:] @ weights).T

        blocks = list(row_blocks(len(self.Z), 8192))
        if isinstance(self.Z, np.ndarray):
            in_threads(fill, blocks)
        else:
            for rows in blocks:
                fill(rows)
        scores += W[:, -1:].astype(self.dtype)
        return scores

    def gradient(self, slopes: np.ndarray) -> np.ndarray:
        """slopes (K, N) @ [Z 1] / N, float64 (K, D + 1): products in blocks, summed in float64."""
        total = np.zeros((len(slopes), self.Z.shape[1] + 1))
        if isinstance(self.Z, DeviceRows):
            total[:, :-1] = self.Z.weighted(slopes)
        else:
            for rows in row_blocks(len(self.Z), 8192):
                total[:, :-1] += slopes[:, rows] @ self.Z[rows]
        total[:, -1] = slopes.sum(axis=1, dtype=np.float64)
        return total / len(self.Z)

    def curvature(self, scores: np.ndarray, penalty: float) -> Curvature:
        """How the objective bends at the point of these scores."""
        weights = self.loss.curvature(scores, self.codes, self.weights)
        return Curvature.at(self.Z, weights, penalty, self.loss.own_blocks * self.cost)

    @property
    def cost(self) -> float:
        """What a step costs, in floating-point operations of wide products: the features are read twice."""
        return NARROW * 4.0 * self.columns * len(self.Z) * self.Z.shape[1]


@dataclass(frozen=True)
class Scores:
    """What a descent asks for: the scores of all rows for these weights (K, D + 1)."""

    W: np.ndarray


@dataclass(frozen=True)
class Gradient:
    """What a descent asks for: slopes (K, N) times the features, as `LinearProblem.gradient` gives it."""

    slopes: np.ndarray


@dataclass(frozen=True)
class Bend:
    """What a descent asks for: the curvature at the point of these scores."""

    scores: np.ndarray


Descent = Generator[Scores | Gradient | Bend, Any, Solution]


def minimise(
    problem: LinearProblem, penalty: float, start: np.ndarray | None, *, tolerance: float, max_iter: int
) -> Solution:
    """The minimum, from `start` (K, D + 1) or from zero.

    Converged where no entry of the gradient (of the mean loss, over standardised features) exceeds `tolerance`: the
    criterion of scikit-learn's LogisticRegression. Stops without it after `max_iter`
    steps, or when no further decrease can be seen; `converged` then says False.
    """
    steps = descent(problem, penalty, start, tolerance=tolerance, max_iter=max_iter)
    given: Any = None
    while True:
        try:
            asked = steps.send(given)
        except StopIteration as end:
            return end.value
        if isinstance(asked, Scores):
            given = problem.scores(asked.W)
        elif isinstance(asked, Gradient):
            given = problem.gradient(asked.slopes)
        else:
            given = problem.curvature(asked.scores, penalty)


def descent(
    problem: LinearProblem, penalty: float, start: np.ndarray | None, *, tolerance: float, max_iter: int
) -> Descent:
    """The steps of `minimise`, which asks for every product with the features and is sent it: so that several may be
    given theirs by one product."""
    W = np.zeros((problem.columns, problem.Z.shape[1] + 1)) if start is None else start
    scores = yield Scores(W)
    total, slopes = problem.loss.slope(scores, problem.codes, problem.weights)
    value = total / len(problem.Z) + 0.5 * penalty * float(np.vdot(W[:, :-1], W[:, :-1]))
    gradient = yield Gradient(slopes)
    gradient[:, :-1] += penalty * W[:, :-1]
    pairs: list[tuple[np.ndarray, np.ndarray, float]] = []
    dear = cost_of_a_block(problem.Z) / max(problem.cost, 1.0)
    steps, age, patience = 0, 0.0, min(int(dear), max_iter // 3) if dear > problem.loss.dear else 0
    precondition: Curvature | None = None
    while np.abs(gradient).max() > tolerance and steps < max_iter:
        if age >= patience:
            # The first point is zero or another problem's optimum, and its curvature is soon out of date.
            patience = problem.loss.steady if precondition else problem.loss.steady // 2
            scores = yield Scores(W)
            precondition = yield Bend(scores)
            # Where it costs much it is kept until steps have cost as much again.
            patience = max(patience, int(precondition.cost / max(problem.cost, 1.0)))
            pairs, age = [], 0
        direction = -_two_loops(gradient, pairs, precondition)
        reached = None
        if float(np.vdot(gradient, direction)) < 0:
            along = yield Scores(direction)
            reached = _line_search(problem, W, direction, scores, along, value, gradient, penalty)
        if reached is None:
            if age == 0 and precondition is not None:
                break
            age = math.inf
            continue
        step, scores, value, slopes = reached
        before = gradient
        W = W + step * direction
        gradient = yield Gradient(slopes)
        gradient[:, :-1] += penalty * W[:, :-1]
        change, bend = step * direction, gradient - before
        product = float(np.vdot(change, bend))
        if product > 0:
            pairs = [*pairs, (change, bend, product)][-MEMORY:]
        steps, age = steps + 1, age + 1
    return Solution(W[:, :-1].T, W[:, -1], bool(np.abs(gradient).max() <= tolerance), steps, value)


def _two_loops(gradient: np.ndarray, pairs: list, precondition: Curvature | None) -> np.ndarray:
    """The L-BFGS approximation of the inverse Hessian times the gradient; without a curvature from that of the last
    step, or so that a first one is no longer than 1."""
    shares = []
    for change, bend, product in reversed(pairs):
        share = float(np.vdot(change, gradient)) / product
        gradient = gradient - share * bend
        shares.append(share)
    if precondition is not None:
        result = precondition(gradient)
    elif pairs:
        result = gradient * (pairs[-1][2] / float(np.vdot(pairs[-1][1], pairs[-1][1])))
    else:
        result = gradient / max(1.0, float(np.sqrt(np.vdot(gradient, gradient))))
    for (change, bend, product), share in zip(pairs, reversed(shares), strict=True):
        result = result + (share - float(np.vdot(bend, result)) / product) * change
    return result


def _line_search(
    problem: LinearProblem,
    W: np.ndarray,
    direction: np.ndarray,
    scores: np.ndarray,
    along: np.ndarray,
    value: float,
    gradient: np.ndarray,
    penalty: float,
) -> tuple[float, np.ndarray, float, np.ndarray] | None:
    """A step along which the slope has fallen to a third, with scores, value and slopes there; None if none decreases.

    along: the scores of the direction. The function is convex along the line, so the slope rises: bracket its zero,
    then take secants.
    """
    first = float(np.vdot(gradient, direction))
    linear = penalty * float(np.vdot(W[:, :-1], direction[:, :-1]))
    square = penalty * float(np.vdot(direction[:, :-1], direction[:, :-1]))
    norm = 0.5 * penalty * float(np.vdot(W[:, :-1], W[:, :-1]))
    low, low_slope, high, high_slope, step = 0.0, first, np.inf, np.inf, 1.0
    for _ in range(20):
        moved = scores + scores.dtype.type(step) * along
        total, slopes = problem.loss.slope(moved, problem.codes, problem.weights)
        slope = float(np.einsum("kn,kn->", slopes, along, dtype=np.float64)) / len(problem.Z) + linear + step * square
        objective = total / len(problem.Z) + norm + step * linear + 0.5 * step**2 * square
        lower = objective <= value + 1e-6 * abs(value)
        if lower and abs(slope) <= 0.35 * abs(first):
            return step, moved, objective, slopes
        if slope > 0 or not lower:
            high, high_slope = step, max(slope, 0.0)
        else:
            low, low_slope = step, slope
        if np.isinf(high):
            step = min(4 * step, step * max(1.5, first / (first - slope) if slope > first else 4.0))
        else:
            secant = low + (high - low) * low_slope / (low_slope - high_slope)
            step = min(max(secant, low + 0.1 * (high - low)), high - 0.1 * (high - low))
    return None
