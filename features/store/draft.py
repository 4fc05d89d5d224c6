"""Where HDF5 lays a file out: on a file system in memory, as HDF5 does not survive a full disk.

When HDF5 closes a file on a full disk it complains on its own account, tries again, and may crash (seen with 2.0). So
it never writes to the disk where that can be helped: what it writes, a few kB, is drafted under /dev/shm and copied
from there, as any other write of the store. The room of the features is a hole in the draft and takes no memory.
Without such a file system HDF5 lays the file out in place, after room was made for it.
"""

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from features.store.disk import reserve, write_exactly

MEMORY = Path("/dev/shm")
_SPARED = 1 << 20  # bytes that stay free there
_STALE = 3600.0  # seconds; a draft has its name for milliseconds
_CHUNK = 1 << 20


class Draft:
    """A file for HDF5 to create at `path`, which then is, or is copied to, the file that is wanted.

    Where it is in memory its name goes away as soon as HDF5 has opened it: a process that is killed leaves nothing.
    """

    def __init__(self, path: Path, descriptor: int | None = None) -> None:
        self.path = path
        self._descriptor = descriptor

    def opened(self) -> None:
        """Tell that HDF5 has the file open."""
        if self._descriptor is not None:
            self.path.unlink(missing_ok=True)

    def copy(self, target: int) -> None:
        """Copy a draft in memory, once HDF5 has closed it, to the open file `target`; its holes stay holes."""
        if self._descriptor is None:
            return
        os.truncate(target, os.fstat(self._descriptor).st_size)
        for begin, end in _written(self._descriptor):
            for at in range(begin, end, _CHUNK):
                write_exactly(target, at, os.pread(self._descriptor, min(_CHUNK, end - at), at))


@contextlib.contextmanager
def draft_of(path: Path, written: int, size: int) -> Iterator[Draft]:
    """A draft for the new file at `path`, which stands there afterwards.

    written: bytes that HDF5 will write, at the most, its holes before them included. size: of the whole file, at the
    least. OSError where the disk is full or the file would be too large.
    """
    with path.open("wb") as stream:
        # Too large a file is refused here, and not in HDF5.
        stream.truncate(size)
        if (made := _in_memory(written)) is None:
            reserve(stream.fileno(), written)
            yield Draft(path)
            return
        descriptor, name = made
        try:
            draft = Draft(name, descriptor)
            yield draft
            draft.copy(stream.fileno())
        finally:
            os.close(descriptor)
            name.unlink(missing_ok=True)


def _in_memory(needed: int) -> tuple[int, Path] | None:
    """A new empty file in memory, open, and its name; None where there is no room for one."""
    if not hasattr(os, "SEEK_DATA"):
        return None
    with contextlib.suppress(OSError):
        prefix = f"layerprobe-{os.getuid()}-"
        _sweep(prefix)
        if shutil.disk_usage(MEMORY).free >= needed + _SPARED:
            descriptor, name = tempfile.mkstemp(prefix=prefix, suffix=".draft", dir=MEMORY)
            return descriptor, Path(name)
    return None


def _sweep(prefix: str) -> None:
    """Delete what processes of this user have left that were killed between a draft's creation and its opening."""
    for path in MEMORY.glob(f"{prefix}*.draft"):
        with contextlib.suppress(OSError):
            status = path.lstat()
            if status.st_uid == os.getuid() and time.time() - status.st_mtime > _STALE:
                path.unlink()


def _written(descriptor: int) -> list[tuple[int, int]]:
    """The stretches of a file that are no holes."""
    regions, end = [], 0
    with contextlib.suppress(OSError):
        # Past the last of them the system answers with an error.
        while True:
            begin = os.lseek(descriptor, end, os.SEEK_DATA)
            end = os.lseek(descriptor, begin, os.SEEK_HOLE)
            regions.append((begin, end))
    return regions
