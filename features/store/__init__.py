"""The cache on disk: one HDF5 file per (split, layer), immutable once complete, safe against kills, checked when read.

`layout` says what stands where in a file, `checksums` guards its bytes, `writer` makes it, `reader` finds and reads it,
`shards` divides it among machines and joins what they made, `catalogue` lists and removes files, `locks` lets one
process at a time make a file, `disk` turns what the system says (full, read-only) into a line for people. What the
features are, and how they come about, is left to others.
"""

from features.store.catalogue import list_files, nearest
from features.store.disk import check_disk
from features.store.locks import lock
from features.store.naming import CacheError, feature_path
from features.store.reader import FeatureFile, ShardedFile, find
from features.store.shards import Division, begun_division, compact, join
from features.store.writer import PartialFile, PartialRecord, existing_partial

__all__ = [
    "CacheError",
    "Division",
    "FeatureFile",
    "PartialFile",
    "PartialRecord",
    "ShardedFile",
    "begun_division",
    "check_disk",
    "compact",
    "existing_partial",
    "feature_path",
    "find",
    "join",
    "list_files",
    "lock",
    "nearest",
]
