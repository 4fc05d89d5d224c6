"""How the objective of a linear head bends at a point, told from the rows that bend most: its inverse times a gradient.

Rows that are classified with ease bend nothing. So rows are drawn with a chance that grows with their weight, those
that bend most for certain, and count the more the smaller their chance was: exact enough for a first guess. Each class
has a block of its own.
"""

from dataclasses import dataclass

import numpy as np

from classify.heads.scaling import FeatureRows

ROWS = 4096  # that tell the curvature of a class, or more of them where features are many
ROWS_PER_FEATURE = 4
BLOCK_NUMBERS = 64_000_000  # numbers in all the classes' blocks above which they share one


@dataclass(frozen=True)
class Curvature:
    """The Hessian at a point, about, as the inverses of its blocks for each class, float32 (K, D + 1, D + 1), or
    (1, D + 1, D + 1) where all share one.

    cost: floating-point operations that it took to get it, for who decides when to get another.
    """

    inverses: np.ndarray
    cost: float

    @classmethod
    def at(cls, Z: FeatureRows, weights: np.ndarray, penalty: float, most: float) -> "Curvature":
        """Of the features (N, D), or of what reads them in blocks, where the loss of each row bends so much by each of
        its scores (K, N). Classes share one block where blocks of their own would cost more than `most` operations.
        """
        size = Z.shape[1] + 1
        alike = np.ptp(weights, axis=0).max() == 0
        cost = 2.0 * size**2 * (min(_count(size), len(Z)) + size)
        if alike or len(weights) * size**2 > BLOCK_NUMBERS or len(weights) * cost > most:
            weights = weights.mean(axis=0, keepdims=True)
        inverses = np.empty((len(weights), size, size), dtype=np.float32)
        for row, inverse in zip(weights, inverses, strict=True):
            inverse[:] = np.linalg.inv(_block(Z, row, penalty))
        return cls(inverses, len(weights) * cost)

    def __call__(self, gradient: np.ndarray) -> np.ndarray:
        """The inverse blocks times a gradient, float64 (K, D + 1)."""
        if len(self.inverses) == 1:
            return gradient @ self.inverses[0]
        return np.matmul(self.inverses, gradient[:, :, None])[:, :, 0]


def _count(size: int) -> int:
    return max(ROWS, ROWS_PER_FEATURE * size)


def _block(Z: FeatureRows, weights: np.ndarray, penalty: float) -> np.ndarray:
    """The mean of weight * [z 1][z 1]' over all rows, from those drawn, with the penalty; float64 (D + 1, D + 1)."""
    size = Z.shape[1] + 1
    chosen, chances = _drawn(weights, _count(size))
    rows = np.empty((len(chosen), size), dtype=np.float32)
    rows[:, :-1] = Z[chosen]
    rows[:, -1] = 1
    rows *= np.sqrt(weights[chosen] / (chances * len(Z))).astype(np.float32)[:, None]
    block = (rows.T @ rows).astype(np.float64)
    # float32 products are good to about 1e-6 of the largest entry; the intercept has no penalty to lean on. numpy's
    # own inverse is taken of it: scipy brings a second BLAS whose threads fight with those of the products.
    block.flat[:: size + 1] += penalty + 1e-6 * block.diagonal().max() + 1e-12
    return block


def _drawn(weights: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """About `count` rows, drawn evenly along the sum of their chances, and these chances: in proportion to the weights
    (N,) and at most 1.
    """
    if len(weights) <= count:
        return np.arange(len(weights)), np.ones(len(weights))
    chances = weights.astype(np.float64) / (float(weights.max()) or 1.0) + 1e-9
    certain = np.zeros(len(weights), dtype=bool)
    while True:
        chances[~certain] *= (count - certain.sum()) / chances[~certain].sum()
        over = ~certain & (chances > 1)
        if not over.any():
            break
        certain |= over
        chances[certain] = 1
    chosen = np.flatnonzero(np.diff(np.floor(np.cumsum(chances) + 0.5), prepend=0) > 0)
    return chosen, chances[chosen]
