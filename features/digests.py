"""SHA-256 of the things a cache depends on, and the one way to write a small JSON file.

A file's digest is remembered by its path, size and modification time, so that a second run reads megabytes of data
only once; whoever must not trust those three (verification) asks for a fresh reading.
"""

import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from features.home import home


def canonical_json(value: Any) -> str:
    """The one spelling of a value made of dicts, lists, strings and numbers: keys sorted, no spaces."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def sha256_json(value: Any) -> str:
    """The SHA-256 of a value's canonical JSON, as 64 hex digits."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def sha256_rows(rows: Any) -> str:
    """The SHA-256 of a sequence of row numbers, as little-endian int64."""
    import numpy as np

    return hashlib.sha256(np.ascontiguousarray(rows, dtype="<i8").tobytes()).hexdigest()


def sha256_file(path: Path | str, *, fresh: bool = False) -> str:
    """The SHA-256 of a file's content, remembered by path, size and time unless a `fresh` reading is asked for."""
    path = Path(path).absolute()
    stat = path.stat()
    witness = [stat.st_size, stat.st_mtime_ns]
    memory = home() / "digests.json"
    remembered = read_json(memory, default={})
    known = remembered.get(str(path))
    if not fresh and isinstance(known, list) and known[:2] == witness:
        return known[2]
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    # Read again just before writing: another process may have added its own in the meantime.
    write_json(memory, {**read_json(memory, default={}), str(path): [*witness, digest]})
    return digest


def read_json(path: Path, default: Any = None) -> Any:
    """The value in a JSON file, or `default` where the file is absent or is no JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return default


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file so that a reader finds the old content or the new, never a part of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            json.dump(value, stream, indent=1, sort_keys=True, allow_nan=False)
            stream.flush()
            os.fsync(stream.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
