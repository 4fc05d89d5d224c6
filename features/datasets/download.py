"""Getting a data set's files through torchvision's own download code, and checking files by the MD5s it knows.

Everything that touches torchvision's classes is here. A download goes to a folder of its own beside the files and is
moved into place when it is complete, so that an interrupted one leaves nothing behind that looks like data. An archive
that a user has put there is unpacked without a network. No existing file is ever overwritten.
"""

import contextlib
import http.client
import io
import lzma
import shutil
import socket
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from features.digests import sha256_file
from features.errors import UserError
from features.notes import remembered_answer

OFFLINE = "python -m extract --dataset digits --backbone efficientnet_lite0 --layer all"
TIMEOUT_SECONDS = 10


@dataclass(frozen=True)
class Origin:
    """How torchvision knows a data set.

    class_name: in torchvision.datasets. folder: where, relative to the root, the class keeps its files. calls: the
    arguments of the class that give the splits 'train' and 'test'. exact: whether a file that torchvision knows by its
    MD5 and that has another one is refused.
    """

    class_name: str
    folder: str = "."
    calls: dict[str, dict[str, Any]] = field(
        default_factory=lambda: {"train": {"train": True}, "test": {"train": False}}
    )

    exact: bool = True

    def torchvision_class(self) -> Any:
        """The class itself; imports torchvision."""
        import torchvision.datasets

        return getattr(torchvision.datasets, self.class_name)

    def checksums(self) -> dict[str, str]:
        """The MD5 of each file that torchvision knows, by its path relative to `folder`."""
        kind = self.torchvision_class()
        if hasattr(kind, "tgz_md5"):
            inside = [*kind.train_list, *kind.test_list, (kind.meta["filename"], kind.meta["md5"])]
            return {kind.filename: kind.tgz_md5} | {f"{kind.base_folder}/{name}": md5 for name, md5 in inside}
        if hasattr(kind, "split_list"):
            return {name: md5 for _, name, md5 in kind.split_list.values()}
        if hasattr(kind, "md5"):
            return {Path(kind.url).name: kind.md5}
        resources = kind.resources
        if isinstance(resources, dict):
            resources = [resource for split in resources.values() for resource in split]
        return {Path(address).name: md5 for address, md5 in resources}


def check(source: Origin, folder: Path, name: str) -> None:
    """Raise UserError unless the file `folder/name` is the one that torchvision expects; asked once per content."""
    digest = sha256_file(folder / name)

    def is_torchvisions() -> str:
        expected = source.checksums().get(name)
        if expected is None:
            return "unknown to torchvision"
        if not _intact(source, folder / name, name):
            raise damaged(folder / name, f"its MD5 is not the {expected} that torchvision expects")
        return "intact"

    remembered_answer(f"is {digest} torchvision's {source.class_name} {name}", is_torchvisions)


def damaged(path: Path, reason: str) -> UserError:
    """The error for a file that is not what it was when it was published."""
    return UserError(
        f"{path} is cut short or altered: {reason}; delete it and run again to download it, or put an intact copy in "
        "its place"
    )


def fetch(dataset: str, source: Origin, root: Path, missing: list[Path]) -> None:
    """Download or unpack through torchvision so that the `missing` files below `root` are there; UserError if not."""
    folder = root / source.folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
        from filelock import FileLock

        with FileLock(folder / ".download.lock"):
            if all(path.exists() for path in missing):
                return
            incoming = folder / ".incoming"
            shutil.rmtree(incoming, ignore_errors=True)
            try:
                _fetch_into(dataset, source, folder, incoming, missing)
            finally:
                shutil.rmtree(incoming, ignore_errors=True)
    except OSError as error:
        raise UserError(
            f"cannot write the data set '{dataset}' to {folder} ({error.strerror or error}); free space there, make it "
            f"writable, or set $LAYERPROBE_HOME to another folder"
        ) from error


def _fetch_into(dataset: str, source: Origin, folder: Path, incoming: Path, missing: list[Path]) -> None:
    (incoming / source.folder).mkdir(parents=True)
    for name in [name for name in source.checksums() if (folder / name).is_file()]:
        # torchvision downloads over a file with a wrong MD5, and through a link to it.
        if not source.exact and not _intact(source, folder / name, name):
            continue
        check(source, folder, name)
        (incoming / source.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (incoming / source.folder / name).symlink_to((folder / name).absolute())
    failure: Exception | None = None
    with _quickly_and_quietly():
        try:
            for arguments in source.calls.values():
                source.torchvision_class()(root=incoming, download=True, **arguments)
        except (
            RuntimeError, ConnectionError, TimeoutError, http.client.HTTPException, ValueError, EOFError,
            zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError,
        ) as error:  # fmt: skip
            failure = error
        except OSError as error:
            # urllib's errors are OSErrors without an error number; those of a full or forbidden disk have one.
            if error.errno is not None:
                raise
            failure = error
    # Whatever arrived whole is kept, so that a second try has less to do: torchvision has checked each archive.
    arrived = [path for path in (incoming / source.folder).rglob("*") if path.is_file() and not path.is_symlink()]
    whole = set(source.checksums())
    for path in arrived:
        name = path.relative_to(incoming / source.folder).as_posix()
        target = folder / name
        if target.exists() or (failure and name not in whole):
            continue
        if failure and not _intact(source, path, name):
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        path.replace(target)
    absent = [path for path in missing if not path.exists()]
    if absent:
        reason = " ".join(str(failure).split()) if failure else "torchvision has not brought it"
        raise UserError(
            f"{absent[0].name} of the data set '{dataset}' is missing and cannot be downloaded ({reason}); put it into "
            f"{absent[0].parent}, or work without a network: {OFFLINE}"
        ) from failure


def _intact(source: Origin, path: Path, name: str) -> bool:
    from torchvision.datasets.utils import check_md5

    return check_md5(path, source.checksums()[name])


@contextlib.contextmanager
def _quickly_and_quietly() -> Iterator[None]:
    """Give up soon where there is no network, and keep torchvision's remarks out of standard output."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT_SECONDS)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        socket.setdefaulttimeout(before)
