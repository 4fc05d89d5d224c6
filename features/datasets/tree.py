"""Folders as people have them: where images stand in them, and what else was met on the way.

Hidden folders, and those that operating systems and network drives leave behind, are never entered: what lies there
are copies and thumbnails. What is skipped is counted, so that it can be said.
"""

import os
import stat
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from features.datasets.content import LOOK, starts_as_image
from features.datasets.findings import Finding, Item
from features.datasets.images import FIRST_SUFFIXES, IMAGE_SUFFIXES
from features.errors import UserError

_LEFT_BEHIND = frozenset(
    (
        *("__macosx", "__pycache__", "lost+found", "system volume information", "$recycle.bin", "recycler"),
        *("@eadir", "@recycle", "@recently-snapshot", "@__thumb", "#recycle", "#snapshot"),
    )
)
# Not even noted.
_UNSAID = frozenset(("thumbs.db", "desktop.ini"))
# Not opened to look: what lies beside images by the million, copies that editors and downloads leave, and TIFFs that
# are no pictures yet (cameras' raw data) or too many at once (slides).
_NOT_OPENED = frozenset(
    (
        *(".txt", ".xml", ".json", ".csv", ".tsv", ".npy", ".npz", ".md", ".html", ".py", ".yaml", ".yml", ".db"),
        *(".bak", ".orig", ".old", ".tmp", ".part", ".crdownload"),
        *(".nef", ".nrw", ".cr2", ".cr3", ".arw", ".srf", ".sr2", ".dng", ".pef", ".orf", ".rw2", ".raf", ".srw"),
        *(".svs", ".ndpi", ".scn", ".bif", ".lsm", ".vms"),
    )
)


@dataclass
class Seen:
    """What was met on the way besides images.

    hidden: folders that were not entered. others: files that are no images, by their suffixes. by_content: images that
    their names do not tell. later: whether the images are others than those that version 0.1.0 found. remarks: what
    people should hear of it besides, without the folder's name. loose: images in no class's folder.
    """

    hidden: list[str] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)
    by_content: list[str] = field(default_factory=list)
    later: bool = False
    remarks: list[str] = field(default_factory=list)
    loose: list[str] = field(default_factory=list)

    def told(self, root: Path) -> tuple[str, ...]:
        """A line for each kind of thing, for people."""
        return (*self.notes(root), *(f"{root}: {finding.line}" for finding in self.findings(root)))

    def notes(self, root: Path) -> tuple[str, ...]:
        """The lines on what is as it should be."""
        remarks = list(self.remarks)
        if self.by_content:
            files = some([below(root, path) for path in self.by_content])
            remarks.append(f"files that are images by their content alone are read as such ({files})")
        return tuple(f"{root}: {remark}" for remark in remarks)

    def findings(self, root: Path) -> tuple[Finding, ...]:
        """What was skipped, and may have been meant."""
        findings = []
        if self.loose:
            line = f"images that stand in no class's folder are left out ({some(self.loose)})"
            findings.append(Finding("left out", line, tuple(map(Item, self.loose))))
        if self.hidden:
            hidden = [below(root, path) for path in self.hidden]
            line = f"hidden folders are skipped ({some(hidden)})"
            findings.append(Finding("skipped", line, tuple(Item(name, says="a hidden folder") for name in hidden)))
        if count := self.others.total():
            most_first = sorted(self.others.items(), key=lambda item: (-item[1], item[0]))
            kinds = [f"{number:,} {suffix or 'without suffix'}" for suffix, number in most_first]
            stand = "1 file is no image" if count == 1 else f"{count:,} files are no images"
            line = f"{stand} and skipped ({some(kinds, 5)})"
            items = (Item(f"*{suffix}", says=f"{number:,} files that are no images") for suffix, number in most_first)
            findings.append(Finding("skipped", line, tuple(items)))
        return tuple(findings)


def below(root: Path, path: Path | str) -> str:
    """A path as it is told beside the folder that it lies in: 'cat/1.png'."""
    return str(path).removeprefix(f"{root}{os.sep}")


def some(names: Sequence[str], most: int = 3) -> str:
    """The first of some names: 'cat/1.png, cat/2.png, cat/3.png and 5 more'."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def is_hidden(name: str) -> bool:
    """Whether a folder of this name is hidden, or was left behind by a system."""
    return name.startswith(".") or name.casefold() in _LEFT_BEHIND


def images_below(folder: Path, seen: Seen | None = None) -> list[Path]:
    """The image files in a folder and in the folders below it, sorted by their path relative to it.

    Links to folders are followed, except to one that the link lies in: its images would be found again and again.
    seen: takes note of what is skipped. Raises the OSError of a folder that cannot be listed.
    """
    parents = frozenset(map(_identity, folder.absolute().parents))
    if not folder.is_dir() or _identity(folder) in parents:
        return []
    paths = []
    inside = {str(folder): parents | {_identity(folder)}}
    for where, folders, names in os.walk(folder, followlinks=True, onerror=_refuse):
        around, kept = inside.pop(where), []
        for name in folders:
            inner = f"{where}{os.sep}{name}"
            if is_hidden(name):
                if seen is not None:
                    seen.hidden.append(inner)
                    seen.later = seen.later or _holds_images(inner)
            elif (identity := _identity(inner)) not in around:
                inside[inner] = around | {identity}
                kept.append(name)
        folders[:] = kept
        paths += [path for name in names if _is_image(path := f"{where}{os.sep}{name}", name, seen)]
    # Sorted as text, before there are Path objects: of those, a million take seconds to compare.
    return [Path(path) for path in sorted(paths, key=lambda path: path.replace(os.sep, "/"))]


def look_into(folder: Path, seen: Seen | None = None) -> tuple[list[str], list[str]]:
    """The names of the folders directly in a folder, without hidden ones, and of the images, both sorted; UserError if
    it is no folder."""
    try:
        with os.scandir(folder) as scanned:
            entries = sorted(scanned, key=lambda entry: entry.name)
    except OSError as error:
        raise UserError(f"cannot list the folder {folder} ({error.strerror}); give a folder of images") from error
    folders = [entry.name for entry in entries if entry.is_dir()]
    if seen is not None:
        # One with a dot is no class for anybody, and was none in version 0.1.0; the others were.
        left_behind = [str(folder / name) for name in folders if is_hidden(name) and not name.startswith(".")]
        seen.hidden += left_behind
        seen.later = seen.later or any(map(_holds_images, left_behind))
    images = [entry.name for entry in entries if not entry.is_dir() and _is_image(entry.path, entry.name, None)]
    return [name for name in folders if not is_hidden(name)], images


def folders_in(folder: Path) -> list[str]:
    """The names of the folders directly in a folder, sorted, without hidden ones; UserError if it is no folder."""
    return look_into(folder)[0]


def _holds_images(folder: str) -> bool:
    """Whether version 0.1.0 found images here; a folder that cannot be listed holds none."""
    return any(_was_image(name) for _, _, names in os.walk(folder) for name in names)


def _was_image(name: str) -> bool:
    """Whether version 0.1.0 took a file of this name for an image."""
    return not name.startswith(".") and name.lower().endswith(FIRST_SUFFIXES)


def _is_image(path: str, name: str, seen: Seen | None) -> bool:
    """Whether a file is an image, by its suffix or, where that tells nothing, by its first bytes; hidden ones never
    are. What is none is noted."""
    if name.startswith("."):
        return False
    suffix = os.path.splitext(name)[1].lower()  # noqa: PTH122 - as below
    by_content = suffix not in IMAGE_SUFFIXES and suffix not in _NOT_OPENED and _starts_as_image(path)
    if suffix not in IMAGE_SUFFIXES and not by_content:
        if seen is not None and name.lower() not in _UNSAID:
            seen.others[suffix] += 1
        return False
    if seen is not None:
        seen.later = seen.later or not _was_image(name)
        seen.by_content += [path] if by_content else []
    return True


def _starts_as_image(path: str) -> bool:
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # noqa: PTH116 - as below
            return False
        with open(path, "rb") as stream:  # noqa: PTH123
            return starts_as_image(stream.read(LOOK))
    except OSError:
        return False


def _identity(folder: Path | str) -> tuple[int, int]:
    status = os.stat(folder)  # noqa: PTH116 - a Path for each of many folders takes longer than the call itself
    return status.st_dev, status.st_ino


def _refuse(error: OSError) -> None:
    raise error
