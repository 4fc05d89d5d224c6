"""Features that stay in the store: an array of which no more is in memory than is asked for.

Heads that learn in passes take `Blocks` in the place of an array. Every byte that is read is verified, each MiB once
per process, as with any reading of the store.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from features.errors import UserError
from features.memory import memory_at_hand
from features.store import FeatureFile
from features.store.disk import as_bytes

# An array is read, its training rows are copied, and those are standardised: so often features are in memory at once.
COPIES = 3


class Blocks:
    """The rows of one file, or of several side by side, as float32 (N, D): `blocks[10:20]` reads those rows.

    files: complete files; rows: of each the row numbers (N,) that are wanted, or None for all.
    """

    ndim = 2
    dtype: np.dtype = np.dtype(np.float32)
    shape: Any  # (N, D)

    def __init__(self, files: Sequence[FeatureFile], rows: Sequence[np.ndarray | None]) -> None:
        self._files = tuple(files)
        self._rows = tuple(rows)
        counts = {len(taken) if taken is not None else file.shape[0] for file, taken in zip(files, rows, strict=True)}
        if len(counts) != 1:
            raise ValueError(f"files side by side have one number of rows, not {sorted(counts)}")
        self._widths = [int(np.prod(file.shape[1:])) for file in files]
        self.shape = (counts.pop(), sum(self._widths))

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def nbytes(self) -> int:
        """Bytes that all of it would take."""
        return self.shape[0] * self.shape[1] * self.dtype.itemsize

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
        """The rows of a slice, or with these numbers (n,) or this mask (N,), read into memory: float32 (n, D)."""
        if isinstance(rows, slice):
            rows = np.arange(*rows.indices(len(self)))
        rows = np.asarray(rows)
        if rows.dtype == bool:
            rows = np.flatnonzero(rows)
        parts = []
        for file, taken in zip(self._files, self._rows, strict=True):
            read = file.features(rows if taken is None else taken[rows])
            parts.append(read.reshape(len(rows), -1).astype(np.float32, copy=False))
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)

    def take(self, rows: np.ndarray, axis: int = 0) -> "Blocks":
        """Blocks of these rows alone, read when they are asked for; as numpy's `take` along the rows."""
        if axis != 0:
            raise ValueError("blocks are taken along their rows, axis 0")
        return Blocks(self._files, [rows if taken is None else taken[rows] for taken in self._rows])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        raise UserError(f"these features stay on the disk: {memory_told(self)}")


class Stacked(Blocks):
    """The rows of several `Blocks` or arrays (N, ...) of one width one below the other, read when they are asked for.

    rows: the numbers (n,) of those that are wanted, counted through all parts, or None for all.
    """

    def __init__(self, parts: Sequence[Any], rows: np.ndarray | None = None) -> None:
        widths = {tuple(part.shape[1:]) for part in parts}
        if len(widths) != 1:
            raise ValueError(f"parts below each other have rows of one shape, not {sorted(widths)}")
        self._parts = tuple(parts)
        self._starts = np.cumsum([0, *(len(part) for part in parts)])
        self._numbers = np.arange(self._starts[-1]) if rows is None else rows
        self.shape = (len(self._numbers), *widths.pop())
        self.ndim, self.dtype = len(self.shape), np.dtype(parts[0].dtype)

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
        """The rows of a slice, or with these numbers (n,) or this mask (N,), read into memory: (n, ...)."""
        numbers = np.atleast_1d(self._numbers[rows])
        read = np.empty((len(numbers), *self.shape[1:]), self.dtype)
        for part, start, end in zip(self._parts, self._starts, self._starts[1:], strict=False):
            places = np.flatnonzero((numbers >= start) & (numbers < end))
            if len(places):
                read[places] = part[numbers[places] - start]
        return read

    def take(self, rows: np.ndarray, axis: int = 0) -> "Stacked":
        if axis != 0:
            raise ValueError("blocks are taken along their rows, axis 0")
        return Stacked(self._parts, self._numbers[rows])


def memory_told(X: Blocks) -> str:
    """In words: the memory that the features would take as an array, and what there is."""
    memory = memory_at_hand()
    room = f"{as_bytes(memory)} are free" if memory is not None else "it is not known how much is free"
    return f"{len(X):,} x {X.shape[1]:,} numbers would take {as_bytes(COPIES * X.nbytes)} of memory, and {room}"


def fits(nbytes: int) -> bool:
    """Whether features of so many bytes, as float32, can be worked on as an array in memory."""
    memory = memory_at_hand()
    return memory is None or COPIES * nbytes <= memory


def in_memory(X: Any) -> Any:
    """X itself; of Blocks that fit into memory with room to spare, the array."""
    return X[:] if isinstance(X, Blocks) and fits(2 * X.nbytes) else X
