"""Standardised features, and the second moments from which the closed forms are solved; fitted on training rows only.

Both read X in blocks of rows, so that X may be a read-only memory map, or `Blocks` that stay in the store. A feature
that does not vary becomes zero everywhere, in training and prediction alike.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, overload

import numpy as np

from classify.heads.estimator import TINY, FitError, row_blocks
from classify.heads.on_device import DeviceRows, squares_on
from features.blocks import Blocks, memory_told

# A coordinate that is as far away as any: in units of what features vary by, and with a square that float32 holds.
FAR = 1e15
MANY_CLASSES = 100  # whose sums are taken row by row, not as a product with a matrix of almost nothing but zeros


@dataclass(frozen=True)
class Standardiser:
    """z = (x - mean) * factor, with factor 1 / standard deviation, or 0 for a feature that does not vary.

    mean, factor: float64 (D,).
    """

    kept_in_files: ClassVar[bool] = True
    mean: np.ndarray
    factor: np.ndarray

    @classmethod
    def fit(cls, X: np.ndarray, weights: np.ndarray | None = None) -> "Standardiser":
        """Mean and standard deviation of each column, accumulated in float64 around the first block's mean.

        weights: of the rows (N,), each of which counts as if it stood there so often.
        """
        unit = _units(X)
        shift = np.asarray(X[: min(len(X), 4096)], dtype=np.float64).mean(axis=0) * unit
        total, squares = np.zeros(X.shape[1]), np.zeros(X.shape[1])
        for rows in row_blocks(len(X)):
            block = np.array(X[rows], dtype=np.float64)
            block *= unit
            block -= shift
            if weights is None:
                total += block.sum(axis=0)
                squares += np.einsum("ij,ij->j", block, block)
            else:
                total += weights[rows] @ block
                squares += np.einsum("i,ij,ij->j", weights[rows], block, block)
            # Before the next is read: two of them would take twice the memory.
            del block
        count = len(X) if weights is None else weights.sum()
        offset = total / count
        deviation = np.sqrt(np.maximum(squares / count - offset**2, 0))
        return cls.of(shift + offset, deviation, X.dtype, unit)

    @classmethod
    def of(
        cls, mean: np.ndarray, deviation: np.ndarray, dtype: np.dtype, unit: np.ndarray | float = 1.0
    ) -> "Standardiser":
        """By mean and standard deviation (D,) of columns of that dtype that were multiplied by their unit."""
        # A constant column is not quite constant after rounding: compare with the precision that X itself has.
        varies = deviation > 4 * np.finfo(dtype).eps * np.abs(mean)
        deviation, mean = deviation / unit, mean / unit
        varies &= deviation > TINY
        return cls(mean, np.divide(1.0, deviation, out=np.zeros_like(deviation), where=varies))

    def in_common(self) -> "Standardiser":
        """One factor for all columns that vary: 1 / the root of their mean variance."""
        varies = self.factor > 0
        least = self.factor[varies].min(initial=np.inf)
        # In units of the largest deviation: its square may be no number.
        share = np.sqrt(np.mean((least / self.factor[varies]) ** 2)) if varies.any() else 1.0
        return Standardiser(self.mean, np.where(varies, least / share, 0.0))

    @overload
    def apply(self, X: np.ndarray) -> np.ndarray: ...

    @overload
    def apply(self, X: Blocks) -> "StandardisedBlocks": ...

    def apply(self, X: np.ndarray | Blocks) -> "np.ndarray | StandardisedBlocks":
        """The standardised rows as a new float32 array (N, D); of Blocks something that standardises what is read."""
        return StandardisedBlocks(X, self) if isinstance(X, Blocks) else self._apply(X, np.empty(X.shape, np.float32))

    def apply_exactly(self, X: np.ndarray | Blocks) -> "np.ndarray | StandardisedBlocks":
        """The same, float64 where X is."""
        return (X - self.mean) * self.factor if X.dtype == np.float64 else self.apply(X)

    def _apply(self, X: np.ndarray, Z: np.ndarray) -> np.ndarray:
        in_float32 = X.dtype == np.float32 and self._fits_float32()
        if in_float32:
            mean, factor = self.mean.astype(np.float32), self.factor.astype(np.float32)
        # So few rows at once that the second operation finds them in the cache.
        for rows in row_blocks(len(X), 256):
            if in_float32:
                # Subtracting in float64 would double the traffic.
                np.subtract(X[rows], mean, out=Z[rows])
                Z[rows] *= factor
            else:
                Z[rows] = (X[rows] - self.mean) * self.factor
        return Z

    def _fits_float32(self) -> bool:
        """Whether a mean rounded to float32 is off by less than 4e-6 standard deviations, and no number overflows."""
        factor = self.factor[self.factor > 0]
        near = np.abs(self.mean * self.factor).max(initial=0) <= 64
        return bool(near and factor.max(initial=1) < 1e30 and factor.min(initial=1) > 1e-30)


def _units(X: Any) -> np.ndarray | float:
    """What brings the columns of X (N, D) to about 1, so that their squares are numbers: powers of two, which change
    no digit; 1 where they are already. Squares of float32 always are, in float64."""
    if X.dtype != np.float64:
        return 1.0
    largest = np.zeros(X.shape[1])
    for rows in row_blocks(len(X)):
        np.maximum(largest, np.abs(X[rows]).max(axis=0), out=largest)
    powers = np.clip(np.frexp(largest)[1], -1000, 1000)
    return np.ldexp(1.0, -powers) if np.abs(powers).max(initial=0) > 400 else 1.0


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


class FoldRows:
    """A fold's training rows standardised as it does, (n, D), of all rows Z, float32 (N, D), standardised in a way that
    is common to all folds: (z - shift) * factor."""

    def __init__(self, Z: np.ndarray, common: Standardiser, rows: np.ndarray, scale: Standardiser) -> None:
        self.Z, self.rows = Z, rows
        self.factor = np.divide(scale.factor, common.factor, out=np.zeros_like(scale.factor), where=common.factor > 0)
        self.shift = (scale.mean - common.mean) * common.factor
        self.shape = len(rows), Z.shape[1]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
        """float32 (m, D)."""
        block = self.Z[self.rows[rows]]
        block -= self.shift.astype(np.float32)
        block *= self.factor.astype(np.float32)
        return block


def middle(X: np.ndarray, parts: Sequence[np.ndarray]) -> np.ndarray:
    """A point among the rows (N, D), float64 (D,), that rows far off move little where they are in one of the parts,
    given by row numbers: the median of their means."""
    return np.median([X[rows].mean(axis=0, dtype=np.float64) for rows in parts], axis=0)


def at_length_one(X: np.ndarray, lengths: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Rows (N, D) divided by their lengths, whatever their scale; rows of zeros stay. lengths: of rows, (N,)."""
    with np.errstate(over="ignore"):
        length = lengths(X)
    if (odd := ~((length > 1 / FAR) & (length < FAR))).any():
        # Squares may be no numbers there: times a power of two, in two steps, since one may be no number either.
        powers = -np.frexp(np.abs(X[odd]).max(axis=1))[1][:, None]
        X = X.copy()
        X[odd] = np.ldexp(np.ldexp(X[odd], powers // 2), powers - powers // 2)
        length[odd] = lengths(X[odd])
    return X / np.where(length > 0, length, 1)[:, None]


# Standardised rows (N, D) in memory, in the store, on a GPU, or of a fold.
FeatureRows = np.ndarray | StandardisedBlocks | DeviceRows | FoldRows


def as_they_are(weights: np.ndarray) -> np.ndarray:
    """The way back where nothing was reduced."""
    return weights


def row_space(
    Z: np.ndarray | StandardisedBlocks, *, exact: bool = False
) -> tuple[np.ndarray | StandardisedBlocks, Callable[[np.ndarray], np.ndarray]]:
    """Coordinates of the rows in the space that they span, for more features than rows.

    Returns R (N, r), float64 where Z is or exact, with the same inner products as Z (N, D), and a function that turns
    weights (r, K) over R into the weights (D, K) over Z of the same scores and the same length. A penalty on the length
    of the weights therefore gives the same solution in fewer numbers. Where D <= N, R is Z and the function returns its
    argument.
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
    kept = values > values[-1] * len(Z) * np.finfo(Z.dtype).eps
    lengths = np.sqrt(values[kept])
    vectors = vectors[:, kept]

    def back(weights: np.ndarray) -> np.ndarray:
        mixture = vectors @ (weights / lengths[:, None])
        return np.concatenate([Z[:, columns].T @ mixture for columns in row_blocks(Z.shape[1])])

    return (vectors * lengths).astype(np.float64 if exact else Z.dtype), back


def class_sums(block: np.ndarray, codes: np.ndarray, classes: int, weights: np.ndarray | float = 1.0) -> np.ndarray:
    """The sum of each class's rows, each times its weight (n,), of a block (n, D) with class numbers (n,): (K, D)."""
    if classes > MANY_CLASSES:
        sums = np.zeros((classes, block.shape[1]))
        np.add.at(sums, codes, np.reshape(weights, (-1, 1)) * block)
        return sums
    belongs = np.zeros((len(block), classes))
    belongs[np.arange(len(block)), codes] = weights
    return belongs.T @ block


@dataclass(frozen=True)
class Moments:
    """Sums over standardised rows Z (N, D), each weighted by its own weight and its class's share, all float64.

    scale: the standardiser. squares: Z' W Z (D, D). sums: each class's sum of weighted rows (K, D). counts: the
    weighted number of rows of each class (K,). back: from weights over the coordinates used to weights over Z.
    """

    scale: Standardiser
    squares: np.ndarray
    sums: np.ndarray
    counts: np.ndarray
    back: Callable[[np.ndarray], np.ndarray]


def moments(
    X: np.ndarray,
    codes: np.ndarray,
    shares: np.ndarray,
    row_weights: np.ndarray | None = None,
    device: str | None = None,
) -> Moments:
    """One pass over X (N, D) with class numbers `codes` (N,), class weights `shares` (K,) and weights of rows (N,); the
    squares on a device, if there is one."""
    scale = Standardiser.fit(X, row_weights)
    if X.shape[1] > len(X):
        R, back = row_space(scale.apply_exactly(X), exact=True)
        blocks = (np.asarray(R[rows], dtype=np.float64) for rows in row_blocks(len(X)))
        width = R.shape[1]
    else:
        back = as_they_are
        blocks = ((X[rows] - scale.mean) * scale.factor for rows in row_blocks(len(X)))
        width = X.shape[1]
    squares, sums = np.zeros((width, width)), np.zeros((len(shares), width))
    for rows, block in zip(row_blocks(len(X)), blocks, strict=True):
        weights = shares[codes[rows]] if row_weights is None else shares[codes[rows]] * row_weights[rows]
        sums += class_sums(block, codes[rows], len(shares), weights)
        block *= np.sqrt(weights)[:, None]
        squares += block.T @ block if device is None else squares_on(device, block)
    return Moments(scale, squares, sums, shares * np.bincount(codes, row_weights, minlength=len(shares)), back)


@dataclass(frozen=True, eq=False)
class PartMoments:
    """Sums over a part's rows, as they are, around their mean (D,), float64: squares (D, D), and each class's sum of
    rows (K, D) and number of rows (K,)."""

    mean: np.ndarray
    squares: np.ndarray
    sums: np.ndarray
    counts: np.ndarray

    @classmethod
    def of(cls, X: np.ndarray, codes: np.ndarray, classes: int) -> "PartMoments":
        """Of rows X (n, D) with class numbers (n,)."""
        mean = X.mean(axis=0, dtype=np.float64)
        squares, sums = np.zeros((X.shape[1], X.shape[1])), np.zeros((classes, X.shape[1]))
        for rows in row_blocks(len(X)):
            block = X[rows] - mean
            squares += block.T @ block
            sums += class_sums(block, codes[rows], classes)
        return cls(mean, squares, sums, np.bincount(codes, minlength=classes).astype(float))

    @staticmethod
    def together(parts: "Sequence[PartMoments]", classes: np.ndarray, dtype: np.dtype) -> Moments:
        """The moments of the rows of all parts, standardised, of the classes that they have (k,); dtype: of the
        rows."""
        counts = np.array([part.counts.sum() for part in parts])
        means = np.array([part.mean for part in parts])
        mean = counts @ means / counts.sum()
        apart = means - mean
        squares = (apart * counts[:, None]).T @ apart
        sums = np.zeros_like(parts[0].sums)
        for part, shift in zip(parts, apart, strict=True):
            squares += part.squares
            sums += part.sums + np.outer(part.counts, shift)
        scale = Standardiser.of(mean, np.sqrt(squares.diagonal() / counts.sum()), dtype)
        squares *= scale.factor
        squares *= scale.factor[:, None]
        of_classes = np.sum([part.counts for part in parts], axis=0)[classes]
        return Moments(scale, squares, sums[classes] * scale.factor, of_classes, as_they_are)
