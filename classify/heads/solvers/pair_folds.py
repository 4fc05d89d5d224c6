"""One class against one over folds: each fold's problem starts from the solution for all rows.

The solution for all rows, at a penalty that is smaller by the share of rows that a fold leaves, is near that of every
fold, its coefficients raised in that proportion (alpha seeding: Wen et al. 2017). What lies between its bounds there
is nearly what does in the fold: for such rows the optimality conditions are linear equations, which are solved, and the
set is corrected until it stays (a primal-dual active set: Hintermueller, Ito and Kunisch 2003). Where it does not, the
solver for pairs goes on from there. Either stops by the same rule.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from classify.heads.solvers.dual import Dual, WorkingSet, solve_dual
from classify.heads.solvers.pairs import (
    Penalties,
    margins_of_pairs,
    solve_pairs,
    squared_distances,
    squared_lengths,
)

LOOSE = 10.0  # times the tolerance at which the solution for all rows will do: it is only a start
CORRECTIONS = 12  # of the active set, of which about five are enough


@dataclass(frozen=True, eq=False)
class FoldPart:
    """A fold's training rows, rising, and held-out rows, as numbers in the order by class (n,); the numbers of the
    classes that the former have (k,); the kernel's gamma and the penalties of these classes (k,) for each candidate."""

    training: np.ndarray
    held_out: np.ndarray
    classes: np.ndarray
    gammas: Sequence[float]
    costs: Sequence[np.ndarray]


Starts = dict[tuple[int, int], list[tuple[np.ndarray, np.ndarray]]]


class SharedRows:
    """All rows, float32 (N, D), ordered by class, and their squared distances from each other, for every fold."""

    def __init__(self, rows: np.ndarray, counts: np.ndarray) -> None:
        self._rows = rows
        self._bounds = np.concatenate([[0], np.cumsum(counts)])
        self._distances = squared_distances(rows, rows, squared_lengths(rows))
        np.fill_diagonal(self._distances, 0)

    def starts(self, parts: Sequence[FoldPart], chosen: Sequence[int], tolerance: float) -> Starts:
        """For each pair of classes the coefficients of all its rows, and their bounds, for each of the candidates that
        are chosen, whose penalties rise: near what every fold will have."""
        gamma = float(np.median([part.gammas[chosen[0]] for part in parts]))
        share = float(np.mean([len(part.training) for part in parts])) / len(self._rows)
        costs = np.zeros((len(chosen), len(self._bounds) - 1))
        for place, number in enumerate(chosen):
            for part in parts:
                costs[place, part.classes] = np.maximum(costs[place, part.classes], share * part.costs[number])
        starts: Starts = {}
        for i, j in itertools.combinations(range(costs.shape[1]), 2):
            rows = np.concatenate([np.arange(self._bounds[c], self._bounds[c + 1]) for c in (i, j)])
            sizes = self._bounds[[i + 1, j + 1]] - self._bounds[[i, j]]
            working = WorkingSet(_kernel(self._distances, rows, rows, gamma).__getitem__, len(rows))
            starts[i, j], last = [], None
            for cost in costs[:, [i, j]]:
                most = np.repeat(cost, sizes)
                solved = solve_dual(
                    working, np.repeat([1.0, -1.0], sizes), most, tolerance=LOOSE * tolerance, limit=-1, start=last
                )
                last = solved.beta
                starts[i, j].append((last, most))
        return starts

    def margins(self, part: FoldPart, chosen: Sequence[int], starts: Starts, tolerance: float) -> list[np.ndarray]:
        """For each of the candidates that are chosen what the solution on a fold's training rows says of those held
        out: for each pair of its classes i < j a number that is positive for i, float64 (n, pairs)."""
        gamma = part.gammas[chosen[0]]
        kernel = _kernel(self._distances, part.training, part.training, gamma)
        ends = np.searchsorted(part.training, self._bounds)
        places = [slice(ends[c], ends[c + 1]) for c in part.classes]
        coefficients = np.zeros((len(chosen), len(kernel), len(places) - 1), dtype=np.float32)
        biases = np.empty((len(chosen), len(places) * (len(places) - 1) // 2))
        for pair, (i, j) in enumerate(itertools.combinations(range(len(places)), 2)):
            first, second = places[i], places[j]
            sizes = first.stop - first.start, second.stop - second.start
            targets = np.repeat([1.0, -1.0], sizes)
            square = np.block([[kernel[a, b] for b in (first, second)] for a in (first, second)])
            low, rival = part.classes[i], part.classes[j]
            offset = self._bounds[low], self._bounds[rival] - (self._bounds[low + 1] - self._bounds[low])
            kept = np.concatenate([part.training[first] - offset[0], part.training[second] - offset[1]])
            for place, number in enumerate(chosen):
                beta, most = starts[low, rival][place]
                costs = part.costs[number][[i, j]]
                bounds = np.repeat(costs, sizes)
                dual = solve_near(square, targets, bounds, beta[kept] * (bounds / most[kept]), tolerance)
                if not dual.violation <= tolerance:
                    # Kernels that hardly vary, and large penalties, ask for more digits than float32 has.
                    exact = self._rows[np.concatenate([part.training[first], part.training[second]])].astype(float)
                    penalties = Penalties(gamma, tuple(costs.tolist()), tolerance, -1)
                    dual = solve_pairs(exact, np.array(sizes), [penalties])[0][0]
                coefficients[place, first, j - 1] = dual.beta[: sizes[0]]
                coefficients[place, second, i] = dual.beta[sizes[0] :]
                biases[place, pair] = dual.bias
        queries = _kernel(self._distances, part.held_out, part.training, gamma)
        said = []
        for own, bias in zip(coefficients, biases, strict=True):
            said.append(margins_of_pairs([queries[:, rows] @ own[rows] for rows in places]).astype(float) + bias)
        return said


def _kernel(distances: np.ndarray, rows: np.ndarray, columns: np.ndarray, gamma: float) -> np.ndarray:
    kernel = distances[np.ix_(rows, columns)]
    kernel *= -gamma
    return np.exp(kernel, out=kernel)


def solve_near(kernel: np.ndarray, targets: np.ndarray, bounds: np.ndarray, beta: np.ndarray, tolerance: float) -> Dual:
    """The solution near coefficients (N,) that need not be feasible."""
    alpha = np.clip(beta * targets, 0, bounds)
    upper = alpha >= bounds
    free = (alpha > 0) & ~upper
    for _ in range(CORRECTIONS):
        rows = np.flatnonzero(free)
        if not len(rows):
            break
        alpha = np.where(upper, bounds, 0.0)
        beta = alpha * targets
        # The whole kernel times a vector: to pick out the rows that matter takes longer.
        slack = targets - kernel @ beta.astype(kernel.dtype)
        system = np.ones((len(rows) + 1, len(rows) + 1))
        system[:-1, :-1] = kernel.take(rows, axis=0).take(rows, axis=1)
        system[-1, -1] = 0
        try:
            solved = np.linalg.solve(system, np.append(slack[rows], -beta.sum()))
        except np.linalg.LinAlgError:
            break
        beta[rows] = solved[:-1]
        alpha = beta * targets
        slack = targets - kernel @ beta.astype(kernel.dtype)
        missing = (slack - solved[-1]) * targets
        low, high = free & (alpha < 0), free & (alpha > bounds)
        joins = (~free & ~upper & (missing > tolerance / 2)) | (upper & (missing < -tolerance / 2))
        if not (low.any() or high.any() or joins.any()):
            return Dual(beta, float(solved[-1]), 0, _violation(slack, alpha, targets, bounds))
        free = (free & ~low & ~high) | joins
        upper = (upper & ~joins) | high
    start = _feasible(np.clip(alpha, 0, bounds) * targets, bounds)
    working = WorkingSet(kernel.__getitem__, len(kernel))
    return solve_dual(working, targets, bounds, tolerance=tolerance, limit=-1, start=start)


def _violation(slack: np.ndarray, alpha: np.ndarray, targets: np.ndarray, bounds: np.ndarray) -> float:
    rises = np.where(targets > 0, alpha < bounds, alpha > 0)
    falls = np.where(targets > 0, alpha > 0, alpha < bounds)
    return float(slack[rises].max() - slack[falls].min())


def _feasible(beta: np.ndarray, bounds: np.ndarray) -> np.ndarray:
    """Coefficients within their bounds (N,) whose sum is 0: those of the larger side are lowered, at first the ones
    that are not at their bound."""
    excess = beta.sum()
    side = beta * np.sign(excess) > 0
    free = side & (np.abs(beta) < bounds)
    if np.abs(beta[free].sum()) < abs(excess):
        free = side
    if free.any():
        beta[free] *= 1 - excess / beta[free].sum()
    return beta
