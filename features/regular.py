"""Files that are read are files: a named pipe, a device or a socket in the place of one is refused, never waited for.

A pipe would be waited on for ever, and a device such as /dev/zero read until memory ends.
"""

import errno
import io
import os
import stat
from pathlib import Path

# A pipe without a writer would else not even be opened; bytes are bytes on Windows, too.
_READ_ONLY = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
_KINDS = (
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISDIR, "a folder"),
)


def open_regular(path: Path | str) -> io.BufferedReader:
    """A file opened for reading; OSError as `open` raises it, and for what is no file, links being followed."""
    return os.fdopen(regular_descriptor(path), "rb")


def regular_descriptor(path: Path | str) -> int:
    """The same as a descriptor."""
    descriptor = os.open(path, _READ_ONLY)
    try:
        _require(os.fstat(descriptor).st_mode, path)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def require_regular(path: Path | str) -> None:
    """OSError for a path at which there is no file, for what others open by name."""
    _require(Path(path).stat().st_mode, path)


def _require(mode: int, path: Path | str) -> None:
    if not stat.S_ISREG(mode):
        kind = next((name for is_kind, name in _KINDS if is_kind(mode)), "something else")
        raise OSError(errno.EINVAL, f"it is {kind} and no file", str(path))


def read_regular(path: Path | str, *, most: int | None = None) -> bytes:
    """The bytes of a file; ValueError where there are more than `most`."""
    with open_regular(path) as stream:
        content = stream.read() if most is None else stream.read(most + 1)
    if most is not None and len(content) > most:
        raise ValueError(f"it has more than {most:,} bytes")
    return content
