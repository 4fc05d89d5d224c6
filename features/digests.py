"""SHA-256 of the things a cache depends on, and the one way to write a small JSON file.

A file's digest is remembered by its path and its witness (size, and the times of the last change of its content and
of anything about it), so that a second run reads megabytes of data only once; whoever must not trust a witness
(verification) asks for a fresh reading.
"""

import errno
import hashlib
import json
import os
import stat
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from features.home import home

# Nanoseconds. File systems stamp changes by a clock that moves every 1 to 10 ms: a file that changed less than this
# before it is read might change again without getting another time.
_TICK = 20_000_000
_NO_PLACE = (errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOSPC, errno.EDQUOT)


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
    """The SHA-256 of a file's content, remembered by path and witness unless a `fresh` reading is asked for."""
    return _sha256_files([path], home() / "digests.json", fresh)[0]


def sha256_files(paths: Sequence[Path | str], *, together: Path | str, fresh: bool = False) -> list[str]:
    """The SHA-256 of each of many files, in order, remembered as `sha256_file` does but in one file for all of them.

    together: what the files belong to (the folder of a data set); it names the file in which they are remembered, so
    that a million images burden nobody else's run. What was read before an interruption is kept. Raises the OSError of
    the first file that cannot be read, with its name.
    """
    name = hashlib.sha256(str(Path(together).absolute()).encode()).hexdigest()[:16]
    return _sha256_files(paths, home() / "digests" / f"{name}.json", fresh)


def witness(path: Path | str) -> list[int]:
    """What tells whether a file was written to: its size, and two times in nanoseconds.

    The time of modification alone can be set back by anyone (`touch`, `cp -p`, a clock that jumps); the time of change
    cannot be set. OSError for what is no regular file: a pipe would be waited for without end.
    """
    status = os.stat(path)  # noqa: PTH116 - a Path for each of a million files takes longer than the call itself
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "is no regular file", str(path))
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns]


def remembered_answer(question: str, answer: Callable[[], str]) -> str:
    """The answer to a question that always has the same one, worked out the first time and then remembered.

    A question about a file's content carries the content's digest, so that the answer can never be out of date. An
    answer that raises is not remembered.
    """
    memory = home() / "answers.json"
    known = read_record(memory).get(question)
    if isinstance(known, str):
        return known
    found = answer()
    _remember(memory, {question: found})
    return found


def _sha256_files(paths: Sequence[Path | str], memory: Path, fresh: bool) -> list[str]:
    remembered = {} if fresh else read_record(memory)
    digests: dict[str, str] = {}
    unread: dict[str, list[int]] = {}
    here = Path.cwd()
    absolute = [os.path.join(here, path) for path in paths]  # noqa: PTH118
    for path in absolute:
        seen = witness(path)
        known = remembered.get(path)
        if isinstance(known, list) and known[:-1] == seen and isinstance(known[-1], str):
            digests[path] = known[-1]
        else:
            unread[path] = seen
    if unread:
        new = {}
        settled = _wait_for_another_time(unread)
        pool = ThreadPoolExecutor(max_workers=min(8, len(unread)))
        try:
            for path, digest in zip(unread, pool.map(_read_digest, unread), strict=True):
                digests[path] = digest
                if unread[path][-1] < settled:
                    new[path] = [*unread[path], digest]
        finally:
            pool.shutdown(cancel_futures=True)
            if new:
                _remember(memory, new)
    return [digests[path] for path in absolute]


def _wait_for_another_time(unread: dict[str, list[int]]) -> int:
    """Let the file systems' clock move on from files that changed just now; the time before which a witness holds.

    Files from the future (the clock was set back) are not waited for, and not remembered.
    """
    newest = max((seen[-1] for seen in unread.values() if seen[-1] <= time.time_ns()), default=0)
    wait = newest + _TICK - time.time_ns()
    if 0 < wait <= _TICK:
        time.sleep(wait / 1e9)
    return time.time_ns() - _TICK + 1


def _read_digest(path: str) -> str:
    with open(path, "rb") as stream:  # noqa: PTH123
        return hashlib.file_digest(stream, "sha256").hexdigest()


def read_record(path: Path) -> dict[str, Any]:
    """The dictionary in a JSON file; an empty one where the file is absent or holds anything else."""
    record = read_json(path)
    return record if isinstance(record, dict) else {}


def _remember(memory: Path, new: dict[str, Any]) -> None:
    # Read again just before writing: another process may have added its own in the meantime.
    write_note(memory, {**read_record(memory), **new})


def read_json(path: Path, default: Any = None) -> Any:
    """The value in a JSON file, or `default` where the file is absent, unreadable or no JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return default


def write_note(path: Path, value: Any) -> None:
    """Write a JSON file that only saves work the next time; where the place is full or read-only there is none."""
    try:
        write_json(path, value)
    except OSError as error:
        if error.errno not in _NO_PLACE:
            raise


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
