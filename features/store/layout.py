"""What stands where in a file of the store.

    user block      magic, the block's own SHA-256, sizes; a description (JSON); a SHA-256 per MiB of all that follows
    HDF5 proper     attribute `key`; `about`, `recipe` (JSON); `labels` (N,), `index` (N,), `features` (N, ...)

The user block is the part of an HDF5 file that HDF5 leaves to applications. So the checksums travel with the file,
appear by the same rename as its numbers, and can be compared before a single byte is trusted: reading goes by the
description and never hands unverified bytes to the HDF5 library. Other tools open the file as plain HDF5.

Where `features` stand in shards, the file has everything else, the list of the shards with the digest of each, and for
other tools a virtual data set over them. Those have to verify first: HDF5 reads a missing shard as zeros.

HDF5 lays everything out once; what it leaves room for is written in place. Same inputs, same bytes, for one
version of h5py and HDF5.
"""

import dataclasses
import hashlib
import json
import math
import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from features.digests import canonical_json
from features.key import DTYPES, About, CacheKey
from features.store.checksums import BLOCK, SUM, read_exactly
from features.store.disk import write_exactly
from features.store.draft import draft_of
from features.store.naming import CacheError, names_a_file, shards_path, way_out
from features.versions import version_of

_FAMILY = b"layerprobe h5 "
_MAGIC = _FAMILY + b"1\n"
_HEAD = struct.Struct("<16s32sQQQ")
SEAL = slice(16, 48)
_LARGEST = 10**18
_SPARE = 64 << 10  # bytes that HDF5 may take for records of its own
_MAPPING = 1024  # bytes that a shard takes in a virtual data set, at the most


@dataclass(frozen=True)
class Shard:
    """A file that holds the next `rows` rows; fingerprint: the SHA-256 over its description and checksums."""

    name: str
    rows: int
    fingerprint: str


@dataclass(frozen=True)
class Layout:
    """The description of one file: what it holds, and the byte at which each data set begins.

    start: bytes of the user block. sums_at: where the checksums begin in it. at: of labels, index and features; with
    shards the features take no room, and `at` is the end of the file.
    """

    key: CacheKey
    about: About
    recipe: dict[str, Any]
    shape: tuple[int, ...]
    dtype: str
    size: int
    at: dict[str, int]
    start: int
    sums_at: int
    digest: str
    shards: tuple[Shard, ...] = ()

    @property
    def row_bytes(self) -> int:
        """Bytes of one row of features."""
        return math.prod(self.shape[1:]) * np.dtype(self.dtype).itemsize

    @property
    def blocks(self) -> int:
        """How many MiB, the last perhaps begun, have a checksum."""
        return -(-(self.size - self.start) // BLOCK)

    def blocks_of(self, first: int, last: int) -> range:
        """The blocks that hold the bytes from `first` up to `last`."""
        return range((first - self.start) // BLOCK, (last - 1 - self.start) // BLOCK + 1)

    def contents_of(self, block: int) -> str:
        """In words: what a block holds."""
        first = self.start + block * BLOCK
        last = min(first + BLOCK, self.size)
        parts = ["its description"] if first < min(self.at.values()) else []
        for name in ("labels", "index"):
            if first < self.at[name] + 8 * self.shape[0] and self.at[name] < last:
                parts.append(f"its {name}")
        if (offset := self.at["features"]) < last:
            rows = [max(0, edge - offset) // self.row_bytes for edge in (first, last - 1)]
            parts.append(f"features of rows {rows[0]} to {rows[1]}")
        elif self.shards and last == self.size:
            parts.append("its virtual data set")
        return " and ".join(parts) or "padding"


class LaidOut:
    """What a file of features says of itself, complete or not: its layout read out by name."""

    layout: Layout

    @property
    def key(self) -> CacheKey:
        """What the file is, or will be, exactly."""
        return self.layout.key

    @property
    def about(self) -> About:
        """What people are told about it."""
        return self.layout.about

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, D) or (N, C, H, W): of all features, done or not."""
        return self.layout.shape

    @property
    def dtype(self) -> str:
        """'float32' or 'float16'."""
        return self.layout.dtype

    @property
    def recipe(self) -> dict[str, Any]:
        """How the pass computes it (batch size, versions and the like), as the pass gave it."""
        return {name: value for name, value in self.layout.recipe.items() if name != "store"}

    @property
    def versions(self) -> dict[str, str]:
        """Those of the packages that computed it, by their names."""
        store = self.layout.recipe.get("store")
        own = store.get("layerprobe", "0.1.0") if isinstance(store, dict) else "0.1.0"  # which noted none of itself
        noted = self.layout.recipe.get("versions")
        named = [str(version).rpartition(" ") for version in noted] if isinstance(noted, list) else []
        return {"layerprobe": str(own), **{package: version for package, _, version in named if package}}


def read_layout(descriptor: int, path: Path, *, sealed: bool = True) -> tuple[Layout, bytes]:
    """The layout and the checksums of an open file; CacheError where its user block is damaged or the file cut short.

    sealed=False reads a file that is still being written, whose user block has no checksum yet.
    """
    size = os.fstat(descriptor).st_size
    head = bytearray(_HEAD.size)
    read_exactly(descriptor, 0, memoryview(head))
    magic, seal, start, length, blocks = _HEAD.unpack(head)
    if magic.startswith(_FAMILY) and magic != _MAGIC and magic.endswith(b"\n"):
        raise CacheError(f"{path} was written by another version of layerprobe; {way_out(path)}")
    beginning = f"{path} is damaged in its beginning (checksums and description); {way_out(path)}"
    sums_at = _HEAD.size + length
    if magic != _MAGIC or not 512 <= start <= size or sums_at + blocks * SUM > start:
        raise CacheError(beginning)
    block = bytearray(start)
    if read_exactly(descriptor, 0, memoryview(block)) < start:
        raise CacheError(beginning)
    if sealed and hashlib.sha256(memoryview(block)[SEAL.stop :]).digest() != seal:
        raise CacheError(beginning)
    try:
        layout = _parse(bytes(block[_HEAD.size : sums_at]), start, sums_at)
        if layout.blocks != blocks:
            raise ValueError("as many checksums as MiB")
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError, OverflowError) as error:
        unknown = f"{path} describes itself in a way that is not understood ({error}); {way_out(path)}"
        raise CacheError(unknown) from None
    if size != layout.size:
        fault = "cut short" if size < layout.size else "longer than it was"
        raise CacheError(f"{path} is {fault}: {size:,} bytes instead of {layout.size:,}; {way_out(path)}")
    return layout, bytes(block[sums_at : sums_at + blocks * SUM])


def _parse(text: bytes, start: int, sums_at: int) -> Layout:
    fields = json.loads(text)
    at = {name: int(fields["at"][name]) for name in ("labels", "index", "features")}
    layout = Layout(
        key=CacheKey.from_json(fields["key"]),
        about=About.from_json(fields["about"]),
        recipe=dict(fields["recipe"]),
        shape=tuple(int(length) for length in fields["shape"]),
        dtype=fields["dtype"],
        size=int(fields["size"]),
        at=at,
        start=start,
        sums_at=sums_at,
        digest=hashlib.sha256(text).hexdigest(),
        shards=tuple(Shard(name, int(rows), fingerprint) for name, rows, fingerprint in fields.get("shards", ())),
    )
    rows = layout.shape[0]
    if layout.dtype not in DTYPES or min(layout.shape) < 1 or len(layout.shape) < 2:
        raise ValueError(f"features of shape {layout.shape} and type {layout.dtype}")
    ends = (at["labels"] + 8 * rows, at["index"] + 8 * rows, at["features"])
    if min(at.values()) < start or max(ends) > at["features"]:
        raise ValueError("data sets outside of the file")
    if at["features"] + (0 if layout.shards else rows * layout.row_bytes) != layout.size:
        raise ValueError("another size than its features have")
    if layout.shards:
        named = all(names_a_file(shard.name) and shard.rows > 0 for shard in layout.shards)
        if not named or sum(shard.rows for shard in layout.shards) != rows:
            raise ValueError(f"{len(layout.shards)} shards that do not make up {rows} rows")
    return layout


def lay_out(
    path: Path,
    key: CacheKey,
    about: About,
    *,
    shape: tuple[int, ...],
    dtype: str,
    labels: np.ndarray,
    index: np.ndarray,
    recipe: dict[str, Any],
    shards: Sequence[Shard] = (),
) -> None:
    """Create a file with everything but the features and the checksums; their room reads as zeros.

    shards: where the features stand, if not in the file itself.
    """
    import h5py

    store = {"h5py": h5py.__version__, "hdf5": h5py.version.hdf5_version, "layerprobe": version_of("layerprobe")}
    recipe = {**recipe, "store": store}
    described = {"key": key.to_json(), "about": dataclasses.asdict(about), "recipe": recipe}
    columns = ("labels", "index", "features")
    whole = {"at": dict.fromkeys(columns, _LARGEST), "size": _LARGEST}
    fields: dict[str, Any] = {**described, "shape": list(shape), "dtype": dtype, **whole}
    if shards:
        fields["shards"] = [[shard.name, shard.rows, shard.fingerprint] for shard in shards]
    texts = {name: canonical_json(value).encode() for name, value in described.items()}
    stored = len(shards) * _MAPPING if shards else math.prod(shape) * np.dtype(dtype).itemsize
    expected = stored + 16 * shape[0] + sum(map(len, texts.values()))
    # Room for the largest numbers that the description may come to hold, and a MiB for HDF5's own records.
    room = _HEAD.size + len(canonical_json(fields)) + (expected // BLOCK + 2) * SUM
    start = max(4096, 1 << (room - 1).bit_length())
    arrays: dict[str, np.ndarray] = {
        "about": np.array(texts["about"]),
        "recipe": np.array(texts["recipe"]),
        "labels": np.ascontiguousarray(labels, "<i8"),
        "index": np.ascontiguousarray(index, "<i8"),
    }
    # track_order, locking: their defaults come from the environment. Formats newer than v108 leave a file that a kill
    # has interrupted unreadable; times of creation would make every file different.
    versions = ("v110", "v110") if shards else ("v108", "v108")
    options = {"libver": versions, "userblock_size": start, "locking": False, "track_order": False}
    features = 0 if shards else stored
    with (
        draft_of(path, start + expected - features + _SPARE, start + 16 * shape[0] + features) as draft,
        h5py.File(draft.path, "w", **options) as file,
    ):
        draft.opened()
        file.attrs.create("key", np.bytes_(texts["key"]))
        for name, value in arrays.items():
            _reserve(file, name, value.shape, value.dtype)
        # Last, so that the features end the file and can be hashed as they are written.
        _reserve(file, "features", shape, np.dtype(dtype).newbyteorder("<"), _virtual(path, shape, shards))
        offsets = {name: file[name].id.get_offset() for name in file}
    at, size = {name: offsets[name] for name in columns}, path.stat().st_size
    if shards:
        at["features"] = size
    elif at["features"] + math.prod(shape) * np.dtype(dtype).itemsize != size:
        raise RuntimeError(f"HDF5 {h5py.version.hdf5_version} does not lay {path} out as expected: {at}, {size} bytes")
    text = canonical_json({**fields, "at": at, "size": size}).encode()
    head = _HEAD.pack(_MAGIC, bytes(SUM), start, len(text), -(-(size - start) // BLOCK))
    with path.open("r+b") as stream:
        write_exactly(stream.fileno(), 0, head + text)
        for name, value in arrays.items():
            write_exactly(stream.fileno(), offsets[name], value.tobytes())


def _reserve(file: Any, name: str, shape: tuple[int, ...], dtype: np.dtype, mappings: Sequence[tuple] = ()) -> Any:
    import h5py

    plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    if mappings:
        for mapping in mappings:
            plan.set_virtual(*mapping)
    else:
        plan.set_layout(h5py.h5d.CONTIGUOUS)
        plan.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
        plan.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    plan.set_obj_track_times(False)
    space = h5py.h5s.create_simple(shape) if shape else h5py.h5s.create(h5py.h5s.SCALAR)
    kind = h5py.h5t.py_create(dtype, logical=True)
    return h5py.Dataset(h5py.h5d.create(file.id, name.encode(), kind, space, plan))


def _virtual(path: Path, shape: tuple[int, ...], shards: Sequence[Shard]) -> list[tuple]:
    """Which rows of a virtual data set stand in which file; names are relative to the folder of the file itself."""
    import h5py

    folder, mappings, first = shards_path(path.with_suffix("")).name, [], 0
    for shard in shards:
        part = (shard.rows, *shape[1:])
        here = h5py.h5s.create_simple(shape)
        here.select_hyperslab((first, *[0] * len(shape[1:])), part)
        mappings.append((here, f"{folder}/{shard.name}".encode(), b"features", h5py.h5s.create_simple(part)))
        first += shard.rows
    return mappings
