"""Which columns of a list hold the images' paths, their labels and, if any, their split: found by the names in its
header, or named by whoever opens it; without a header the first two or three are meant.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

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
    "split": (("split", "subset"), ("set", "partition", "data_split", "dataset", "fold", "usage")),
}
OPTIONS = {"path": "--path-column", "label": "--label-column"}


@dataclass(frozen=True)
class Columns:
    """Positions of the columns; first: the number of lines that the header takes, 0 or 1."""

    path: int
    label: int
    split: int | None
    first: int

    @property
    def most(self) -> int:
        """How many columns every line needs."""
        return max(self.path, self.label, -1 if self.split is None else self.split) + 1


def find_columns(
    lines: Sequence[Sequence[str]], named: dict[str, str], stands: Callable[[str], bool], where: object
) -> Columns:
    """The columns of a list.

    lines: all of them, as cells. named: the names that were asked for, by 'path' and 'label'. stands: whether a path is
    that of an image. UserError where a column is missing, and where there are several for the same.
    """
    header = [cell.strip() for cell in lines[0]]
    lowered = [cell.casefold() for cell in header]
    if not named and (stands(header[0]) or not any(_candidates(lowered, kind) for kind in _NAMES)):
        _refuse_unknown_header(lines, stands, where)
        return _without_header(lines, where)
    found = {kind: _named(header, named[kind], kind, where) for kind in named}
    for kind in ("path", "label"):
        if kind not in found:
            columns = _candidates(lowered, kind, found.values())
            if kind == "path" and len(lines) > 1:
                columns = [c for c in columns if c < len(lines[1]) and stands(lines[1][c].strip())] or columns
            found[kind] = _one(header, columns, lines, kind, where)
    split = next((column for column in _candidates(lowered, "split", found.values())), None)
    if split is not None and lowered[split] not in _NAMES["split"][0] and not _says_parts(lines, split):
        split = None
    return Columns(found["path"], found["label"], split, first=1)


def _without_header(lines: Sequence[Sequence[str]], where: object) -> Columns:
    if len(lines[0]) < 2:
        raise UserError(
            f"{where} has one column; two are needed, the image's path and its label, with ',', ';' or a tab between"
        )
    return Columns(0, 1, 2 if len(lines[0]) > 2 else None, first=0)


def _candidates(lowered: Sequence[str], kind: str, taken: Iterable[int] = ()) -> list[int]:
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
            f"{OPTIONS[kind]}, as in {OPTIONS[kind]} {header[-1 if kind == 'label' else 0]}"
        )
    rows = [[line[column].strip() for column in columns] for line in lines[1:] if len(line) > max(columns)]
    # Two columns group the rows alike where each value of one goes with one value of the other.
    pairs = {tuple(row) for row in rows}
    if len(columns) > 1 and any(len({row[place] for row in pairs}) < len(pairs) for place in range(len(columns))):
        names = [header[column] for column in columns]
        raise UserError(
            f"{where} has the columns {' and '.join(names)}, and either could be the {kind}; say which with "
            f"{OPTIONS[kind]}, as in {OPTIONS[kind]} {names[0]}"
        )
    return columns[0]


def _says_parts(lines: Sequence[Sequence[str]], column: int) -> bool:
    return all(len(line) > column and part_called(line[column]) for line in lines[1:])


def _refuse_unknown_header(lines: Sequence[Sequence[str]], stands: Callable[[str], bool], where: object) -> None:
    """UserError where the first line is a header whose names say nothing: no file stands there, but in the second."""
    header = [cell.strip() for cell in lines[0]]
    if stands(header[0]) or len(lines) < 2 or len(header) < 2:
        return
    column = next((column for column, cell in enumerate(lines[1][: len(header)]) if stands(cell.strip())), None)
    if column is not None:
        others = [name for name in header if name != header[column]]
        raise UserError(
            f"{where} has the header {', '.join(header)}, which names neither path nor label; say which they are with "
            f"{OPTIONS['path']} and {OPTIONS['label']}, as in {OPTIONS['path']} {header[column]} {OPTIONS['label']} "
            f"{others[0] if others else header[0]}"
        )
