"""What the disk has room for, and what people are told when the system refuses to write."""

import contextlib
import errno
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from features.errors import UserError
from features.home import features_folder
from features.key import CacheKey, short_digest

_MARGIN = 32 << 20


def as_bytes(count: float) -> str:
    """A number of bytes as people say it: '123 MB'."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.5:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def check_disk(needed: int, keys: Iterable[CacheKey] = (), folder: Path | None = None) -> None:
    """UserError unless `needed` bytes, and a little more, fit on the disk of the features.

    keys: of the files to be made; what their partial files already hold counts as there.
    """
    folder = folder or features_folder()
    standing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    written = sum(
        min(path.stat().st_blocks * 512, path.stat().st_size)
        for key in keys
        for pattern in (".partial", ".shards/*.h5", ".shards/*.partial")
        for path in folder.glob(f"*-{short_digest(key)}.h5{pattern}")
    )
    wanted, free = max(0, needed - written) + _MARGIN, shutil.disk_usage(standing).free
    if wanted > free:
        raise UserError(
            f"the disk of {folder} has {as_bytes(free)} free and {as_bytes(wanted)} are needed; make room for "
            f"{as_bytes(wanted - free)} more (`python -m features` lists what the cache holds), set $LAYERPROBE_HOME "
            "to a folder on a larger disk, or ask for fewer layers, a smaller --pool or --dtype float16"
        )


@contextlib.contextmanager
def refusals_told(path: Path, size: int = 0) -> Iterator[None]:
    """Turn the system's refusal to write `path` (disk full, read-only) into a UserError; other errors pass.

    size: bytes that the whole file takes, to say how much is missing.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(
                f"the disk of {path.parent} is full: {path.name} needs {_missing(path, size)} more; make room and run "
                "the same command again: what is complete stays usable, and what is partial carries on where it stopped"
            ) from error
        if error.errno == errno.EFBIG:
            raise UserError(
                f"{path.name} would be larger ({as_bytes(size)}) than {path.parent} or `ulimit -f` allows; raise the "
                "limit, set $LAYERPROBE_HOME to a folder without it, or ask for a smaller --pool or --dtype float16"
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise UserError(
                f"cannot write {path.name} in {path.parent} ({os.strerror(error.errno).lower()}); make the folder "
                "writable or set $LAYERPROBE_HOME to one that is"
            ) from error
        raise


def _missing(path: Path, size: int) -> str:
    held = path.stat().st_blocks * 512 if path.exists() else 0
    lacking = size - held - shutil.disk_usage(path.parent).free
    return as_bytes(lacking) if lacking > 0 else "a little"


def reserve(descriptor: int, size: int) -> None:
    """Have the file system set aside a file's whole length, where it can."""
    if not hasattr(os, "posix_fallocate"):
        return
    try:
        os.posix_fallocate(descriptor, 0, size)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
            raise


def write_exactly(descriptor: int, at: int, data: memoryview | bytes) -> None:
    """Write all of the data at position `at` of a file."""
    data = memoryview(data)
    while len(data):
        count = os.pwrite(descriptor, data, at)
        data, at = data[count:], at + count


def sync_data(descriptor: int) -> None:
    """Wait until a file's data is on the disk."""
    getattr(os, "fdatasync", os.fsync)(descriptor)


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
