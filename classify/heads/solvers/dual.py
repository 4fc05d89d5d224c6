"""The dual problem of a support vector machine with two classes, solved on the few rows that matter.

Most rows lie far beyond the margin and never enter the solution. So the problem is solved on a working set, every row
is then looked at once, the worst violators join, and so on until no row violates the optimality conditions: those of
LIBSVM (Fan, Chen and Lin, 2005, eq. 6), at its tolerance and over all rows. On the working set the pairs of
coefficients that gain most are moved, one after the other (WSS 2 there).

With beta = target * alpha the problem is: minimise 1/2 beta' K beta - target' beta where the sum of beta is 0 and
each beta lies between 0 and target * C.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

FIRST_ROWS = 64  # of each class in the first working set
JOINING = 128  # rows that join the working set at once, at least
KERNEL_NUMBERS = 400_000_000  # of the kernel that a working set keeps at most
SMALL = 1e-12  # curvature that counts as none, as in LIBSVM


@dataclass(frozen=True)
class Dual:
    """beta: float64 (N,), the signed coefficient of each row. bias: what the scores K beta lack. steps: taken in all.

    violation: the largest violation of the optimality conditions that is left.
    """

    beta: np.ndarray
    bias: float
    steps: int
    violation: float


class TooManyRows(Exception):
    """The working set would take more memory than it may: most rows enter the solution."""


class WorkingSet:
    """Rows of one problem that may have a coefficient, and their kernel with all N rows.

    kernel: of row numbers (m,), their kernel with all rows, (m, N) float32 or float64. Raises TooManyRows before it
    keeps more than KERNEL_NUMBERS of it.
    """

    def __init__(self, kernel: Callable[[np.ndarray], np.ndarray], count: int) -> None:
        self._kernel = kernel
        self._blocks: list[np.ndarray] = []
        self._inside = np.zeros(count, dtype=bool)
        self.rows = np.empty(0, dtype=int)

    def __len__(self) -> int:
        return len(self.rows)

    def add(self, rows: np.ndarray) -> None:
        """Rows join, unless they are in already."""
        rows = rows[~self._inside[rows]]
        if not len(rows):
            return
        if (len(self.rows) + len(rows)) * len(self._inside) > KERNEL_NUMBERS:
            raise TooManyRows
        self._blocks.append(self._kernel(rows))
        self.rows = np.concatenate([self.rows, rows])
        self._inside[rows] = True

    def scores(self, beta: np.ndarray) -> np.ndarray:
        """What coefficients of the rows here, (w,), give for all rows, float64 (N,)."""
        total, start = np.zeros(len(self._inside)), 0
        for block in self._blocks:
            held = beta[start : start + len(block)]
            used = np.flatnonzero(held)
            total += held[used].astype(block.dtype) @ block[used]
            start += len(block)
        return total

    def square(self) -> np.ndarray:
        """The kernel among the rows here, (w, w)."""
        return np.concatenate([block[:, self.rows] for block in self._blocks])


def solve_dual(
    working: WorkingSet,
    targets: np.ndarray,
    bounds: np.ndarray,
    *,
    tolerance: float,
    limit: int = -1,
    start: np.ndarray | None = None,
) -> Dual:
    """The solution for targets +-1 (N,) and upper bounds of alpha (N,), from `start` (beta of a feasible point) or 0.

    limit: of steps; -1: none. Raises TooManyRows. The working set keeps what it has, and so serves the next problem on
    the same kernel.
    """
    low, high = np.minimum(targets * bounds, 0), np.maximum(targets * bounds, 0)
    beta = np.zeros(len(targets)) if start is None else start.copy()
    if start is not None:
        working.add(np.flatnonzero(beta))
    if len(working) < 2 * FIRST_ROWS:
        working.add(_spread(targets))
    steps, before, goal = 0, np.inf, np.inf
    while True:
        slack = targets - working.scores(beta[working.rows])
        up, down = np.where(beta < high, slack, -np.inf), np.where(beta > low, slack, np.inf)
        violation = float(up.max() - down.min())
        # NaN, where numbers ran out, ends it as well.
        if not violation > tolerance or steps == limit:
            break
        grown = len(working)
        working.add(_violators(up, down, len(working) // 3))
        if len(working) == grown and violation >= before:
            # Rounding in the kernel: no row is left to join, and steps help no more.
            break
        before = violation
        goal = max(tolerance / 2, min(goal, violation) / 3)
        rows = working.rows
        inner = _Inner(working.square(), slack[rows], low[rows], high[rows], beta[rows])
        steps += inner.run(goal, limit - steps if limit >= 0 else -1)
        beta[rows] = inner.beta
    free = (beta > low) & (beta < high)
    bias = slack[free].mean() if free.any() else (up.max() + down.min()) / 2
    return Dual(beta, float(bias), steps, violation)


def _spread(targets: np.ndarray) -> np.ndarray:
    """Some rows of each class, evenly over all."""
    chosen = []
    for rows in (np.flatnonzero(targets > 0), np.flatnonzero(targets < 0)):
        chosen.append(rows[np.unique(np.linspace(0, len(rows) - 1, FIRST_ROWS).astype(int))])
    return np.concatenate(chosen)


def _violators(up: np.ndarray, down: np.ndarray, most: int) -> np.ndarray:
    """The rows that violate most, half of them to be raised and half to be lowered."""
    most = max(JOINING, most) // 2
    middle = (up.max() + down.min()) / 2
    chosen = []
    for excess in (up - middle, middle - down):
        worst = np.argpartition(excess, -most)[-most:] if most < len(excess) else np.arange(len(excess))
        chosen.append(worst[excess[worst] > 0])
    return np.unique(np.concatenate(chosen))


class _Inner:
    """Steps on pairs of rows of the working set alone."""

    def __init__(
        self, kernel: np.ndarray, slack: np.ndarray, low: np.ndarray, high: np.ndarray, beta: np.ndarray
    ) -> None:
        self.kernel = kernel
        diagonal = self.kernel.diagonal()
        self.curvature = diagonal[:, None] + diagonal - 2 * self.kernel
        np.maximum(self.curvature, SMALL, out=self.curvature)
        np.reciprocal(self.curvature, out=self.curvature)
        self.slack, self.low, self.high, self.beta = slack.astype(self.kernel.dtype), low, high, beta.copy()

    def run(self, tolerance: float, limit: int) -> int:
        """Take steps until no pair violates by more than the tolerance; how many there were."""
        dtype = self.kernel.dtype
        slack, kernel, inverse = self.slack, self.kernel, self.curvature
        beta, low, high = self.beta.tolist(), self.low.tolist(), self.high.tolist()
        # Added to the slack: rows at a bound can be moved in one direction only.
        can_rise = np.where(self.beta < self.high, 0, -np.inf).astype(dtype)
        can_fall = np.where(self.beta > self.low, 0, -np.inf).astype(dtype)
        room, gain = np.empty_like(slack), np.empty_like(slack)
        step = 0
        while step != limit:
            np.add(slack, can_rise, out=room)
            i = int(room.argmax())
            top = room[i]
            np.subtract(top, slack, out=room)
            room += can_fall
            if not room.max() > tolerance:
                break
            np.maximum(room, 0, out=room)
            np.multiply(room, room, out=gain)
            gain *= inverse[i]
            j = int(gain.argmax())
            change = min(float(room[j]) * float(inverse[i, j]), high[i] - beta[i], beta[j] - low[j])
            at_i, at_j = beta[i] + change, beta[j] - change
            # Bounds are met exactly, whatever rounding did.
            if change == high[i] - beta[i]:
                at_i = high[i]
            if change == beta[j] - low[j]:
                at_j = low[j]
            beta[i], beta[j] = at_i, at_j
            can_rise[i], can_fall[i] = (0 if at_i < high[i] else -np.inf), 0
            can_rise[j], can_fall[j] = 0, (0 if at_j > low[j] else -np.inf)
            np.subtract(kernel[i], kernel[j], out=room)
            room *= change
            slack -= room
            step += 1
        self.beta = np.array(beta)
        return step
