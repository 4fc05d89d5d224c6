"""One class against one: the problem of each pair of classes under an RBF kernel, for several penalties and widths.

Rows come ordered by class, so that a pair's rows are two slices and nothing is copied. Distances serve every width,
and the solution for a penalty starts from that for the next smaller one.
"""

import functools
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from classify.heads.solvers.dual import Dual, WorkingSet, solve_dual
from classify.heads.solvers.small_pairs import SMALL_PAIR, solve_small_pairs

FINE = 3e-4  # a tolerance below which the kernel is computed in float64
FEW_PAIRS = 3  # which take their steps one after the other in less time than side by side
KEPT_NUMBERS = 50_000_000  # of the distances of a pair that are kept for the next width


@dataclass(frozen=True)
class Penalties:
    """One candidate: gamma of the kernel, the penalty C of each class's rows, tolerance and limit of steps."""

    gamma: float
    costs: tuple[float, ...]
    tolerance: float
    limit: int


def squared_lengths(rows: np.ndarray) -> np.ndarray:
    """|a|^2 of each row (N,)."""
    return np.einsum("nd,nd->n", rows, rows)


def squared_distances(rows: np.ndarray, others: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """|a - b|^2 of rows (m, D) and others (N, D), whose squared lengths are known: (m, N)."""
    distances = np.matmul(rows, others.T)
    distances *= -2
    distances += lengths
    distances += squared_lengths(rows)[:, None]
    return np.maximum(distances, 0, out=distances)


def rbf(distances: np.ndarray, gamma: float) -> np.ndarray:
    """exp(-gamma * distance), in the place of the squared distances."""
    distances *= -gamma
    return np.exp(distances, out=distances)


def decisions_of_pairs(said: np.ndarray, biases: np.ndarray) -> np.ndarray:
    """Votes before confidences, float64 (N, K); with two classes (N,), positive for the second.

    said: (K, K - 1, N), what each class's support vectors say against each rival. biases: of the pairs i < j (pairs,).
    """
    classes = len(said)
    if classes == 2:
        return -(said[0, 0] + said[1, 0]).astype(np.float64) - biases[0]
    votes = np.zeros((classes, said.shape[2]))
    confidence, start = np.zeros_like(votes), 0
    for i in range(classes - 1):
        margins = (said[i, i:] + said[i + 1 :, i]).astype(np.float64, copy=False)
        margins += biases[start : start + len(margins), None]
        start += len(margins)
        won = margins > 0
        votes[i] += won.sum(axis=0)
        votes[i + 1 :] += ~won
        confidence[i] += margins.sum(axis=0)
        confidence[i + 1 :] -= margins
    return votes_before(confidence, votes)


def votes_before(confidence: np.ndarray, votes: np.ndarray) -> np.ndarray:
    """Scores (N, K) of votes and sums of margins (K, N): all that a sum can add is less than a third of a vote."""
    return (votes + confidence / (3 * (np.abs(confidence) + 1))).T


def solve_pairs(rows: np.ndarray, counts: np.ndarray, candidates: Sequence[Penalties]) -> list[list[Dual]]:
    """For each pair of classes i < j the solution for each candidate; a positive score means i.

    rows: float32 (N, D), ordered by class; counts: rows of each class (K,). Raises TooManyRows where the kernel that a
    pair needs would take too much memory.
    """
    if min(candidate.tolerance for candidate in candidates) < FINE:
        rows = rows.astype(np.float64)
    lengths = squared_lengths(rows)
    bounds = np.concatenate([[0], np.cumsum(counts)])
    places = [slice(low, high) for low, high in itertools.pairwise(bounds)]
    pairs = list(itertools.combinations(range(len(counts)), 2))
    together = _solve_small(rows, lengths, counts, np.array(pairs), candidates)
    solved = []
    for i, j in pairs:
        duals = together.get((i, j)) or _solve_pair(_Pair(rows, lengths, places[i], places[j]), (i, j), candidates)
        if rows.dtype != np.float64 and not all(map(_is_solved, duals, candidates)):
            # Kernels that hardly vary, and large penalties, ask for more digits than float32 has.
            both = np.concatenate([rows[places[i]], rows[places[j]]]).astype(np.float64)
            first, second = slice(0, counts[i]), slice(counts[i], len(both))
            duals = _solve_pair(_Pair(both, squared_lengths(both), first, second), (i, j), candidates)
        solved.append(duals)
    return solved


def _solve_small(
    rows: np.ndarray,
    lengths: np.ndarray,
    counts: np.ndarray,
    pairs: np.ndarray,
    candidates: Sequence[Penalties],
) -> dict[tuple[int, int], list[Dual]]:
    """The solutions of the pairs of few rows, by pair of classes."""
    small = pairs[counts[pairs].sum(axis=1) <= SMALL_PAIR]
    alike = {(candidate.tolerance, candidate.limit) for candidate in candidates}
    if len(small) <= FEW_PAIRS or len(alike) > 1:
        return {}
    ((tolerance, limit),) = alike
    duals = solve_small_pairs(
        lambda wanted: squared_distances(rows[wanted], rows[wanted], lengths[wanted]),
        counts,
        small,
        [(candidate.gamma, candidate.costs) for candidate in candidates],
        tolerance=tolerance,
        limit=limit,
    )
    return dict(duals)


def _is_solved(dual: Dual, candidate: Penalties) -> bool:
    return dual.violation <= candidate.tolerance or dual.steps == candidate.limit


class _Pair:
    """The rows of two classes, and the distances of some of them from all."""

    def __init__(self, rows: np.ndarray, lengths: np.ndarray, first: slice, second: slice) -> None:
        self._rows, self._lengths, self._places = rows, lengths, (first, second)
        self.sizes = tuple(place.stop - place.start for place in self._places)
        self.dtype = rows.dtype

    def distances(self, wanted: np.ndarray) -> np.ndarray:
        """Squared distances of the rows with these numbers from all rows of the pair, (m, N)."""
        first, second = self._places
        size = self.sizes[0]
        queries = self._rows[np.where(wanted < size, wanted + first.start, wanted - size + second.start)]
        distances = np.empty((len(wanted), sum(self.sizes)), self._rows.dtype)
        for place, columns in zip(self._places, (slice(0, size), slice(size, None)), strict=True):
            distances[:, columns] = squared_distances(queries, self._rows[place], self._lengths[place])
        return distances


class _Kept:
    """Distances that are kept for the next width."""

    def __init__(self, distances: Callable[[np.ndarray], np.ndarray], count: int, dtype: np.dtype) -> None:
        self._distances = distances
        self._known = np.zeros(count, dtype=bool)
        self._held = np.empty((count, count), dtype)  # only the pages that are written take memory

    def __call__(self, wanted: np.ndarray) -> np.ndarray:
        new = wanted[~self._known[wanted]]
        if len(new):
            self._held[new] = self._distances(new)
            self._known[new] = True
        return self._held[wanted]


def _solve_pair(pair: _Pair, classes: tuple[int, int], candidates: Sequence[Penalties]) -> list[Dual]:
    """The solution for each candidate, in the order given."""
    count = sum(pair.sizes)
    targets = np.repeat([1.0, -1.0], pair.sizes)
    widths = sorted({candidate.gamma for candidate in candidates})
    distances = pair.distances
    if len(widths) > 1 and count**2 <= KEPT_NUMBERS:
        distances = _Kept(pair.distances, count, pair.dtype)
    solved: dict[int, Dual] = {}
    for gamma in widths:
        working = WorkingSet(functools.partial(_kernel, distances, gamma), count)
        last: Dual | None = None
        chosen = [number for number, candidate in enumerate(candidates) if candidate.gamma == gamma]
        for number in sorted(chosen, key=lambda number: candidates[number].costs[classes[0]]):
            candidate = candidates[number]
            costs = np.repeat([candidate.costs[c] for c in classes], pair.sizes)
            # Its coefficients are within the next larger bounds.
            start = last.beta if last is not None else None
            last = solve_dual(
                working, targets, costs, tolerance=candidate.tolerance, limit=candidate.limit, start=start
            )
            solved[number] = last
    return [solved[number] for number in range(len(candidates))]


def _kernel(distances: Callable[[np.ndarray], np.ndarray], gamma: float, wanted: np.ndarray) -> np.ndarray:
    """exp(-gamma * distance) of the rows wanted from all, in the place of the distances."""
    return rbf(distances(wanted), gamma)
