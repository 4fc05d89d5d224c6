"""The file that a pass writes: laid out once, then filled block by block, so that a kill costs the last block alone.

Whoever writes holds the lock of the key (`features.store.lock`). The order that makes it safe: features are written,
flushed to the disk, and only then recorded as done. A resumed pass reads back what is recorded and compares it with
the checksums; what the disk has lost is written again.
"""

import contextlib
import hashlib
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from features.errors import UserError
from features.home import features_folder
from features.key import DTYPES, About, CacheKey, short_digest
from features.notes import read_json, write_json
from features.store.checksums import BLOCK, SUM, RunningSums, read_exactly
from features.store.disk import refusals_told, reserve, sync_data, sync_folder, write_exactly
from features.store.layout import SEAL, LaidOut, Layout, lay_out, read_layout
from features.store.naming import (
    CacheError,
    feature_path,
    new_path,
    partial_path,
    progress_path,
    sweep,
    way_out,
)
from features.store.reader import FeatureFile

_CHUNK = 4 * BLOCK


@dataclass(frozen=True)
class PartialRecord(LaidOut):
    """A file that is not complete, and how many of its rows are safe."""

    path: Path
    layout: Layout
    rows_done: int
    tail: str

    @classmethod
    def read(cls, path: Path) -> "PartialRecord":
        """The record of the partial file at `path`; CacheError where it cannot be carried on."""
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        try:
            layout, _ = read_layout(descriptor, path, sealed=False)
        finally:
            os.close(descriptor)
        progress = read_json(progress_path(path.with_suffix("")))
        fields = progress if isinstance(progress, dict) else {}
        done, tail = fields.get("rows_done"), fields.get("tail")
        described = fields.get("description") == layout.digest and isinstance(tail, str)
        if not described or type(done) is not int or not 0 <= done <= layout.shape[0]:
            raise CacheError(f"{path} has no record of how far it got; {way_out(path)}")
        return cls(path, layout, done, str(tail))


def existing_partial(key: CacheKey, folder: Path | None = None) -> PartialRecord | None:
    """The partial file for a key that can be carried on; None where there is none."""
    for path in sorted((folder or features_folder()).glob(f"*-{short_digest(key)}.h5.partial")):
        with contextlib.suppress(CacheError, OSError):
            record = PartialRecord.read(path)
            if record.key == key:
                return record
    return None


def discard_partial(path: Path) -> None:
    """Delete what was begun of the file `path`, under whatever name; only whoever holds its lock may do that."""
    # A record may outlive its file: a kill between the last rename and its deletion.
    progress_path(path).unlink(missing_ok=True)
    for older in path.parent.glob(f"*{path.name[-20:]}.partial"):
        progress_path(older.with_suffix("")).unlink(missing_ok=True)
        older.unlink()


class PartialFile(LaidOut):
    """A file being written. Rows are given in order; those that are there already are passed over.

    rows_done: rows that are safe on the disk, whatever happens now.
    """

    def __init__(self, path: Path, descriptor: int, layout: Layout, sums: RunningSums, rows_done: int) -> None:
        self.path = path
        self.layout = layout
        self.rows_done = rows_done
        self._descriptor = descriptor
        self._sums = sums
        self._written = rows_done
        self._sums_on_disk = len(sums.sums) // SUM if rows_done else 0

    @classmethod
    def open(
        cls,
        key: CacheKey,
        about: About,
        *,
        shape: tuple[int, ...],
        dtype: str,
        labels: np.ndarray,
        index: np.ndarray,
        recipe: dict[str, Any],
        folder: Path | None = None,
    ) -> "PartialFile":
        """Carry on the partial file for a key if a new one would be the same in all but the features; else start over.

        shape: of all features, (N, D) or (N, C, H, W). labels, index: (N,) int64. recipe: JSON values; the versions of
        h5py and HDF5 are added. folder: None for that of all features; else one of shards. UserError where the folder
        cannot be written or the disk is full.
        """
        shape = tuple(int(length) for length in shape)
        if dtype not in DTYPES or key.dtype != dtype:
            raise ValueError(f"features are stored as {' or '.join(DTYPES)}, as the key says, not as {dtype}")
        if len(shape) < 2 or min(shape) < 1:
            raise ValueError(f"features need at least one row of at least one number, not the shape {shape}")
        if len(labels) != shape[0] or len(index) != shape[0]:
            raise ValueError(f"{shape[0]} rows with {len(labels)} labels and {len(index)} positions")
        begun = existing_partial(key, folder)
        needed = math.prod(shape) * np.dtype(dtype).itemsize + 16 * shape[0]

        def laid_out(about: About) -> Path:
            path = feature_path(key, about, folder)
            with refusals_told(path, needed):
                path.parent.mkdir(parents=True, exist_ok=True)
                sweep(path)
                try:
                    lay_out(
                        new_path(path), key, about, shape=shape, dtype=dtype, labels=labels, index=index, recipe=recipe
                    )
                except OSError:
                    new_path(path).unlink(missing_ok=True)
                    raise
            return path

        if begun:
            # What is carried on keeps the names that it was begun under; what starts over has its own.
            path = laid_out(begun.about)
            same = _same_but_features(begun.path, new_path(path))
            if same or begun.about != about:
                new_path(path).unlink()
            if same:
                return cls._carry_on(begun, path)
        if not begun or begun.about != about:
            path = laid_out(about)
        return cls._start_over(path)

    @classmethod
    def _start_over(cls, path: Path) -> "PartialFile":
        fresh, partial = new_path(path), partial_path(path)
        discard_partial(path)
        descriptor = os.open(fresh, os.O_RDWR | os.O_NOFOLLOW)
        with refusals_told(path, os.fstat(descriptor).st_size):
            try:
                reserve(descriptor, os.fstat(descriptor).st_size)
                layout, _ = read_layout(descriptor, fresh, sealed=False)
                sums = RunningSums()
                _hash_file(descriptor, layout.start, layout.at["features"], sums)
                os.fsync(descriptor)
                fresh.rename(partial)
                file = cls(path, descriptor, layout, sums, 0)
                file._record()
                sync_folder(path.parent)
            except BaseException:
                os.close(descriptor)
                fresh.unlink(missing_ok=True)
                raise
        return file

    @classmethod
    def _carry_on(cls, begun: PartialRecord, path: Path) -> "PartialFile":
        descriptor = os.open(begun.path, os.O_RDWR | os.O_NOFOLLOW)
        try:
            layout, recorded = read_layout(descriptor, begun.path, sealed=False)
            reserve(descriptor, layout.size)
            rows, sums = begun.rows_done, RunningSums()
            _hash_rows(descriptor, layout, rows, sums)
            if (bad := _first_difference(sums, recorded, begun.tail)) is not None:
                rows = max(0, layout.start + bad * BLOCK - layout.at["features"]) // layout.row_bytes
                sums = RunningSums()
                _hash_rows(descriptor, layout, rows, sums)
            file = cls(path, descriptor, layout, sums, rows)
            if rows < begun.rows_done:
                file._record()
            return file
        except BaseException:
            os.close(descriptor)
            raise

    def write(self, start: int, block: np.ndarray) -> None:
        """Write rows `start`, `start` + 1, ... (n, ...) as float32 or float16, after those written before.

        Rows at the front that are there already keep the values they have: layers that advance together may have been
        recorded up to different rows when they were killed. ValueError for a gap or another shape.
        """
        block = np.asarray(block)
        if block.shape[1:] != self.shape[1:] or start < 0 or start + len(block) > self.shape[0]:
            raise ValueError(f"rows {start} and on of shape {block.shape} do not fit into {self.shape}")
        if start > self._written:
            raise ValueError(f"rows are written in order: {self._written} is next, not {start}")
        block = block[self._written - start :]
        if not len(block):
            return
        data = self._converted(block).reshape(-1).data.cast("B")
        with self._refusals_told():
            write_exactly(self._descriptor, self._row_at(self._written), data)
        self._sums.update(data)
        self._written += len(block)

    def commit(self, rows_done: int) -> None:
        """Make sure that the rows before `rows_done`, written before, survive whatever happens next."""
        if rows_done > self._written:
            raise ValueError(f"{rows_done} rows cannot be recorded: {self._written} are written")
        if rows_done > self.rows_done:
            self._record()

    def publish(self) -> FeatureFile:
        """Seal the file and give it its name, whole or not at all; the file is closed then."""
        if self.rows_done != self.shape[0]:
            raise ValueError(f"{self.path.name} is not complete: {self.rows_done} of {self.shape[0]} rows")
        partial = partial_path(self.path)
        with self._refusals_told():
            seal(self._descriptor, self.layout, self._sums.finish())
            self.close()
            partial.rename(self.path)
            sync_folder(self.path.parent)
            progress_path(self.path).unlink(missing_ok=True)
        return FeatureFile.open(self.path)

    def close(self) -> None:
        """Let go of the file; what is recorded stays."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _record(self) -> None:
        sums = bytes(self._sums.sums)
        fields = {"rows_done": self._written, "tail": self._sums.tail, "description": self.layout.digest}
        with self._refusals_told():
            first = self._sums_on_disk * SUM
            write_exactly(self._descriptor, self.layout.sums_at + first, sums[first:])
            sync_data(self._descriptor)
            write_json(progress_path(self.path), fields)
        self._sums_on_disk = len(sums) // SUM
        self.rows_done = self._written

    def _row_at(self, row: int) -> int:
        return self.layout.at["features"] + row * self.layout.row_bytes

    def _refusals_told(self) -> contextlib.AbstractContextManager:
        return refusals_told(partial_path(self.path), self.layout.size)

    def _converted(self, block: np.ndarray) -> np.ndarray:
        with np.errstate(over="ignore"):
            converted = np.ascontiguousarray(block, np.dtype(self.dtype).newbyteorder("<"))
        if self.dtype == "float16" and np.isinf(converted).sum() > np.isinf(block).sum():
            largest = float(np.abs(block[np.isfinite(block)], dtype=np.float64).max())
            raise UserError(
                f"a feature of {self.layout.about.layer_name} is {largest:.3g}, more than float16 can hold (65504); "
                "store it with --dtype float32"
            )
        return converted


def seal(descriptor: int, layout: Layout, sums: bytes) -> None:
    """Write the checksums of a file that is complete, and the one of its user block, to the disk."""
    write_exactly(descriptor, layout.sums_at, sums)
    beginning = bytearray(layout.start)
    read_exactly(descriptor, 0, memoryview(beginning))
    write_exactly(descriptor, SEAL.start, hashlib.sha256(memoryview(beginning)[SEAL.stop :]).digest())
    os.fsync(descriptor)


def _same_but_features(path: Path, other: Path) -> bool:
    """Whether two unfinished files agree in every byte but the seal, the checksums and the features."""
    with path.open("rb") as first, other.open("rb") as second:
        layout, sums = read_layout(second.fileno(), other, sealed=False)
        if os.fstat(first.fileno()).st_size != layout.size:
            return False
        hashed = (SEAL.start, SEAL.stop, layout.sums_at, layout.sums_at + len(sums))
        edges = (0, *hashed, layout.at["features"])
        for begin, end in zip(edges[::2], edges[1::2], strict=True):
            first.seek(begin)
            second.seek(begin)
            for at in range(begin, end, _CHUNK):
                length = min(_CHUNK, end - at)
                if first.read(length) != second.read(length):
                    return False
    return True


def _hash_rows(descriptor: int, layout: Layout, rows: int, sums: RunningSums) -> None:
    _hash_file(descriptor, layout.start, layout.at["features"] + rows * layout.row_bytes, sums)


def _hash_file(descriptor: int, begin: int, end: int, sums: RunningSums) -> None:
    buffer = memoryview(bytearray(min(_CHUNK, end - begin)))
    for at in range(begin, end, _CHUNK):
        piece = buffer[: min(_CHUNK, end - at)]
        read_exactly(descriptor, at, piece)
        sums.update(piece)


def _first_difference(sums: RunningSums, recorded: bytes, tail: str) -> int | None:
    complete = len(sums.sums) // SUM
    for block in range(complete):
        here = slice(block * SUM, (block + 1) * SUM)
        if sums.sums[here] != recorded[here]:
            return block
    return complete if sums.tail != tail else None
