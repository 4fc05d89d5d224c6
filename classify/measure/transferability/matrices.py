"""Features as the scores read them: float64 a block at a time, centred, without the columns that say nothing.

Products of a (60000, 512) float32 array in float64 blocks cost 0.25 s on two cores against 0.11 s in float32, and
float32 sums miss the scores' precision, so everything here is float64 and no full-size float64 copy is made.
"""

from collections.abc import Iterator

import numpy as np

from features.errors import UserError

BLOCK_VALUES = 1 << 22  # 32 MiB of float64 a block.


def check_labels(rows: int, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(class number of each row counted from 0 without gaps (N,), rows of each class (C,)) of any labels (N,)."""
    labels = np.asarray(labels)
    if labels.shape != (rows,) or rows == 0:
        raise ValueError(f"labels of shape {labels.shape} do not fit {rows} rows; expected one label a row, and a row")
    _, codes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    return codes.reshape(-1), counts


def one_hot(codes: np.ndarray, classes: int) -> np.ndarray:
    """(N, C) float64 indicator of each row's class."""
    indicator = np.zeros((len(codes), classes))
    indicator[np.arange(len(codes)), codes] = 1.0
    return indicator


class Blocks:
    """A (N, D) array read in float64 blocks, minus its column means if `centre`, times `factors` once they are set.

    Columns that stay the same in every row (all zero, where nothing is centred) are left out: after the mean is
    taken off they would be rounding noise, and a score that divides by spread would make it as large as any feature.

    Raises UserError for NaN or infinity, ValueError for anything but a 2-D array of numbers.
    """

    def __init__(self, array: np.ndarray, *, centre: bool):
        array = np.asarray(array)
        if array.ndim != 2 or array.dtype.kind not in "fiub":
            raise ValueError(f"expected a 2-D array of real numbers, got shape {array.shape} of {array.dtype}")
        self.array = array
        self.rows = len(array)
        sums: np.ndarray = array.sum(axis=0, dtype=np.float64)
        if not np.isfinite(sums).all():
            raise UserError(
                f"the features hold NaN or infinity in {np.count_nonzero(~np.isfinite(sums))} of {array.shape[1]} "
                "columns; extract them again, with --precision float32 if they were stored in half precision"
            )
        alike = array.min(axis=0) == array.max(axis=0) if self.rows else np.ones(array.shape[1], bool)
        kept = ~alike if centre else ~(alike & (array[0] == 0))
        self.kept = slice(None) if kept.all() else np.flatnonzero(kept)
        self.columns = int(np.count_nonzero(kept))
        self.mean = (sums / self.rows)[self.kept] if centre else None
        self.factors: np.ndarray | None = None

    def take(self, rows: slice | np.ndarray) -> np.ndarray:
        """The chosen rows, (n, columns) float64."""
        block = self.array[rows][:, self.kept].astype(np.float64)
        if self.mean is not None:
            block -= self.mean
        if self.factors is not None:
            block *= self.factors
        return block

    def __iter__(self) -> Iterator[tuple[slice, np.ndarray]]:
        step = max(1, BLOCK_VALUES // max(1, self.columns))
        for start in range(0, self.rows, step):
            rows = slice(start, min(start + step, self.rows))
            yield rows, self.take(rows)

    def whole(self) -> np.ndarray:
        """All rows at once: for arrays with more columns than rows, which are small on one side."""
        return self.take(slice(None))

    def gram(self) -> np.ndarray:
        """(columns, columns) product of the transposed array with itself."""
        total = np.zeros((self.columns, self.columns))
        for _, block in self:
            total += block.T @ block
        return total

    def squared_norms(self) -> np.ndarray:
        """(N,) squared length of every row."""
        norms = np.empty(self.rows)
        for rows, block in self:
            norms[rows] = np.einsum("ij,ij->i", block, block)
        return norms
