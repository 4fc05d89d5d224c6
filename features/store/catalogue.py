"""What the cache holds: complete files, partial ones, and what killed processes left; and how to be rid of them.

Only regular files in the folder that bear a name of the store's making are looked at or removed; a link is nobody's.
"""

import contextlib
import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from features.errors import UserError
from features.key import About, CacheKey
from features.store.disk import refusals_told
from features.store.locks import lock_digest
from features.store.naming import CacheError, own_files, partial_path
from features.store.reader import FeatureFile, ShardedFile
from features.store.shards import Division, read_division, remove_shards, shard_files
from features.store.writer import PartialRecord


@dataclass(frozen=True)
class PartialShards:
    """Shards that do not make up their file yet; shape is that of the rows of the first that is complete."""

    division: Division
    shape: tuple[int, ...]
    rows_done: int

    @property
    def key(self) -> CacheKey:
        """What the file will be."""
        return self.division.key

    @property
    def about(self) -> About:
        """What people are told about it."""
        return self.division.about


Record = FeatureFile | PartialRecord | PartialShards


@dataclass(frozen=True)
class Entry:
    """One thing in the cache: the files that belong to it, and what they hold if that can be read.

    state: 'complete', 'partial', 'damaged', or 'left over' for what a killed process did not get to delete. shards:
    the folder of a file that is made, or was made, in shards; its files are among the paths.
    """

    stem: str
    paths: tuple[Path, ...]
    state: str
    record: Record | None = None
    fault: str = ""
    shards: Path | None = None

    @property
    def digits(self) -> str:
        """The 16 hex digits by which it is found."""
        return self.stem[-16:]

    @property
    def size(self) -> int:
        """Bytes of its files."""
        return sum(path.lstat().st_size for path in self.paths if path.exists())

    @property
    def unfinished(self) -> bool:
        """Whether it is no complete file, whole or damaged, but what stands where one is to be."""
        return not any(path.name == f"{self.stem}.h5" for path in self.paths)

    @property
    def share(self) -> float:
        """The part of its rows that is there, 0 to 1."""
        record = self.record
        return record.rows_done / record.shape[0] if isinstance(record, PartialRecord | PartialShards) else 1.0


def entries() -> list[Entry]:
    """Everything in the cache, in order of name."""
    listed = []
    for stem, group in itertools.groupby(sorted(own_files()), key=lambda file: file[0]):
        files = {path: kind for _, kind, path in group}
        folder = next((path for path, kind in files.items() if kind == ".shards"), None)
        complete = [path for path, kind in files.items() if not kind]
        beside = tuple(path for path, kind in files.items() if kind and path != folder)
        for path in complete:
            entry = _entry(stem, (path,), "complete", path, FeatureFile.open)
            if folder and (isinstance(entry.record, ShardedFile) or entry.state == "damaged"):
                entry, folder = replace(entry, paths=(path, *shard_files(folder)), shards=folder), None
            listed.append(entry)
        if folder:
            listed.append(_shards_entry(stem, folder, begun=not complete))
        if any(files[path] == ".partial" for path in beside):
            path = partial_path(beside[0].with_name(f"{stem}.h5"))
            listed.append(_entry(stem, beside, "partial", path, PartialRecord.read))
        elif beside:
            listed.append(Entry(stem, beside, "left over"))
    return listed


def _entry(
    stem: str, paths: tuple[Path, ...], state: str, path: Path, read: Callable[[Path], FeatureFile | PartialRecord]
) -> Entry:
    try:
        return Entry(stem, paths, state, read(path))
    except (CacheError, OSError) as error:
        return Entry(stem, paths, "damaged", fault=str(error))


def _shards_entry(stem: str, folder: Path, begun: bool) -> Entry:
    """A folder of shards without a file that is read from them."""
    paths = tuple(shard_files(folder))
    if not begun:
        return Entry(stem, paths, "left over", shards=folder)
    if (division := read_division(folder)) is None:
        return Entry(stem, paths, "damaged", fault=f"{folder} does not say what it is for", shards=folder)
    rows, shape = 0, tuple[int, ...]()
    for path in paths:
        if path.suffix == ".h5":
            with contextlib.suppress(CacheError, OSError):
                shard = FeatureFile.open(path)
                rows, shape = rows + shard.shape[0], shard.shape[1:]
    return Entry(stem, paths, "partial", PartialShards(division, (division.rows, *shape), rows), shards=folder)


def list_files() -> list[FeatureFile]:
    """The complete files whose description is sound."""
    return [entry.record for entry in entries() if isinstance(entry.record, FeatureFile)]


def nearest(key: CacheKey) -> tuple[FeatureFile, dict[str, tuple[Any, Any]]] | None:
    """The complete file whose key differs from this one in the fewest fields, and those; None in an empty cache."""
    compared = [(file, key.differences(file.key)) for file in list_files()]
    return min(compared, key=lambda pair: len(pair[1]), default=None)


def remove(entry: Entry) -> int:
    """Delete the files of an entry; the bytes that they had. UserError while another process writes them."""
    with lock_digest(entry.digits, wait=False) as had:
        if not had:
            raise UserError(f"{entry.stem} is being extracted by another process; stop that one first")
        size = entry.size
        for path in entry.paths:
            with refusals_told(path):
                path.unlink(missing_ok=True)
        if entry.shards:
            remove_shards(entry.shards)
    return size
