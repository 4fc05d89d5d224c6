"""Many small problems at once: the pairs of classes of few rows, which take their steps side by side.

With K classes there are K (K - 1) / 2 problems; where each has a few dozen rows, calling a solver for each takes far
longer than solving it. Here a chunk of problems is a stack of kernels (P, n, n), and one step moves a pair of
coefficients in every problem that has not ended: the same choice of rows as in `dual` (Fan, Chen and Lin 2005, WSS 2),
without a working set.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from classify.heads.solvers.dual import SMALL, Dual

SMALL_PAIR = 512  # rows of both classes up to which a pair is small
TOGETHER = 3_000  # rows of a stretch of classes: of two the distances from each other take 144 MB in float32
CHUNK_NUMBERS = 4_000_000  # of the kernels of a chunk
CHUNK_ROWS = 16_384  # of all problems of a chunk: what a step reads and writes stays in the processor's cache
RESTARTS = 5  # from slacks computed anew, which mend what rounding in the steps left

Candidate = tuple[float, Sequence[float] | np.ndarray]


def solve_small_pairs(
    distances: Callable[[np.ndarray], np.ndarray],
    counts: np.ndarray,
    pairs: np.ndarray,
    candidates: Sequence[Candidate],
    *,
    tolerance: float,
    limit: int = -1,
) -> Iterator[tuple[tuple[int, int], list[Dual]]]:
    """Each of the pairs of classes i < j (P, 2), in any order, with its solution for each candidate.

    distances: of the rows with these numbers from each other, squared, (n, n), in the floating type of the kernels.
    counts: rows of each class (K,), the rows ordered by class. candidates: gamma of the kernel, and the penalty C of
    each class's rows. limit: of steps; -1: none.
    """
    bounds = np.concatenate([[0], np.cumsum(counts)])
    halves = list(stretches(counts, TOGETHER if len(counts) and bounds[-1] > 2 * TOGETHER else int(bounds[-1])))
    for left, other in itertools.combinations_with_replacement(halves, 2):
        inside = (pairs[:, 0] >= left.start) & (pairs[:, 0] < left.stop)
        chosen = pairs[inside & (pairs[:, 1] >= other.start) & (pairs[:, 1] < other.stop)]
        if not len(chosen):
            continue
        both = (left,) if left is other else (left, other)
        rows = np.concatenate([np.arange(bounds[half.start], bounds[half.stop]) for half in both])
        square = distances(rows)
        for chunk in _chunks(chosen, counts[chosen].sum(axis=1)):
            sizes = counts[chunk]
            starts = np.searchsorted(rows, bounds[chunk])
            column = np.arange(sizes.sum(axis=1).max())
            places = column + np.where(column < sizes[:, :1], starts[:, :1], starts[:, 1:] - sizes[:, :1])
            places[column >= sizes.sum(axis=1)[:, None]] = 0
            squares = square[places[:, :, None], places[:, None, :]]
            yield from zip(
                map(tuple, chunk.tolist()),
                _solve_chunk(squares, chunk, sizes, candidates, tolerance, limit),
                strict=True,
            )


def stretches(counts: np.ndarray, most: int) -> Iterator[slice]:
    """Neighbouring classes of at most so many rows together, or one of more."""
    start, taken = 0, 0
    for number, count in enumerate(counts.tolist()):
        if number > start and taken + count > most:
            yield slice(start, number)
            start, taken = number, 0
        taken += count
    yield slice(start, len(counts))


def _chunks(pairs: np.ndarray, sizes: np.ndarray) -> Iterator[np.ndarray]:
    """The pairs in portions, those of about equal sizes together."""
    order = np.argsort(sizes, kind="stable")
    pairs, sizes, start = pairs[order], sizes[order], 0
    while start < len(pairs):
        # As many as fit at the size of the smallest, and then as many as fit at the size of the largest of these.
        end = start + _fitting(sizes[start])
        end = start + _fitting(sizes[min(end, len(sizes)) - 1])
        yield pairs[start:end]
        start = end


def _fitting(size: int) -> int:
    return int(max(1, min(CHUNK_NUMBERS // size**2, CHUNK_ROWS // size)))


def _solve_chunk(
    squares: np.ndarray,
    pairs: np.ndarray,
    sizes: np.ndarray,
    candidates: Sequence[Candidate],
    tolerance: float,
    limit: int,
) -> list[list[Dual]]:
    """For each problem of a chunk its solution for each candidate; from one penalty to the next larger one."""
    column = np.arange(squares.shape[1])
    first, used = column < sizes[:, :1], column < sizes.sum(axis=1)[:, None]
    targets = np.where(first, 1.0, -1.0)
    solved: list[list[Dual]] = [[None] * len(candidates) for _ in pairs]  # type: ignore[list-item]
    for gamma in sorted({gamma for gamma, _ in candidates}):
        kernels = np.exp(-gamma * squares) if len(candidates) > 1 else np.exp(np.multiply(squares, -gamma, out=squares))
        chosen = [number for number, candidate in enumerate(candidates) if candidate[0] == gamma]
        beta = np.zeros(targets.shape)
        for number in sorted(chosen, key=lambda number: max(candidates[number][1])):
            costs = np.asarray(candidates[number][1])[pairs]
            bounds = np.where(used, np.where(first, costs[:, :1], costs[:, 1:]), 0.0)
            # Coefficients of the last candidate are within the bounds of the next one, or else of no use.
            beta = beta if np.all(np.abs(beta) <= bounds) else np.zeros(targets.shape)
            stack = _Stack(kernels, targets, bounds, beta)
            stack.run(tolerance, limit)
            beta = stack.beta
            for problem, dual in enumerate(stack.duals(sizes.sum(axis=1))):
                solved[problem][number] = dual
    return solved


class _Stack:
    """The problems of a chunk: kernels (P, n, n), targets, bounds of alpha and coefficients (P, n)."""

    def __init__(self, kernels: np.ndarray, targets: np.ndarray, bounds: np.ndarray, beta: np.ndarray) -> None:
        self._kernels, self._targets = kernels, targets
        self._low, self._high = np.minimum(targets * bounds, 0), np.maximum(targets * bounds, 0)
        self.beta = beta.copy()
        self._steps = np.zeros(len(beta), dtype=int)

    def run(self, tolerance: float, limit: int) -> None:
        """Take steps until no problem violates its conditions by more than the tolerance, or as many as may be."""
        left = np.arange(len(self.beta))
        for _ in range(RESTARTS):
            left = left[self._violations(left) > tolerance]
            if limit >= 0:
                left = left[self._steps[left] < limit]
            if not len(left):
                break
            self._descend(left, tolerance / 2, limit)

    def duals(self, counts: np.ndarray) -> list[Dual]:
        """The solutions, each of its own number of rows."""
        everything = np.arange(len(self.beta))
        slack = self._slack(everything)
        up, down = self._movable(everything, slack)
        free = (self.beta > self._low) & (self.beta < self._high)
        ends = (up.max(axis=1), down.min(axis=1))
        numbers = free.sum(axis=1)
        means = np.where(free, slack, 0).sum(axis=1) / np.maximum(numbers, 1)
        biases = np.where(numbers > 0, means, (ends[0] + ends[1]) / 2).tolist()
        violations = (ends[0] - ends[1]).tolist()
        solved = zip(self.beta, counts.tolist(), biases, self._steps.tolist(), violations, strict=True)
        return [Dual(beta[:count], bias, steps, violation) for beta, count, bias, steps, violation in solved]

    def _slack(self, problems: np.ndarray) -> np.ndarray:
        beta = self.beta[problems].astype(self._kernels.dtype)[:, :, None]
        return self._targets[problems] - np.matmul(self._kernels[problems], beta)[:, :, 0]

    def _movable(self, problems: np.ndarray, slack: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        beta = self.beta[problems]
        up = np.where(beta < self._high[problems], slack, -np.inf)
        return up, np.where(beta > self._low[problems], slack, np.inf)

    def _violations(self, problems: np.ndarray) -> np.ndarray:
        up, down = self._movable(problems, self._slack(problems))
        return up.max(axis=1) - down.min(axis=1)

    def _descend(self, problems: np.ndarray, tolerance: float, limit: int) -> None:
        """Steps in these problems, until nothing violates by more than the tolerance in any."""
        kernels, slack = self._kernels, self._slack(problems)
        beta, low, high = self.beta[problems], self._low[problems], self._high[problems]
        can_rise = np.where(beta < high, 0, -np.inf)
        can_fall = np.where(beta > low, 0, -np.inf)
        step = 0
        while len(problems):
            lanes = np.arange(len(problems))
            i = (slack + can_rise).argmax(axis=1)
            room = (slack[lanes, i] + can_rise[lanes, i])[:, None] - slack
            room += can_fall
            ended = ~(room.max(axis=1) > tolerance) if step != limit else np.ones(len(problems), dtype=bool)
            # A few that have ended go on: to move all others each time takes longer.
            if np.count_nonzero(ended) > len(problems) // 16:
                done, left = problems[ended], ~ended
                self.beta[done], self._steps[done] = beta[ended], self._steps[done] + step
                problems, slack, beta, low, high = (array[left] for array in (problems, slack, beta, low, high))
                can_rise, can_fall, room, i = (array[left] for array in (can_rise, can_fall, room, i))
                lanes = np.arange(len(problems))
                if not len(problems):
                    break
            at_i = kernels[problems, i]
            # The diagonal of the kernel is 1.
            curvature = np.maximum(2 - 2 * at_i, SMALL)
            np.maximum(room, 0, out=room)
            j = (room * room / curvature).argmax(axis=1)
            rise, fall = high[lanes, i] - beta[lanes, i], beta[lanes, j] - low[lanes, j]
            change = np.minimum(room[lanes, j] / curvature[lanes, j], np.minimum(rise, fall))
            # Bounds are met exactly, whatever rounding did.
            beta[lanes, i] = np.where(change == rise, high[lanes, i], beta[lanes, i] + change)
            beta[lanes, j] = np.where(change == fall, low[lanes, j], beta[lanes, j] - change)
            can_rise[lanes, i] = np.where(change == rise, -np.inf, 0)
            can_fall[lanes, i] = 0
            can_fall[lanes, j] = np.where(change == fall, -np.inf, 0)
            can_rise[lanes, j] = 0
            at_i -= kernels[problems, j]
            slack -= at_i * change[:, None]
            step += 1
