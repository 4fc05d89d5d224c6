"""`csv:PATH`: a list of images in a text file, with the columns image path, label and, if wanted, split and group.

A header is recognised by its names (path, image, file or filename; label, class or target; split or subset; group;
upper or lower case) and may put the columns in any order among others; `csv:PATH?path=COLUMN&label=COLUMN&group=COLUMN`
names them; without one the first two or three columns are meant. Between columns stands a comma, a semicolon, a tab or
'|'. A relative path is meant from the file's own folder or, where nothing is there, from the one folder in that which
has it; an ending such as .jpg may be left out. The split says train, val or test; val stands for test where no row says
test. Without a split one image in five of each class is the test set, always the same ones, equal files and groups on
one side. Classes are the different labels, sorted as numbers if all are whole numbers, else as text.
"""

import csv
import dataclasses
import io
import re
import urllib.parse
from pathlib import Path

import numpy as np

from features.datasets.columns import OPTIONS, Columns, find_columns
from features.datasets.dataset import name_of
from features.datasets.images import IMAGE_SUFFIXES
from features.datasets.labels import as_seen, ordered_classes, settled_labels, stands_for_none
from features.datasets.listed import UNCUT, ListedImages
from features.datasets.parts import PARTS
from features.datasets.survey import AbsentImages
from features.datasets.tree import folders_in, some
from features.errors import UserError
from features.home import user_path
from features.regular import read_regular

_SEPARATORS = (",", ";", "\t", "|")


def open_named(name: str, path: Path, query: str = "") -> ListedImages:
    """The images of a list; UserError names the line for a missing column, an absent file or an unknown split.

    query: the names of columns, as in 'path=id&label=breed'.
    """
    named = _asked(query, path)
    if path.is_dir():
        raise UserError(f"{path} is a folder; name the list in it, as in {name}:{path / 'labels.csv'}")
    table, files = _table(path), _Files(path.parent)
    columns = find_columns([cells for _, cells in table], named, lambda cell: files.find(cell) is not None, path)
    if columns.first == len(table):
        raise UserError(f"{path} has a header and no rows; add one line per image")
    paths: list[Path] = []
    names, splits, groups = [], [], []
    lines: dict[Path, tuple[int, str]] = {}
    absent: dict[Path, str] = {}
    reasons: list[str] = []
    for line, cells in table[columns.first :]:
        where = f"{path}, line {line}"
        image = files.find(_cell_of_path(where, cells, columns))
        if image is None:
            cell = cells[columns.path].strip()
            reasons.append(f"{where}: {files.absence_of(cell)}")
            # It has a place in its class and part until it is left out.
            image = path.parent / (cell or f"line {line}")
            absent[image] = "there is no such file" if cell else "the path is empty"
        label, split, group = _label_part_and_group(where, cells, columns)
        earlier, as_label = lines.setdefault(image, (line, label))
        if as_label != label:
            raise UserError(
                f"{path}, lines {earlier} and {line}: {image} is labelled '{as_label}' and '{label}', and an image has "
                "one label here; take one of the lines out"
            )
        paths.append(image)
        names.append(label)
        splits.append(split)
        groups.append(group)
    spec = f"{name}:{path}{f'?{query}' if query else ''}"
    of_rows = None if columns.group is None else groups

    def whole() -> ListedImages:
        listed = _listed(name_of(name, path), spec, path, paths, names, np.array(splits), of_rows)
        remarks = [*listed.remarks]
        if columns.unread:
            remarks.append(f"{path}: the column {columns.unread} names no part for each row, and is not read")
        if columns.group is not None and "group" not in named:
            column = table[0][1][columns.group].strip()
            count = f"{len(set(groups)):,} groups"
            remarks.append(f"{path}: the column {column} says which images belong together ({count})")
        if columns.sparse:
            column = columns.sparse
            remarks.append(f"{path}: the column {column} is empty on some lines, and groups are not read from it")
        later = listed.later or columns.later
        return dataclasses.replace(listed, remarks=tuple(remarks), later=later, groups_asked="group" in named)

    if absent:
        more = f"; so it is on {len(reasons) - 1:,} more of its lines" if len(reasons) > 1 else ""
        if len(reasons) == len(paths):
            raise UserError(f"{reasons[0]}{more}, which are all that it has")
        raise AbsentImages(f"{reasons[0]}{more}", lambda: whole().without(absent))
    return whole()


def _cell_of_path(where: str, cells: list[str], columns: Columns) -> str:
    """What stands for the image in a line."""
    if len(cells) < columns.most:
        optional = {"split": columns.split, "group": columns.group}
        needed = ["path", "label", *(name for name, column in optional.items() if column is not None)]
        raise UserError(f"{where}, has {len(cells)} columns and needs {columns.most}: {', '.join(needed)}")
    return cells[columns.path].strip()


def _label_part_and_group(where: str, cells: list[str], columns: Columns) -> tuple[str, str, str]:
    """A line's label, and its part and group or ''."""
    label = cells[columns.label].strip()
    if not label:
        raise UserError(f"{where}: the label is empty; fill it in or take the line out")
    group = "" if columns.group is None else as_seen(cells[columns.group].strip())
    if columns.group is not None and stands_for_none(group):
        raise UserError(f"{where}: the group is '{group}', which stands for none; fill it in, or name another column")
    if columns.split is None:
        return label, "", group
    part = columns.part_of(cells[columns.split])
    if part is None:
        raise UserError(f"{where}: the split is '{cells[columns.split].strip()}'; write train or test")
    return label, part, group


def _listed(
    name: str,
    spec: str,
    path: Path,
    paths: list[Path],
    names: list[str],
    splits: np.ndarray,
    groups: list[str] | None,
) -> ListedImages:
    settled, remarks = settled_labels(names, path)
    classes = ordered_classes(settled)
    if len(classes) < 2:
        raise UserError(f"{path} has the one class '{classes[0]}'; two are needed")
    rank = {class_name: label for label, class_name in enumerate(classes)}
    labels = np.array([rank[class_name] for class_name in settled], dtype=np.int64)
    if (splits == "").all():
        rows = {UNCUT: np.arange(len(labels))}
    else:
        rows = {part: np.flatnonzero(splits == part) for part in PARTS}
        rows = {part: members for part, members in rows.items() if len(members)}
        if "validation" in rows and "test" not in rows:
            rows["test"] = rows.pop("validation")
            remarks.append("the rows for validation are the test set, since there is no other")
        elif "validation" in rows and "train" not in rows:
            remarks.append(
                f"{len(rows.pop('validation'))} rows for validation are left out, since none are to train on"
            )
        elif "validation" in rows:
            remarks.append(f"{len(rows['validation'])} rows are for validation, and what is chosen is chosen on them")
    later = settled != names or "validation" in rows
    if "train" in rows and (strange := np.setdiff1d(labels, labels[rows["train"]])).size:
        raise UserError(f"{path} has no training image of class '{classes[strange[0]]}'; add some or leave it out")
    listed = {split: (tuple(paths[row] for row in members), labels[members]) for split, members in rows.items()}
    grouped = groups and {split: tuple(groups[row] for row in members) for split, members in rows.items()}
    warnings = tuple(f"{path}: {remark}" for remark in remarks)
    return ListedImages(name, spec, classes, path, listed, warnings, later, grouped or None)


class _Files:
    """The images that a list in a folder means."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._inner: Path | None = None  # the one folder in it where images stood that are not in itself

    def find(self, cell: str) -> Path | None:
        """The file of a path as it stands in the list; None where there is none, or several."""
        for text in dict.fromkeys((cell, cell.replace("\\", "/"))):
            if not text:
                continue
            bases = [self.folder] if self._inner is None else [self.folder, self._inner]
            for base in bases:
                if image := _with_ending(base / user_path(text)):
                    return image
            inner = [self.folder / name for name in folders_in(self.folder)] if self._inner is None else []
            holding = [base for base in inner if _with_ending(base / user_path(text))]
            if len(holding) == 1:
                self._inner = holding[0]
                return _with_ending(holding[0] / user_path(text))
        return None

    def absence_of(self, cell: str) -> str:
        """Why a path means no file, and what to do."""
        if not cell:
            return "the path is empty; fill it in or take the line out"
        holding = [name for name in folders_in(self.folder) if _with_ending(self.folder / name / user_path(cell))]
        if len(holding) > 1:
            return f"{cell} stands in several folders ({some(holding)}); write the folder in front of it"
        path, reason = self.folder / user_path(cell), ""
        try:
            path.stat()
        except (OSError, ValueError) as error:
            known = isinstance(error, FileNotFoundError | NotADirectoryError)
            reason = "" if known else f" ({getattr(error, 'strerror', None) or error})"
        return f"there is no file {path}{reason}; correct the path or take the line out"


def _with_ending(path: Path) -> Path | None:
    """The file at a path, to which the ending of an image may have to be added; None where there is none."""
    try:
        if path.is_file():
            return path
        return next((file for suffix in IMAGE_SUFFIXES if (file := Path(f"{path}{suffix}")).is_file()), None)
    except (OSError, ValueError):
        return None  # no path at all: too long, or with a NUL


def _asked(query: str, path: Path) -> dict[str, str]:
    """The names of columns in a query."""
    try:
        pairs = urllib.parse.parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
    except ValueError:
        pairs = [("", "")]
    if strange := [name for name, value in pairs if name not in OPTIONS or not value]:
        raise UserError(f"csv:{path}?{query}: '{strange[0]}' names no column; write ?path=COLUMN&label=COLUMN")
    return dict(pairs)


def _table(path: Path) -> list[tuple[int, list[str]]]:
    """The lines that are not blank, each with its number."""
    try:
        content = read_regular(path)
        # utf-8-sig: spreadsheets put a byte order mark in front; some write UTF-16.
        encoding = "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
        text = content.decode(encoding)
        # Excel's own way to say what stands between columns.
        said = re.match(r"sep=([^\r\n\"])\r?\n", text)
        table = _cells(text[said.end() :], said[1], skipped=1) if said else _cells(text, _SEPARATORS[0])
        if table and len(table[0][1]) == 1 and not said:
            tables = [_cells(text, separator) for separator in _SEPARATORS]
            table = max(filter(None, tables), key=lambda table: len(table[0][1]))
    except (OSError, UnicodeError, csv.Error) as error:
        raise UserError(f"cannot read {path} as comma-separated UTF-8 text ({error}); save it as such") from error
    if "\0" in text:
        raise UserError(f"cannot read {path}: it holds NUL bytes, as UTF-16 without its mark does; save it as UTF-8")
    if not table:
        raise UserError(f"{path} is empty; it should have one line per image: path, label and, if wanted, split")
    return table


def _cells(text: str, separator: str, skipped: int = 0) -> list[tuple[int, list[str]]]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    return [(reader.line_num + skipped, cells) for cells in reader if any(cell.strip() for cell in cells)]
