"""Files in the IDX format of MNIST, plain or gzipped: checked against their header, read, and known by their content.

A gzipped file is read as it is. Nothing is unpacked beside it, so a folder may be read-only, or a link to one that
others use, and no two runs can meet in a half-written file.
"""

import functools
import gzip
import hashlib
import io
import math
import zlib
from pathlib import Path

import numpy as np

from features.bombs import refuse_bomb
from features.datasets.download import damaged
from features.digests import sha256_file
from features.errors import UserError
from features.notes import remembered_answer
from features.regular import read_regular

_LONGEST_HEADER = 4 + 4 * 255
_KEPT_UP_TO = 16 * 2**20  # bytes of a gzipped file whose content is kept in memory: MNIST's images have 10 million
# The format's type codes that image sets use; numbers are big-endian.
_TYPES: dict[int, np.dtype] = {0x08: np.dtype("u1"), 0x0C: np.dtype(">i4")}


def read_idx(path: Path) -> np.ndarray:
    """The array in a file, in its own shape; uint8 or big-endian int32. UserError if its length is not its header's."""
    # A copy, because an array over a file's bytes is read-only and torch warns of such.
    return _array(_content(path), path).copy()


def idx_digest(path: Path) -> str:
    """The SHA-256 of the unpacked content, whether or not the file is gzipped, remembered; UserError as `read_idx`."""
    digest = sha256_file(path)

    def unpacked() -> str:
        content = _content(path)
        _array(content, path)
        return hashlib.sha256(content).hexdigest()

    return remembered_answer(f"the SHA-256 of the IDX file inside {digest}", unpacked)


def _content(path: Path) -> bytes:
    try:
        content = read_regular(path)
        if path.suffix != ".gz":
            return content
        return _unpacked(content, path) if len(content) <= _KEPT_UP_TO else _unpacked.__wrapped__(content, path)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise damaged(path, str(error)) from error
    except OSError as error:
        raise UserError(
            f"cannot read {path} ({error.strerror}); make it readable or put a copy in its place"
        ) from error


@functools.lru_cache(maxsize=4)
def _unpacked(packed: bytes, path: Path) -> bytes:
    """What a gzipped file holds: a command asks six times for MNIST's images, which take a third of a second each."""
    with gzip.open(io.BytesIO(packed)) as stream:
        content = stream.read(_LONGEST_HEADER)
        if promise := _promise(content):
            refuse_bomb(path, len(packed), promise[2])
        # One byte more than was promised is enough to see that there is more.
        return content + (stream.read(max(0, promise[2] + 1 - len(content))) if promise else b"")


def _array(content: bytes, path: Path) -> np.ndarray:
    promise = _promise(content)
    if promise is None:
        raise damaged(path, "it has no IDX header")
    kind, shape, promised = promise
    if len(content) != promised:
        more = "more than that" if len(content) > promised else f"{len(content)}"
        raise damaged(path, f"its header promises {promised} bytes and it has {more}")
    try:
        return np.frombuffer(content, kind, offset=4 + 4 * len(shape)).reshape(shape)
    except ValueError as error:  # a side of 0 beside sides beyond measure, or more sides than arrays have
        raise damaged(path, str(error)) from error


def _promise(content: bytes) -> tuple[np.dtype, list[int], int] | None:
    """The type and shape that a header gives, and the length of the whole file; None where there is no header."""
    dimensions = content[3] if len(content) > 3 else 0
    start = 4 + 4 * dimensions
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] not in _TYPES or not dimensions or len(content) < start:
        return None
    shape = np.frombuffer(content, ">u4", dimensions, 4).tolist()
    return _TYPES[content[2]], shape, start + math.prod(shape) * _TYPES[content[2]].itemsize
