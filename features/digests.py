"""SHA-256 of the things a cache depends on.

A file's digest is remembered by its path and its witness (size, and the times of the last change of its content and
of anything about it), so that a second run reads megabytes of data only once; whoever must not trust a witness
(verification) asks for a fresh reading.
"""

import errno
import hashlib
import json
import os
import stat
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from features.commands.progress import progress_if_slow
from features.notes import Notes, if_there_is_place

# Nanoseconds. File systems stamp changes by a clock that moves every 1 to 10 ms: a file that changed less than this
# before it is read might change again without getting another time.
TICK = 20_000_000
_NOTES = Notes("digests", old="digests.json")

# A file's witness, and its digest.
Entry = list[int | str]


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
    question = os.path.join(Path.cwd(), path)  # noqa: PTH118
    remembered = {} if fresh else {question: _NOTES.get(question)}
    return _sha256_files([path], remembered, lambda new: _NOTES.put(question, new[question]))[0]


def sha256_files(paths: Sequence[Path | str], *, together: Path | str) -> list[str]:
    """The SHA-256 of each of many files, in order, remembered as `sha256_file` does but in one note for all of them.

    together: what the files belong to (the folder of a data set). What was read before an interruption is kept. Raises
    the OSError of the first file that cannot be read, with its name.
    """
    kind = f"digests/{hashlib.sha256(str(Path(together).absolute()).encode()).hexdigest()[:16]}"
    notes = Notes(kind)
    noted = dict(notes.items())
    remembered = {path: entry for entries in noted.values() for path, entry in entries.items()}
    remembered = remembered or dict(Notes(kind, old=f"{kind}.json").items())

    def note(new: dict[str, Entry]) -> None:
        # A note is named by all that is known and never changes, and goes when another one holds the whole of it: so
        # processes that read at the same time may leave several, but lose nothing.
        everything = {**remembered, **new}
        name = sha256_json(everything)
        if notes.put(name, everything):
            for older in noted.keys() - {name}:
                with if_there_is_place():
                    notes.place(older).unlink(missing_ok=True)

    if len(noted) > 1:
        note({})
    return _sha256_files(paths, remembered, note)


def witness(path: Path | str) -> list[int]:
    """What tells whether a file was written to: its size, and two times in nanoseconds.

    The time of modification alone can be set back by anyone (`touch`, `cp -p`, a clock that jumps); the time of change
    cannot be set. OSError for what is no regular file: a pipe would be waited for without end.
    """
    status = os.stat(path)  # noqa: PTH116 - a Path for each of a million files takes longer than the call itself
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "is no regular file", str(path))
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns]


def _sha256_files(
    paths: Sequence[Path | str], remembered: Mapping[str, Any], note: Callable[[dict[str, Entry]], object]
) -> list[str]:
    digests: dict[str, str] = {}
    unread: dict[str, list[int]] = {}
    here = Path.cwd()
    absolute = [os.path.join(here, path) for path in paths]  # noqa: PTH118
    for path in absolute:
        status = witness(path)
        entry = remembered.get(path)
        if isinstance(entry, list) and entry[:-1] == status and isinstance(entry[-1], str):
            digests[path] = entry[-1]
        else:
            unread[path] = status
    if unread:
        new: dict[str, Entry] = {}
        settled = _wait_for_another_time(unread)
        pool = ThreadPoolExecutor(max_workers=min(8, len(unread)))
        try:
            with progress_if_slow() as advance:
                for path, digest in zip(unread, pool.map(_read_digest, unread), strict=True):
                    digests[path] = digest
                    advance("read", len(digests), len(absolute))
                    if unread[path][-1] < settled:
                        new[path] = [*unread[path], digest]
        finally:
            pool.shutdown(cancel_futures=True)
            if new:
                note(new)
    return [digests[path] for path in absolute]


def _wait_for_another_time(unread: dict[str, list[int]]) -> int:
    """Let the file systems' clock move on from files that changed just now; the time before which a witness holds.

    Files from the future (the clock was set back) are not waited for, and not remembered.
    """
    newest = max((seen[-1] for seen in unread.values() if seen[-1] <= time.time_ns()), default=0)
    wait = newest + TICK - time.time_ns()
    if 0 < wait <= TICK:
        time.sleep(wait / 1e9)
    return time.time_ns() - TICK + 1


def _read_digest(path: str) -> str:
    with open(path, "rb") as stream:  # noqa: PTH123
        return hashlib.file_digest(stream, "sha256").hexdigest()
