"""Files that are written whole: aside, then renamed, so that a reader finds the old content or the new.

A disk that fills up, or a process that is killed, leaves what stood there. Permissions follow the umask. What the
system refuses carries the name of the file that it is about.
"""

import contextlib
import hashlib
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO


@contextlib.contextmanager
def whole(path: Path, *, keep_on: tuple[type[BaseException], ...] = ()) -> Iterator[BinaryIO]:
    """A stream to a file that gets its name at the block's end, and goes if that raises.

    keep_on: exceptions on which what is written so far gets the name all the same.
    """
    aside = path.with_name(f"{left_aside(path)}{os.urandom(4).hex()}.tmp")
    try:
        with io.BufferedWriter(NewFile(aside, path)) as stream:
            try:
                yield stream
            except keep_on:
                _finish(stream, aside, path)
                raise
            _finish(stream, aside, path)
    finally:
        aside.unlink(missing_ok=True)


def write_whole(path: Path, data: bytes) -> None:
    """Write a file at once, and make its folder where there is none."""
    with named(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as stream:
        stream.write(data)


def left_aside(path: Path) -> str:
    """How the names begin of what a kill leaves of a file; a name of its own is at most 255 bytes long."""
    name = path.name if len(os.fsencode(path.name)) < 230 else hashlib.sha256(os.fsencode(path.name)).hexdigest()[:32]
    return f".{name}."


@contextlib.contextmanager
def named(path: Path) -> Iterator[None]:
    """Meanwhile have what the system refuses say that it is about this file."""
    try:
        yield
    except OSError as error:
        if error.errno is not None:
            error.filename = str(path)
        raise


class NewFile(io.FileIO):
    """A file that was not there, for writing; what the system refuses is said of `path`, which it is to become."""

    def __init__(self, aside: Path, path: Path) -> None:
        with named(path):
            super().__init__(aside, "x")
        self._path = path

    def write(self, data: Any) -> int:
        with named(self._path):
            return super().write(data)


def _finish(stream: BinaryIO, aside: Path, path: Path) -> None:
    stream.flush()
    with named(path):
        os.fsync(stream.fileno())
        stream.close()
        aside.replace(path)
