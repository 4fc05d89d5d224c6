"""One process at a time makes a file; the system takes the lock from a holder that dies.

The lock is `flock` on a small file that goes away with it. A file system without locks is said to be one, and the work
goes on: files are still whole or absent, but two processes would do the same work and disturb each other.
"""

import contextlib
import errno
import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from features.home import features_folder
from features.key import CacheKey, short_digest
from features.store.disk import refusals_told

_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL)
_HELD = (errno.EAGAIN, errno.EACCES)


@contextlib.contextmanager
def lock(key: CacheKey, say: Callable[[str], None] | None = None, folder: Path | None = None) -> Iterator[None]:
    """Hold the right to make the file of a key, in a folder of shards or that of all features; waits for another
    holder, and says so once.

    Whoever needs several takes them in the order of their digests, so that two processes cannot wait for each other.
    UserError where the folder cannot be written.
    """
    with lock_digest(short_digest(key), wait=True, say=say, folder=folder):
        yield


@contextlib.contextmanager
def lock_digest(
    digits: str,
    *,
    wait: bool,
    say: Callable[[str], None] | None = None,
    folder: Path | None = None,
    doing: str = "extracting the same features",
) -> Iterator[bool]:
    """The same by the digits in the file's name; yields whether the lock was had, False only without `wait`. doing:
    what the holder is said to do."""
    path = (folder or features_folder()) / f".{digits}.lock"
    with refusals_told(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = _acquire(path, wait, say or (lambda message: None), doing)
    try:
        yield descriptor is not None
    finally:
        if descriptor is not None:
            # Gone before it is let go: whoever waits on this file finds it nameless and opens a new one.
            try:
                with contextlib.suppress(OSError):  # another user's, in a folder where each may remove his own alone
                    path.unlink(missing_ok=True)
            finally:
                os.close(descriptor)


def _open(path: Path) -> int:
    """A descriptor of the lock's file, made as the umask has it; one that another user left is locked as well, since
    that takes no right to write."""
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
    except PermissionError:
        with contextlib.suppress(FileNotFoundError):
            return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        raise


def _acquire(path: Path, wait: bool, say: Callable[[str], None], doing: str) -> int | None:
    said = False
    while True:
        descriptor = _open(path)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno in _NO_LOCKS:
                    say(
                        f"the file system of {path.parent} knows no locks ({os.strerror(error.errno).lower()}): see to "
                        f"it that only one process is {doing} at a time"
                    )
                    return descriptor
                if error.errno not in _HELD:
                    raise
                if not wait:
                    os.close(descriptor)
                    return None
                if not said:
                    say(f"another process is {doing}; waiting to use its result")
                    said = True
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            if _still_named(descriptor, path):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _still_named(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except FileNotFoundError:
        return False
