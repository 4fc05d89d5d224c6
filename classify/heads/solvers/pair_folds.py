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
    decisions_of_pairs,
    rbf,
    solve_pairs,
    squared_distances,
    squared_lengths,
)
from classify.heads.solvers.small_pairs import SMALL_PAIR, solve_small_pairs

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
            if self._bounds[i + 1] - self._bounds[i] + self._bounds[j + 1] - self._bounds[j] <= SMALL_PAIR:
                continue
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

    def decisions(self, part: FoldPart, chosen: Sequence[int], starts: Starts, tolerance: float) -> list[np.ndarray]:
        """For each of the candidates that are chosen the decision values of the rows held out by the solution on a
        fold's training rows: float64 (n, k), or (n,) where the fold has two classes."""
        gamma = part.gammas[chosen[0]]
        ends = np.searchsorted(part.training, self._bounds)
        places = [slice(ends[c], ends[c + 1]) for c in part.classes]
        coefficients = np.zeros((len(chosen), len(part.training), len(places) - 1), dtype=np.float32)
        biases = np.empty((len(chosen), len(places) * (len(places) - 1) // 2))
        small = self._small(part, chosen, np.diff(ends)[part.classes], tolerance)
        is_whole = len(small) < biases.shape[1]  # pairs of few rows take what they need of it
        kernel = _kernel(self._distances, part.training, part.training, gamma) if is_whole else np.empty((0, 0))
        for pair, (i, j) in enumerate(itertools.combinations(range(len(places)), 2)):
            first, second = places[i], places[j]
            sizes = first.stop - first.start, second.stop - second.start
            duals = small.get((i, j)) or self._near(part, chosen, (i, j), (first, second), kernel, starts, tolerance)
            for place, solution in enumerate(duals):
                dual = solution
                if not dual.violation <= tolerance:
                    # Kernels that hardly vary, and large penalties, ask for more digits than float32 has.
                    costs = part.costs[chosen[place]][[i, j]]
                    exact = self._rows[np.concatenate([part.training[first], part.training[second]])].astype(float)
                    penalties = Penalties(gamma, tuple(costs.tolist()), tolerance, -1)
                    dual = solve_pairs(exact, np.array(sizes), [penalties])[0][0]
                coefficients[place, first, j - 1] = dual.beta[: sizes[0]]
                coefficients[place, second, i] = dual.beta[sizes[0] :]
                biases[place, pair] = dual.bias
        queries = _kernel(self._distances, part.held_out, part.training, gamma)
        decided = []
        for own, bias in zip(coefficients, biases, strict=True):
            said = np.stack([own[rows].T @ queries[:, rows].T for rows in places])
            decided.append(decisions_of_pairs(said, bias))
        return decided

    def _small(
        self, part: FoldPart, chosen: Sequence[int], counts: np.ndarray, tolerance: float
    ) -> dict[tuple[int, int], list[Dual]]:
        """The solutions of the pairs of few rows of all that are known, each for the candidates that are chosen."""
        totals = np.diff(self._bounds)[part.classes]
        pairs = np.array(list(itertools.combinations(range(len(counts)), 2)))
        pairs = pairs[totals[pairs].sum(axis=1) <= SMALL_PAIR]
        if not len(pairs):
            return {}

        def distances(rows: np.ndarray) -> np.ndarray:
            return self._distances[np.ix_(part.training[rows], part.training[rows])]

        candidates = [(part.gammas[number], part.costs[number]) for number in chosen]
        return dict(solve_small_pairs(distances, counts, pairs, candidates, tolerance=tolerance))

    def _near(
        self,
        part: FoldPart,
        chosen: Sequence[int],
        pair: tuple[int, int],
        places: tuple[slice, slice],
        kernel: np.ndarray,
        starts: Starts,
        tolerance: float,
    ) -> list[Dual]:
        """The solution of a pair of the fold's classes for each of the candidates that are chosen."""
        sizes = tuple(place.stop - place.start for place in places)
        targets = np.repeat([1.0, -1.0], sizes)
        square = np.block([[kernel[a, b] for b in places] for a in places])
        low, rival = part.classes[list(pair)]
        offset = self._bounds[low], self._bounds[rival] - (self._bounds[low + 1] - self._bounds[low])
        kept = np.concatenate([part.training[place] - skipped for place, skipped in zip(places, offset, strict=True)])
        duals = []
        for place, number in enumerate(chosen):
            beta, most = starts[low, rival][place]
            costs = part.costs[number][list(pair)]
            bounds = np.repeat(costs, sizes)
            duals.append(solve_near(square, targets, bounds, beta[kept] * (bounds / most[kept]), tolerance))
        return duals


def _kernel(distances: np.ndarray, rows: np.ndarray, columns: np.ndarray, gamma: float) -> np.ndarray:
    return rbf(distances[np.ix_(rows, columns)], gamma)


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
