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

    files: complete files; rows: of each the row numbers (N,) that are wanted, or None for all. views: how many each of
    their rows has; of several files those of one view stand side by side, then those of the next.
    """

    ndim = 2
    dtype: np.dtype = np.dtype(np.float32)
    shape: Any  # (N, D)

    def __init__(self, files: Sequence[FeatureFile], rows: Sequence[np.ndarray | None], views: int = 1) -> None:
        self._files, self._views = tuple(files), views
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
            parts.append(read.astype(np.float32, copy=False))
        return side_by_side(parts, self._views)

    def take(self, rows: np.ndarray, axis: int = 0) -> "Blocks":
        """Blocks of these rows alone, read when they are asked for; as numpy's `take` along the rows."""
        if axis != 0:
            raise ValueError("blocks are taken along their rows, axis 0")
        return Blocks(self._files, [rows if taken is None else taken[rows] for taken in self._rows], self._views)

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


class Views(Blocks):
    """The views of rows as rows of their own, the first `count` of each one after the other: (N * count, width) of
    `Blocks` (N, V * width)."""

    def __init__(self, whole: Blocks, width: int, count: int, numbers: np.ndarray | None = None) -> None:
        self._whole, self._width, self._count = whole, width, count
        self._numbers = np.arange(len(whole) * count) if numbers is None else numbers
        self.shape, self.dtype = (len(self._numbers), width), whole.dtype

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
        """The rows of a slice, or with these numbers (n,) or this mask (N,), read into memory: (n, width)."""
        images, views = np.divmod(np.atleast_1d(self._numbers[rows]), self._count)
        read, places = np.unique(images, return_inverse=True)
        whole_rows = self._whole[read].reshape(len(read), self._whole.shape[1] // self._width, self._width)
        return whole_rows[places, views]

    def take(self, rows: np.ndarray, axis: int = 0) -> "Views":
        if axis != 0:
            raise ValueError("blocks are taken along their rows, axis 0")
        return Views(self._whole, self._width, self._count, self._numbers[rows])


def side_by_side(parts: Sequence[np.ndarray], views: int = 1) -> np.ndarray:
    """(N, views * D) of layers (N, ...), or (N, views, ...): all of one view, then all of the next."""
    flat = [part.reshape(len(part), views, -1) for part in parts]
    return (flat[0] if len(flat) == 1 else np.concatenate(flat, axis=2)).reshape(len(flat[0]), -1)


def rows_of_views(X: Any, width: int, count: int) -> Any:
    """The first `count` views of rows (N, V * width), an array or `Blocks`, as rows (N * count, width), those of one
    row one after the other."""
    if isinstance(X, Blocks):
        return X if X.shape[1] == width else Views(X, width, count)
    return X if X.shape[1] == width else X.reshape(len(X), -1, width)[:, :count].reshape(-1, width)


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
