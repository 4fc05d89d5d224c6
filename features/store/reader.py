"""Finding complete files and reading them, every byte compared with its checksum before it is used.

No reader opens a file that is not complete, needs a lock or calls the HDF5 library; files are opened for each reading,
so that an object may be handed to other processes.
"""

import contextlib
import errno
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from features.home import features_folder
from features.key import CacheKey, short_digest
from features.regular import regular_descriptor
from features.store.checksums import BLOCK, first_damaged, read_exactly
from features.store.layout import LaidOut, Layout, read_layout
from features.store.naming import CacheError, shards_path, way_out

_SPARSE = 8  # rows of a stretch to one that is wanted, from which on they are read one by one

# Blocks found sound by this process, by the identity of the file they are in; a changed file has another.
_SOUND: dict[tuple, bytearray] = {}


def find(key: CacheKey) -> "FeatureFile | None":
    """The complete file for a key, or None; reads the description only.

    CacheError where the file that bears the key's digits is damaged or holds something else, with what differs.
    """
    for path in sorted(features_folder().glob(f"*-{short_digest(key)}.h5")):
        try:
            file = FeatureFile.open(path)
        except FileNotFoundError:  # removed between the two lines above
            continue
        if different := key.differences(file.key):
            differences = "; ".join(
                f"{name} is {other!r} instead of {value!r}" for name, (value, other) in different.items()
            )
            raise CacheError(f"{path} does not hold what its name says: {differences}; {way_out(path)}")
        return file
    return None


@dataclass(frozen=True, eq=False)
class FeatureFile(LaidOut):
    """One complete file: features of one layer for the rows of one split."""

    path: Path
    layout: Layout
    sums: bytes

    @classmethod
    def open(cls, path: Path) -> "FeatureFile":
        """Read a file's description; CacheError where it is damaged, FileNotFoundError where there is none."""
        try:
            descriptor = regular_descriptor(path)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            raise CacheError(f"{path}: {error.strerror}; {way_out(path)}") from error
        try:
            layout, sums = read_layout(descriptor, path)
        finally:
            os.close(descriptor)
        return (ShardedFile if layout.shards else FeatureFile)(path, layout, sums)

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return self.layout.size

    @property
    def fingerprint(self) -> str:
        """The SHA-256 over the description and all checksums: two files of one fingerprint hold the same."""
        return hashlib.sha256(bytes.fromhex(self.layout.digest) + self.sums).hexdigest()

    def labels(self) -> np.ndarray:
        """(N,) int64, verified."""
        return self._column("labels")

    def index(self) -> np.ndarray:
        """(N,) int64: each row's position in its split of the data set, verified."""
        return self._column("index")

    def features(self, rows: np.ndarray | None = None) -> np.ndarray:
        """The features of the given rows, in the order given (None: of all), as an array in memory.

        rows: row numbers (n,) or a mask (N,). Blocks that are read are verified first, once per process. CacheError
        where one is damaged, IndexError for a row that is not there.
        """
        rows = self._row_numbers(rows)
        with self._opened() as descriptor:
            self._verify(descriptor, self._blocks_of_rows(rows))
            return self._gather(descriptor, rows)

    def _row_numbers(self, rows: np.ndarray | None) -> np.ndarray:
        if rows is None:
            rows = np.arange(self.shape[0])
        rows = np.asarray(rows)
        if rows.dtype == bool:
            if rows.shape != self.shape[:1]:
                raise IndexError(f"a mask of shape {rows.shape} for {self.shape[0]} rows")
            rows = np.flatnonzero(rows)
        rows = rows.astype(np.int64, casting="same_kind" if rows.size else "unsafe").reshape(-1)
        if rows.size and not 0 <= rows.min() <= rows.max() < self.shape[0]:
            raise IndexError(f"rows {rows.min()} to {rows.max()} of a file with rows 0 to {self.shape[0] - 1}")
        return rows

    def whole(self) -> np.ndarray:
        """All features, verified first: a read-only map of the file, or where it has shards an array in memory."""
        with self._opened() as descriptor:
            self._verify(descriptor, self._blocks_of_rows(np.array([0, self.shape[0] - 1]), between=True))
        return np.memmap(self.path, self._little, "r", self.layout.at["features"], self.shape)

    def verify(self) -> None:
        """Read the whole file anew; CacheError naming the file, the damaged MiB and what it holds."""
        fresh = FeatureFile.open(self.path)
        with fresh._opened() as descriptor:
            fresh._check(descriptor, range(fresh.layout.blocks))

    @cached_property
    def _little(self) -> np.dtype:
        return np.dtype(self.dtype).newbyteorder("<")

    @contextlib.contextmanager
    def _opened(self) -> Iterator[int]:
        try:
            descriptor = regular_descriptor(self.path)
        except FileNotFoundError:
            raise CacheError(f"{self.path} was removed while it was in use; extract it again") from None
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def _column(self, name: str) -> np.ndarray:
        at, length = self.layout.at[name], 8 * self.shape[0]
        with self._opened() as descriptor:
            self._verify(descriptor, self.layout.blocks_of(at, at + length))
            return self._read(descriptor, at, np.empty(self.shape[0], "<i8")).astype(np.int64, copy=False)

    def _blocks_of_rows(self, rows: np.ndarray, between: bool = False) -> np.ndarray:
        """The numbers of the blocks that hold some rows; with `between`, of all from the lowest to the highest."""
        if not rows.size:
            return rows
        first = (self.layout.at["features"] - self.layout.start + rows * self.layout.row_bytes) // BLOCK
        last = (self.layout.at["features"] - self.layout.start + (rows + 1) * self.layout.row_bytes - 1) // BLOCK
        if between:
            return np.arange(first.min(), last.max() + 1)
        touched = np.zeros(self.layout.blocks + 1, np.int64)
        np.add.at(touched, first, 1)
        np.add.at(touched, last + 1, -1)
        return np.flatnonzero(np.cumsum(touched))

    def _verify(self, descriptor: int, blocks: Any) -> None:
        """Check the blocks that this process has not yet found sound in this very file."""
        status = os.fstat(descriptor)
        identity = (str(self.path), status.st_dev, status.st_ino, status.st_size, status.st_ctime_ns, self.sums)
        sound = _SOUND.setdefault(identity, bytearray(self.layout.blocks))
        todo = [int(block) for block in blocks if not sound[block]]
        self._check(descriptor, todo)
        for block in todo:
            sound[block] = 1

    def _check(self, descriptor: int, blocks: Any) -> None:
        layout = self.layout
        block = first_damaged(descriptor, layout.start, layout.size, self.sums, blocks)
        if block is not None:
            raise CacheError(
                f"{self.path} is damaged in MiB {block + 1} of {layout.blocks} ({layout.contents_of(block)}); "
                f"{way_out(self.path)}"
            )

    def _gather(self, descriptor: int, rows: np.ndarray) -> np.ndarray:
        """Read rows in any order; a stretch of about a MiB that holds some is read once, from the first to the last."""
        layout = self.layout
        result = np.empty((len(rows), *self.shape[1:]), self._little)
        if len(rows) and np.array_equal(rows, np.arange(rows[0], rows[0] + len(rows))):
            return self._read(descriptor, layout.at["features"] + int(rows[0]) * layout.row_bytes, result)
        order = np.argsort(rows, kind="stable")
        ordered = rows[order]
        stretch = ordered // max(1, BLOCK // layout.row_bytes)
        edges = [0, *(np.flatnonzero(np.diff(stretch)) + 1), len(rows)]
        for begin, end in zip(edges, edges[1:], strict=False):
            if begin == end:
                continue
            low, high = int(ordered[begin]), int(ordered[end - 1])
            if high - low + 1 > _SPARSE * (end - begin):
                # Few rows of a long stretch: reading what lies between would take longer than one call for each.
                for position in order[begin:end]:
                    at = layout.at["features"] + int(rows[position]) * layout.row_bytes
                    self._read(descriptor, at, result[position])
                continue
            span = np.empty((high - low + 1, *self.shape[1:]), self._little)
            self._read(descriptor, layout.at["features"] + low * layout.row_bytes, span)
            result[order[begin:end]] = span[ordered[begin:end] - low]
        return result

    def _read(self, descriptor: int, at: int, into: np.ndarray) -> np.ndarray:
        if read_exactly(descriptor, at, into.reshape(-1).data.cast("B")) < into.nbytes:
            raise CacheError(f"{self.path} was cut short while it was read; {way_out(self.path)}")
        return into


class ShardedFile(FeatureFile):
    """A complete file whose features stand in shards, each a complete file itself; it is read as any other.

    Features come from the shards by their own checksums, never through HDF5, which would read a missing one as zeros.
    """

    @property
    def size(self) -> int:
        """Bytes on disk, of the shards as well."""
        paths = (self._path_of(number) for number in range(len(self.layout.shards)))
        return self.layout.size + sum(path.stat().st_size for path in paths if path.exists())

    def features(self, rows: np.ndarray | None = None) -> np.ndarray:
        """As of a single file; CacheError too where a shard is missing or is another than was joined."""
        rows = self._row_numbers(rows)
        result = np.empty((len(rows), *self.shape[1:]), self._little)
        order = np.argsort(rows, kind="stable")
        which = np.searchsorted(self._ends, rows[order], side="right")
        edges = [0, *(np.flatnonzero(np.diff(which)) + 1), len(rows)]
        for begin, end in zip(edges, edges[1:], strict=False):
            if begin < end:
                number, here = int(which[begin]), order[begin:end]
                first = int(self._ends[number]) - self.layout.shards[number].rows
                result[here] = self.shard(number).features(rows[here] - first)
        return result

    def whole(self) -> np.ndarray:
        """All features as an array in memory: several files cannot be mapped as one."""
        return self.features()

    def verify(self) -> None:
        """Read the file and every shard anew; CacheError for the first that is damaged, missing or another one."""
        super().verify()
        for number in range(len(self.layout.shards)):
            self._opened_shard(number).verify()

    def shard(self, number: int) -> FeatureFile:
        """One of the files that hold the features."""
        if number not in self._shards:
            self._shards[number] = self._opened_shard(number)
        return self._shards[number]

    @cached_property
    def _shards(self) -> dict[int, FeatureFile]:
        return {}

    @cached_property
    def _ends(self) -> np.ndarray:
        return np.cumsum([shard.rows for shard in self.layout.shards])

    def _path_of(self, number: int) -> Path:
        return shards_path(self.path) / self.layout.shards[number].name

    def _opened_shard(self, number: int) -> FeatureFile:
        path, called = self._path_of(number), f"shard {number + 1} of {len(self.layout.shards)} of {self.path.name}"
        try:
            file = FeatureFile.open(path)
        except FileNotFoundError:
            raise CacheError(f"{called} is missing: there is no {path}; {way_out(self.path)}") from None
        if file.fingerprint != self.layout.shards[number].fingerprint:
            raise CacheError(f"{called} is another file than the one that was joined: {path}; {way_out(self.path)}")
        return file
