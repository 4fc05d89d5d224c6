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
ROUNDED = (0.0, 1e-5, 1e-3, 1.0)  # of its largest entry that rounding may have taken from a block's diagonal
NARROW_TRIANGLE = 64  # columns up to which a triangle is inverted as any matrix is
BLOCK_NUMBERS = 64_000_000  # numbers in all the classes' blocks above which they share one


@dataclass(frozen=True)
class Curvature:
    """The Hessian at a point, about: of its block for each class a matrix F, float32 (K, D + 1, D + 1), such that F' F
    is the block's inverse, or (1, D + 1, D + 1) where all share one.

    cost: floating-point operations that it took to get it, for who decides when to get another.
    """

    factors: np.ndarray
    cost: float

    @classmethod
    def at(cls, Z: FeatureRows, weights: np.ndarray, penalty: float, most: float) -> "Curvature":
        """Of the features (N, D), or of what reads them in blocks, where the loss of each row bends so much by each of
        its scores (K, N). Classes share one block where blocks of their own would cost more than `most` operations.
        """
        size = Z.shape[1] + 1
        alike = np.ptp(weights, axis=0).max() == 0
        cost = cost_of_a_block(Z)
        if alike or len(weights) * size**2 > BLOCK_NUMBERS or len(weights) * cost > most:
            weights = weights.mean(axis=0, keepdims=True)
        factors = np.empty((len(weights), size, size), dtype=np.float32)
        for row, factor in zip(weights, factors, strict=True):
            factor[:] = _inverse_factor(_block(Z, row, penalty))
        return cls(factors, len(weights) * cost)

    def __call__(self, gradient: np.ndarray) -> np.ndarray:
        """The inverse blocks times a gradient, float64 (K, D + 1)."""
        if len(self.factors) == 1:
            return (gradient @ self.factors[0].T) @ self.factors[0]
        turned = np.matmul(self.factors, gradient[:, :, None])
        return np.matmul(turned.transpose(0, 2, 1), self.factors)[:, 0]


def cost_of_a_block(Z: FeatureRows) -> float:
    """The floating-point operations that one block takes."""
    size = Z.shape[1] + 1
    return 2.0 * size**2 * (min(_count(size), len(Z)) + size)


def _inverse_factor(block: np.ndarray) -> np.ndarray:
    """F, lower triangular, with F' F the inverse of a positive definite block (n, n), whose diagonal may be raised.

    numpy's own operations: scipy brings a second BLAS whose threads fight with those of the products. They give the
    factor in half the time of the inverse.
    """
    largest = block.diagonal().max()
    for share in ROUNDED:
        block.flat[:: len(block) + 1] += share * largest
        try:
            return _inverse_of_triangle(np.linalg.cholesky(block))
        except np.linalg.LinAlgError:
            continue
    # Its numbers are none: a step of zero decreases nothing, and ends the descent.
    return np.zeros_like(block)


def _inverse_of_triangle(lower: np.ndarray) -> np.ndarray:
    """Of a lower triangular matrix (n, n), by halves, whose products are fast."""
    size = len(lower)
    if size <= NARROW_TRIANGLE:
        return np.linalg.inv(lower)
    half = size // 2
    inverse = np.zeros_like(lower)
    inverse[:half, :half] = first = _inverse_of_triangle(lower[:half, :half])
    inverse[half:, half:] = second = _inverse_of_triangle(lower[half:, half:])
    inverse[half:, :half] = -second @ (lower[half:, :half] @ first)
    return inverse


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
    # float32 products are good to about 1e-6 of the largest entry; the intercept has no penalty to lean on.
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
