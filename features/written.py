"""Files that a user names to be written: tables, pages, exported networks. They take the place of nothing of others.

What was written under a name is noted by its SHA-256. A file that is there is replaced if it is as it was left, else
only where the user says so.
"""

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path

from features.digests import sha256_file
from features.notes import Notes
from features.whole import whole

_WRITTEN = Notes("written")
_SPECIAL = ("/dev", "/proc")


def is_special(path: Path) -> bool:
    """Whether a name stands for a stream (/dev/stdout, a named pipe), of which nothing can be replaced."""
    return str(path.absolute()).startswith(_SPECIAL) or (path.exists() and not path.is_file())


def is_as_written(path: Path) -> bool:
    """Whether a file is what was last written under its name."""
    try:
        return not path.is_symlink() and _WRITTEN.get(str(path.absolute())) == sha256_file(path, fresh=True)
    except OSError:
        return False


def note_written(path: Path) -> None:
    """Note that a file was written as it is now."""
    if not is_special(path):
        _WRITTEN.put(str(path.absolute()), sha256_file(path, fresh=True))


@contextlib.contextmanager
def text_written(path: Path) -> Iterator[io.TextIOBase]:
    """A stream of UTF-8 text to a file, which is there when the block ends, or when Ctrl-C ends it; what is no text in
    a file's name is shown by its numbers."""
    if is_special(path):
        with path.open("w", encoding="utf-8", errors="backslashreplace", newline="") as stream:
            yield stream
        return
    try:
        with whole(path, keep_on=(KeyboardInterrupt,)) as binary:
            text = io.TextIOWrapper(binary, "utf-8", "backslashreplace", "", write_through=True)
            try:
                yield text
            finally:
                text.detach()
    except KeyboardInterrupt:
        note_written(path)
        raise
    note_written(path)
