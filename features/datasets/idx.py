"""Files in the IDX format of MNIST, plain or gzipped: checked against their header, read, and known by their content.

A gzipped file is read as it is. Nothing is unpacked beside it, so a folder may be read-only, or a link to one that
others use, and no two runs can meet in a half-written file.
"""

import gzip
import hashlib
import math
import zlib
from pathlib import Path

import numpy as np

from features.digests import remembered_answer, sha256_file
from features.errors import UserError

# The format's type codes that image sets use; numbers are big-endian.
_TYPES = {0x08: np.dtype("u1"), 0x0C: np.dtype(">i4")}


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
        content = path.read_bytes()
        return gzip.decompress(content) if path.suffix == ".gz" else content
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise UserError(_damaged(path, str(error))) from error
    except OSError as error:
        raise UserError(
            f"cannot read {path} ({error.strerror}); make it readable or put a copy in its place"
        ) from error


def _array(content: bytes, path: Path) -> np.ndarray:
    dimensions = content[3] if len(content) > 3 else 0
    start = 4 + 4 * dimensions
    if content[:2] != b"\0\0" or content[2] not in _TYPES or not dimensions or len(content) < start:
        raise UserError(_damaged(path, "it has no IDX header"))
    shape = np.frombuffer(content, ">u4", dimensions, 4).tolist()
    kind = _TYPES[content[2]]
    promised = start + math.prod(shape) * kind.itemsize
    if len(content) != promised:
        raise UserError(_damaged(path, f"its header promises {promised} bytes and it has {len(content)}"))
    return np.frombuffer(content, kind, offset=start).reshape(shape)


def _damaged(path: Path, reason: str) -> str:
    return (
        f"{path} is cut short or altered: {reason}; delete it and run again to download it, or put an intact copy in "
        "its place"
    )
