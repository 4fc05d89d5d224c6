"""What the store's files are called, and which names in its folder are its own.

A name is made for people; only the 16 hex digits at its end count. Beside a complete `X.h5` there may be, while it is
being made, `X.h5.partial` (the rows so far), `X.h5.progress.json` (how many are safe), `X.h5.new` (a file that is
being laid out) and `.DIGITS.lock`. What several machines make stands in a folder `X.h5.shards` of such files.
"""

import re
import stat
from collections.abc import Iterator
from pathlib import Path

from features.errors import UserError
from features.home import features_folder
from features.key import About, CacheKey, short_digest

_STEM = r"(?P<stem>[A-Za-z0-9_.+-]+-[0-9a-f]{16})"
_OURS = re.compile(_STEM + r"\.h5(?P<kind>\.partial|\.progress\.json|\.new|\.shards)?")
_LEFT_BY_A_KILL = re.compile(r"\." + _STEM + r"\.h5\.progress\.json\.\w+(?P<kind>\.tmp)")
_LONGEST_PART = 40


class CacheError(UserError):
    """A file of the cache is damaged, or is not what its name says."""


def way_out(path: Path) -> str:
    """What to do about a file that cannot be used; a shard goes with the file that it belongs to."""
    name = path.parent.name.removesuffix(".shards") if path.parent.name.endswith(".h5.shards") else path.name
    return f"remove it with `python -m features remove {name}` and extract again"


def feature_path(key: CacheKey, about: About, folder: Path | None = None) -> Path:
    """Where the complete file for a key stands: dataset-split-backbone-layer-pool-digits.h5.

    folder: None for that of all features; else the one of a file's shards.
    """
    parts = (about.dataset_name, key.split, key.backbone, about.layer_name, key.pool)
    safe = [re.sub(r"[^A-Za-z0-9_.+]+", "_", part)[-_LONGEST_PART:].lstrip(".") or "_" for part in parts]
    return (folder or features_folder()) / f"{'-'.join(safe)}-{short_digest(key)}.h5"


def partial_path(path: Path) -> Path:
    """The file that a pass writes before it becomes `path`."""
    return path.with_name(path.name + ".partial")


def progress_path(path: Path) -> Path:
    """The record of how many rows of the partial file are safe."""
    return path.with_name(path.name + ".progress.json")


def new_path(path: Path) -> Path:
    """Where a file is laid out before it becomes the partial file."""
    return path.with_name(path.name + ".new")


def shards_path(path: Path) -> Path:
    """The folder that holds the shards of the file `path`."""
    return path.with_name(path.name + ".shards")


def own_files(folder: Path | None = None) -> Iterator[tuple[str, str, Path]]:
    """(stem, kind, path) of each regular file in the folder that bears a name of the store's making, in order of name.

    kind is '' for a complete file, else the ending after `.h5`; '.shards' is a folder. Links are never the store's own.
    folder: None for that of all features; else one of shards.
    """
    folder = folder or features_folder()
    if not folder.is_dir():
        return
    for path in sorted(folder.iterdir()):
        match = _OURS.fullmatch(path.name) or _LEFT_BY_A_KILL.fullmatch(path.name)
        try:
            mode = path.lstat().st_mode
        except FileNotFoundError:  # another process published or removed it just now
            continue
        if match and (stat.S_ISDIR(mode) if match["kind"] == ".shards" else stat.S_ISREG(mode)):
            yield match["stem"], match["kind"] or "", path


def names_a_file(name: str) -> bool:
    """Whether a complete file of the store may bear this name."""
    match = _OURS.fullmatch(name)
    return match is not None and match["kind"] is None


def sweep(path: Path) -> None:
    """Delete what killed processes left beside the file `path`; only whoever holds its lock may do that."""
    for left in path.parent.glob(f".{path.name}.progress.json.*.tmp"):
        left.unlink(missing_ok=True)
    new_path(path).unlink(missing_ok=True)
