"""A file that several machines make together: divided into shards of rows, joined without copying, or made into one.

Each shard is a complete file of the store, in the folder `X.h5.shards` beside the `X.h5` to be: the same key but for
its rows, written, locked and resumed as any other. How the rows are divided is settled once and kept in the folder, so
that a shard that is finished is never made again, whatever the number of machines. Who computes is left to others.
"""

import contextlib
import dataclasses
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from features.digests import sha256_json, sha256_rows
from features.errors import UserError
from features.home import features_folder
from features.key import About, CacheKey, short_digest
from features.notes import read_json, write_json
from features.store.checksums import BLOCK, RunningSums, read_exactly
from features.store.disk import check_disk, refusals_told, sync_folder
from features.store.layout import Shard, lay_out, read_layout
from features.store.locks import lock
from features.store.naming import (
    CacheError,
    feature_path,
    new_path,
    own_files,
    shards_path,
    way_out,
)
from features.store.reader import FeatureFile, ShardedFile
from features.store.writer import PartialFile, discard_partial, seal

_PLAN = "shards.json"


@dataclass(frozen=True)
class Division:
    """How the rows of the file for a key are divided: `size` to a shard, the last one perhaps fewer.

    recipe: how the pass computes, the same for every shard, as JSON values.
    """

    key: CacheKey
    about: About
    rows: int
    size: int
    recipe: dict[str, Any]

    @property
    def path(self) -> Path:
        """The file that the shards make up."""
        return feature_path(self.key, self.about)

    @property
    def folder(self) -> Path:
        """Where the shards stand."""
        return shards_path(self.path)

    def __len__(self) -> int:
        return -(-self.rows // self.size)

    def rows_of(self, number: int) -> slice:
        """The rows of a shard."""
        return slice(number * self.size, min((number + 1) * self.size, self.rows))

    def key_of(self, index: np.ndarray) -> CacheKey:
        """The key of the shard with these positions in the data set's split."""
        return dataclasses.replace(self.key, rows=sha256_rows(index))

    def find(self, key: CacheKey) -> FeatureFile | None:
        """The complete shard of a key, or None; CacheError where it is damaged."""
        try:
            file = FeatureFile.open(feature_path(key, self.about, self.folder))
        except FileNotFoundError:
            return None
        if file.key != key or file.recipe != self.recipe:
            return None
        return file

    def keep(self) -> "Division":
        """Write this division down, unless the same one is; shards of another one are deleted."""
        if begun_division(self.key) != self:
            fields: dict[str, Any] = {"key": self.key.to_json(), "about": dataclasses.asdict(self.about)}
            fields |= {"rows": self.rows, "size": self.size, "recipe": self.recipe}
            for folder in _folders(self.key):
                remove_shards(folder)
            with refusals_told(self.folder):
                self.folder.mkdir(parents=True, exist_ok=True)
                write_json(self.folder / _PLAN, {**fields, "digest": sha256_json(fields)})
        return self


def begun_division(key: CacheKey) -> Division | None:
    """How a file was divided when its shards were begun; None where there are none that can be carried on."""
    for folder in _folders(key):
        if (division := read_division(folder)) is not None and division.key == key:
            return division
    return None


def read_division(folder: Path) -> Division | None:
    """What a folder of shards is for, or None where that cannot be read."""
    try:
        fields = dict(read_json(folder / _PLAN) or {})
        if fields.pop("digest", None) != sha256_json(fields):
            return None
        division = Division(
            CacheKey.from_json(fields["key"]),
            About.from_json(fields["about"]),
            int(fields["rows"]),
            int(fields["size"]),
            dict(fields["recipe"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
    return division if division.size > 0 and division.rows > 0 and division.folder.name == folder.name else None


def join(division: Division, names: list[str]) -> FeatureFile:
    """Make the complete file out of its shards, given by name in the order of their rows, without copying a feature.

    Whoever calls holds the lock of the key. CacheError where a shard is missing, damaged or not what it should be:
    its description and every label are verified here, every other MiB when it is first read.
    """
    files = [FeatureFile.open(division.folder / name) for name in names]
    rows = [division.rows_of(number) for number in range(len(division))]
    if [file.shape[0] for file in files] != [here.stop - here.start for here in rows]:
        raise CacheError(f"the {len(files)} shards in {division.folder} do not make up {division.rows} rows")
    labels, index = (np.concatenate([getattr(file, name)() for file in files]) for name in ("labels", "index"))
    if division.key_of(index) != division.key or any(file.recipe != division.recipe for file in files):
        raise CacheError(f"the shards in {division.folder} are not those of {division.path.name}")
    shards = [Shard(file.path.name, file.shape[0], file.fingerprint) for file in files]
    shape = (division.rows, *files[0].shape[1:])
    fresh = new_path(division.path)
    with refusals_told(division.path):
        lay_out(
            fresh,
            division.key,
            division.about,
            shape=shape,
            dtype=files[0].dtype,
            labels=labels,
            index=index,
            recipe=division.recipe,
            shards=shards,
        )
        descriptor = os.open(fresh, os.O_RDWR | os.O_NOFOLLOW)
        try:
            layout, _ = read_layout(descriptor, fresh, sealed=False)
            seal(descriptor, layout, _sums(descriptor, layout.start, layout.size))
            fresh.rename(division.path)
            # One machine may have begun the file alone, before there was a cluster; nobody carries that on any more.
            discard_partial(division.path)
            sync_folder(division.path.parent)
        except BaseException:
            fresh.unlink(missing_ok=True)
            raise
        finally:
            os.close(descriptor)
    return FeatureFile.open(division.path)


def compact(sharded: ShardedFile) -> FeatureFile:
    """One file out of the shards, byte for byte the one that a single machine makes by the same recipe.

    Killed, it is carried on by the next call. The shards are deleted once the whole file has its name.
    """
    with lock(sharded.key):
        file = FeatureFile.open(sharded.path)
        if not isinstance(file, ShardedFile):
            remove_shards(shards_path(file.path))
            return file
        check_disk(file.size, [file.key])
        partial = PartialFile.open(
            file.key,
            file.about,
            shape=file.shape,
            dtype=file.dtype,
            labels=file.labels(),
            index=file.index(),
            recipe=file.recipe,
        )
        with contextlib.closing(partial):
            if partial.path != file.path:
                raise UserError(f"{partial.path.name} was begun under another name; {way_out(partial.path)}")
            step = max(1, 32 * BLOCK // file.layout.row_bytes)
            for start in range(partial.rows_done, file.shape[0], step):
                stop = min(start + step, file.shape[0])
                partial.write(start, file.features(np.arange(start, stop)))
                partial.commit(stop)
            whole = partial.publish()
        remove_shards(shards_path(file.path))
        return whole


def shard_files(folder: Path) -> Iterator[Path]:
    """Every regular file of the store's making in a folder of shards."""
    yield from (path for _, kind, path in own_files(folder) if kind != ".shards")
    for path in sorted(folder.glob(f"*{_PLAN}*")):
        is_plan = path.name == _PLAN or path.name.startswith(f".{_PLAN}.")
        if is_plan and path.is_file() and not path.is_symlink():
            yield path


def remove_shards(folder: Path) -> None:
    """Delete a folder of shards, if there is one; what others have put there stays, and the folder with it."""
    if not folder.is_dir() or folder.is_symlink():
        return
    with refusals_told(folder):
        for path in [*shard_files(folder), *folder.glob(".????????????????.lock")]:
            path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            folder.rmdir()


def _folders(key: CacheKey) -> list[Path]:
    folders = sorted(features_folder().glob(f"*-{short_digest(key)}.h5.shards"))
    return [folder for folder in folders if folder.is_dir() and not folder.is_symlink()]


def _sums(descriptor: int, begin: int, end: int) -> bytes:
    sums, buffer = RunningSums(), memoryview(bytearray(BLOCK))
    for at in range(begin, end, BLOCK):
        piece = buffer[: min(BLOCK, end - at)]
        read_exactly(descriptor, at, piece)
        sums.update(piece)
    return sums.finish()
