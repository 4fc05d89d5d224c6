"""Which columns of a list hold the images' paths, their labels and, if any, their split and group: found by the names
in its header, or named by whoever opens it; without a header the first two or three are meant.
"""

import shlex
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from features.datasets.labels import stands_for_none
from features.datasets.parts import part_called
from features.errors import UserError

# What columns are called; later names count where none of the earlier ones is there.
_NAMES = {
    "path": (
        ("path", "image", "file", "filename", "image_path", "image path", "filepath"),
        ("file_name", "file name", "file_path", "image_name", "image_file", "img", "img_path", "img_name", "picture"),
        ("image_id", "img_id", "id"),
    ),
    "label": (
        ("label", "class", "target", "class_name"),
        ("labels", "classes", "category", "class name", "label_name", "class_label", "species", "y"),
    ),
    "split": (("split", "subset"), ("set", "partition", "data_split", "dataset", "fold", "kfold", "cv", "usage")),
}
_GROUP = "group"
# Columns that say of each row whether it is of one part: fastai's `is_valid`.
_FLAGS = {"is_valid": "validation", "is_val": "validation", "is_test": "test", "is_train": "train"}
_TRUTHS = {"true": True, "1": True, "1.0": True, "yes": True, "false": False, "0": False, "0.0": False, "no": False}
OPTIONS = {"path": "--path-column", "label": "--label-column", "group": "--group-column"}


@dataclass(frozen=True)
class Columns:
    """Positions of the columns; first: the number of lines that the header takes, 0 or 1.

    flag: the part of rows for which the column `split` says yes; the others are for training or, if that is the part,
    for testing. unread: the name of a column that is called like a split and says none. later: whether version 0.1.0
    did not read the split that there is. group: of the column that says which rows belong together.
    sparse: the name of a column that is called so and is empty on some lines.
    """

    path: int
    label: int
    split: int | None
    first: int
    flag: str = ""
    unread: str = ""
    later: bool = False
    group: int | None = None
    sparse: str = ""

    @property
    def most(self) -> int:
        """How many columns every line needs."""
        return max(column for column in (self.path, self.label, self.split, self.group) if column is not None) + 1

    def part_of(self, cell: str) -> str | None:
        """The part that a cell of the column `split` means; None where it means none."""
        if not self.flag:
            called = part_called(cell)
            return called[0] if called else None
        truth = _TRUTHS.get(cell.strip().casefold())
        return None if truth is None else self.flag if truth else "test" if self.flag == "train" else "train"


def find_columns(
    lines: Sequence[Sequence[str]], named: dict[str, str], stands: Callable[[str], bool], where: object
) -> Columns:
    """The columns of a list.

    lines: all of them, as cells. named: the names that were asked for, by 'path', 'label' and 'group'. stands: whether
    a path is that of an image. UserError where a column is missing, and where there are several for the same.
    """
    header = [cell.strip() for cell in lines[0]]
    lowered = [cell.casefold() for cell in header]
    if not named and (stands(header[0]) or not any(_candidates(lowered, kind) for kind in _NAMES)):
        _refuse_unknown_header(lines, stands, where)
        return _without_header(lines, where)
    column_of = {kind: _named(header, named[kind], kind, where) for kind in named}
    for kind in ("path", "label"):
        if kind not in column_of:
            columns = _candidates(lowered, kind, column_of.values())
            if kind == "path" and len(lines) > 1:
                columns = [c for c in columns if c < len(lines[1]) and stands(lines[1][c].strip())] or columns
            column_of[kind] = _one(header, columns, lines, kind, where)
    plain = Columns(column_of["path"], column_of["label"], None, first=1, group=column_of.get("group"))
    return _with_split(_with_group(plain, lowered, lines), lowered, lines)


def _with_group(columns: Columns, lowered: Sequence[str], lines: Sequence[Sequence[str]]) -> Columns:
    """The same with the column that is called `group`, if there is one and nobody named another."""
    column = lowered.index(_GROUP) if _GROUP in lowered else columns.path
    if column in (columns.path, columns.label) or columns.group is not None:
        return columns
    filled = all(len(line) > column and not stands_for_none(line[column].strip()) for line in lines[1:])
    return replace(columns, group=column) if filled else replace(columns, sparse=lines[0][column].strip())


def _with_split(columns: Columns, lowered: Sequence[str], lines: Sequence[Sequence[str]]) -> Columns:
    """The same with the column that says the split, if there is one."""
    taken = (columns.path, columns.label, columns.group)
    likely = _candidates(lowered, "split", taken)
    if likely and lowered[likely[0]] in _NAMES["split"][0]:
        return replace(columns, split=likely[0])
    flags = [column for column, name in enumerate(lowered) if name in _FLAGS and column not in taken]
    for column in [*likely, *flags]:
        other = replace(columns, split=column, flag=_FLAGS.get(lowered[column], ""), later=True)
        if all(len(line) > column and other.part_of(line[column]) for line in lines[1:]):
            return other
    return replace(columns, unread=lines[0][[*likely, *flags][0]].strip() if likely or flags else "")


def _without_header(lines: Sequence[Sequence[str]], where: object) -> Columns:
    if len(lines[0]) < 2:
        raise UserError(
            f"{where} has one column; two are needed, the image's path and its label, with ',', ';' or a tab between"
        )
    return Columns(0, 1, 2 if len(lines[0]) > 2 else None, first=0)


def _candidates(lowered: Sequence[str], kind: str, taken: Iterable[int | None] = ()) -> list[int]:
    """The columns whose names are the likeliest for this kind."""
    for names in _NAMES[kind]:
        if columns := [column for column, name in enumerate(lowered) if name in names and column not in taken]:
            return columns
    return []


def _named(header: Sequence[str], name: str, kind: str, where: object) -> int:
    columns = [column for column, cell in enumerate(header) if cell == name.strip()]
    columns = columns or [column for column, cell in enumerate(header) if cell.casefold() == name.strip().casefold()]
    if len(columns) != 1:
        has = "several columns" if columns else "no column"
        raise UserError(f"{where} has {has} '{name}'; its header is {', '.join(header)}: correct {OPTIONS[kind]}")
    return columns[0]


def _one(header: Sequence[str], columns: list[int], lines: Sequence[Sequence[str]], kind: str, where: object) -> int:
    """The column of this kind; of several the first where they say the same of all rows."""
    if not columns:
        raise UserError(
            f"{where} has no column '{kind}'; its header is {', '.join(header)}: say which column it is with "
            f"{OPTIONS[kind]}, as in {OPTIONS[kind]} {shlex.quote(header[-1 if kind == 'label' else 0])}"
        )
    rows = [[line[column].strip() for column in columns] for line in lines[1:] if len(line) > max(columns)]
    # Two columns group the rows alike where each value of one goes with one value of the other.
    pairs = {tuple(row) for row in rows}
    if len(columns) > 1 and any(len({row[place] for row in pairs}) < len(pairs) for place in range(len(columns))):
        names = [header[column] for column in columns]
        raise UserError(
            f"{where} has the columns {' and '.join(names)}, and either could be the {kind}; say which with "
            f"{OPTIONS[kind]}, as in {OPTIONS[kind]} {shlex.quote(names[0])}"
        )
    return columns[0]


def _refuse_unknown_header(lines: Sequence[Sequence[str]], stands: Callable[[str], bool], where: object) -> None:
    """UserError where the first line is a header whose names say nothing: no file stands there, but in the second; and
    where there is none and the paths are not in the first column."""
    header = [cell.strip() for cell in lines[0]]
    if stands(header[0]) or len(lines) < 2 or len(header) < 2:
        return
    if column := next((column for column, cell in enumerate(header) if stands(cell)), None):
        raise UserError(
            f"{where} has no header, and its paths are in column {column + 1}; put a line with the columns' names in "
            "front, such as path and label"
        )
    column = next((column for column, cell in enumerate(lines[1][: len(header)]) if stands(cell.strip())), None)
    if column is not None:
        others = [name for name in header if name != header[column]]
        raise UserError(
            f"{where} has the header {', '.join(header)}, which names neither path nor label; say which they are with "
            f"{OPTIONS['path']} and {OPTIONS['label']}, as in {OPTIONS['path']} {shlex.quote(header[column])} "
            f"{OPTIONS['label']} {shlex.quote(others[0] if others else header[0])}"
        )
