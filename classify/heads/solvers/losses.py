"""What a linear head minimises over its scores: value, slope and curvature of each row's loss.

A loss sees scores, float32 (K, N): one row for each class, so that sums over classes run along memory (nine times
faster than along the short axis of (N, K)). It also sees class numbers and a weight for each of the N rows, and never
the features; `descent.py` turns it into weights. Sums over rows are taken in float64.
"""

import math
from typing import Protocol

import numpy as np
from scipy.special import softmax


class Loss(Protocol):
    """A convex function of each row's scores.

    steady: for how many steps of the solver the curvature at a point is worth keeping. own_blocks: how many steps each
    class's curvature by itself is worth, rather than one for all. dear: how many steps a curvature may cost, before
    plain ones are tried first.
    """

    steady: int
    own_blocks: int
    dear: float

    def slope(self, scores: np.ndarray, codes: np.ndarray, weights: np.ndarray) -> tuple[float, np.ndarray]:
        """The sum over rows of weight times loss, and its derivative by each score, float32 (K, N)."""

    def curvature(self, scores: np.ndarray, codes: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """The second derivative of each row's weighted loss by each of its scores, float32 (K, N)."""


class CrossEntropy:
    """Minus the logarithm of the true class's probability under the softmax of the scores."""

    steady = 20
    own_blocks = 15
    dear = 40.0

    def slope(self, scores: np.ndarray, codes: np.ndarray, weights: np.ndarray) -> tuple[float, np.ndarray]:
        """The sum over rows of weight times loss, and its derivative by each score, float32 (K, N)."""
        # Not scipy's log_softmax: sums and shares from one array, in place, take half its time.
        columns = np.arange(len(codes))
        highest = scores.max(axis=0)
        powers = scores - highest
        np.exp(powers, out=powers)
        sums = powers.sum(axis=0)
        losses = np.log(sums) + highest - scores[codes, columns]
        powers *= weights / sums
        powers[codes, columns] -= weights
        return float(losses.astype(np.float64) @ weights), powers

    def curvature(self, scores: np.ndarray, codes: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Weight times p (1 - p), float32 (K, N)."""
        probabilities = softmax(scores, axis=0)
        return weights * (probabilities * (1 - probabilities))


class SquaredHinge:
    """max(0, 1 - target * score)^2 for each class against the rest, target +1 for the row's own class, else -1.

    With one row of scores there are two classes, and the target is +1 for the second.
    """

    # Each class's block is its exact Hessian, until rows cross their margin. Plain steps take hundreds: rows that cross
    # bend it.
    steady = 6
    own_blocks = 60
    dear = math.inf

    def slope(self, scores: np.ndarray, codes: np.ndarray, weights: np.ndarray) -> tuple[float, np.ndarray]:
        """The sum over rows of weight times loss, and its derivative by each score, float32 (K, N)."""
        missing = self._shortfall(scores, codes)
        value = float(np.einsum("kn,kn->n", missing, missing).astype(np.float64) @ weights)
        missing *= 2 * weights
        if len(scores) == 1:
            missing *= 1 - 2 * codes.astype(np.float32)
        else:
            missing[codes, np.arange(len(codes))] *= -1
        return value, missing

    def curvature(self, scores: np.ndarray, codes: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Twice the weight where the margin is missed, float32 (K, N)."""
        return 2 * weights * (self._shortfall(scores, codes) > 0)

    def _shortfall(self, scores: np.ndarray, codes: np.ndarray) -> np.ndarray:
        """By how much each score misses its margin, at least 0."""
        if len(scores) == 1:
            missing = 1 - (2 * codes.astype(np.float32) - 1) * scores
        else:
            columns = np.arange(len(codes))
            missing = 1 + scores
            missing[codes, columns] = 1 - scores[codes, columns]
        return np.maximum(missing, 0, out=missing)
