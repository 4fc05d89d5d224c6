"""Standardised features, and the second moments from which the closed forms are solved; fitted on training rows only.

Both read X in blocks of rows, so that X may be a read-only memory map, or `Blocks` that stay in the store. A feature
that does not vary becomes zero everywhere, in training and prediction alike.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, overload

import numpy as np

from classify.heads.estimator import FitError, row_blocks
from classify.heads.on_device import DeviceRows, squares_on
from features.blocks import Blocks, memory_told


@dataclass(frozen=True)
class Standardiser:
    """z = (x - mean) * factor, with factor 1 / standard deviation, or 0 for a feature that does not vary.

    mean, factor: float64 (D,).
    """

    kept_in_files: ClassVar[bool] = True
    mean: np.ndarray
    factor: np.ndarray

    @classmethod
    def fit(cls, X: np.ndarray) -> "Standardiser":
        """Mean and standard deviation of each column, accumulated in float64 around the first block's mean."""
        shift = np.asarray(X[: min(len(X), 4096)], dtype=np.float64).mean(axis=0)
        total, squares = np.zeros(X.shape[1]), np.zeros(X.shape[1])
        for rows in row_blocks(len(X)):
            block = np.array(X[rows], dtype=np.float64)
            block -= shift
            total += block.sum(axis=0)
            squares += np.einsum("ij,ij->j", block, block)
            # Before the next is read: two of them would take twice the memory.
            del block
        offset = total / len(X)
        deviation = np.sqrt(np.maximum(squares / len(X) - offset**2, 0))
        mean = shift + offset
        # A constant column is not quite constant after rounding: compare with the precision that X itself has.
        varies = deviation > 4 * np.finfo(X.dtype).eps * np.abs(mean)
        return cls(mean, np.divide(1.0, deviation, out=np.zeros_like(deviation), where=varies))

    @overload
    def apply(self, X: np.ndarray) -> np.ndarray: ...

    @overload
    def apply(self, X: Blocks) -> "StandardisedBlocks": ...

    def apply(self, X: np.ndarray | Blocks) -> "np.ndarray | StandardisedBlocks":
        """The standardised rows as a new float32 array (N, D); of Blocks something that standardises what is read."""
        return StandardisedBlocks(X, self) if isinstance(X, Blocks) else self._apply(X, np.empty(X.shape, np.float32))

    def _apply(self, X: np.ndarray, Z: np.ndarray) -> np.ndarray:
        mean, factor = self.mean.astype(np.float32), self.factor.astype(np.float32)
        # So few rows at once that the second operation finds them in the cache.
        for rows in row_blocks(len(X), 256):
            if X.dtype == np.float32:
                # Subtracting in float64 would double the traffic; float32 loses only what X had lost already.
                np.subtract(X[rows], mean, out=Z[rows])
                Z[rows] *= factor
            else:
                Z[rows] = (X[rows] - self.mean) * self.factor
        return Z


@dataclass(frozen=True, eq=False)
class StandardisedBlocks:
    """Standardised rows (N, D) of which no more is in memory than is asked for: `Z[10:20]` reads those rows."""

    X: Blocks
    scale: Standardiser

    @property
    def shape(self) -> tuple[int, int]:
        """(N, D)."""
        return self.X.shape

    def __len__(self) -> int:
        return len(self.X)

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
        """float32 (n, D), the numbers that `Standardiser.apply` gives for an array."""
        read = self.X[rows]
        return self.scale._apply(read, read)


# Standardised rows (N, D) in memory, in the store or on a GPU.
FeatureRows = np.ndarray | StandardisedBlocks | DeviceRows


def as_they_are(weights: np.ndarray) -> np.ndarray:
    """The way back where nothing was reduced."""
    return weights


def row_space(
    Z: np.ndarray | StandardisedBlocks,
) -> tuple[np.ndarray | StandardisedBlocks, Callable[[np.ndarray], np.ndarray]]:
    """Coordinates of the rows in the space that they span, for more features than rows.

    Returns R, float32 (N, r), with the same inner products as Z (N, D), and a function that turns weights (r, K) over
    R into the weights (D, K) over Z of the same scores and the same length. A penalty on the length of the weights
    therefore gives the same solution in fewer numbers. Where D <= N, R is Z and the function returns its argument.
    """
    if Z.shape[1] <= len(Z):
        return Z, as_they_are
    if isinstance(Z, StandardisedBlocks):
        raise FitError(
            f"{Z.shape[1]:,} features of {len(Z):,} rows are too wide to be read in blocks: {memory_told(Z.X)}; take a "
            "smaller --pool or --pca"
        )
    gram = np.zeros((len(Z), len(Z)))
    for columns in row_blocks(Z.shape[1]):
        block = np.asarray(Z[:, columns], dtype=np.float64)
        gram += block @ block.T
    values, vectors = np.linalg.eigh(gram)
    kept = values > values[-1] * len(Z) * np.finfo(np.float32).eps
    lengths = np.sqrt(values[kept])
    vectors = vectors[:, kept]

    def back(weights: np.ndarray) -> np.ndarray:
        mixture = vectors @ (weights / lengths[:, None])
        return np.concatenate([Z[:, columns].T @ mixture for columns in row_blocks(Z.shape[1])])

    return (vectors * lengths).astype(np.float32), back


@dataclass(frozen=True)
class Moments:
    """Sums over standardised rows Z (N, D), each weighted by its class's share, all float64.

    scale: the standardiser. squares: Z' W Z (D, D). sums: each class's sum of weighted rows (K, D). counts: the
    weighted number of rows of each class (K,). back: from weights over the coordinates used to weights over Z.
    """

    scale: Standardiser
    squares: np.ndarray
    sums: np.ndarray
    counts: np.ndarray
    back: Callable[[np.ndarray], np.ndarray]


def moments(X: np.ndarray, codes: np.ndarray, shares: np.ndarray, device: str | None = None) -> Moments:
    """One pass over X (N, D) with class numbers `codes` (N,) and class weights `shares` (K,); the squares on a device,
    if there is one."""
    scale = Standardiser.fit(X)
    if X.shape[1] > len(X):
        R, back = row_space(scale.apply(X))
        blocks = (np.asarray(R[rows], dtype=np.float64) for rows in row_blocks(len(X)))
        width = R.shape[1]
    else:
        back = as_they_are
        blocks = ((X[rows] - scale.mean) * scale.factor for rows in row_blocks(len(X)))
        width = X.shape[1]
    squares, sums = np.zeros((width, width)), np.zeros((len(shares), width))
    for rows, block in zip(row_blocks(len(X)), blocks, strict=True):
        weights = shares[codes[rows]]
        belongs = np.zeros((len(block), len(shares)))
        belongs[np.arange(len(block)), codes[rows]] = weights
        sums += belongs.T @ block
        block *= np.sqrt(weights)[:, None]
        squares += block.T @ block if device is None else squares_on(device, block)
    return Moments(scale, squares, sums, shares * np.bincount(codes, minlength=len(shares)), back)
