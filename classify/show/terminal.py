"""A table as a terminal has room for: the columns that matter most, none of them folded inside a word or a number.

Headers are broken between words, cells only where they are prose. What does not fit is left out, the columns of the
highest rank first, and named below the table with the place where the whole of it stands.
"""

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from features.commands.speaking import printable

if TYPE_CHECKING:
    from rich.text import Text

# `classify.show.table` imports this module, so that its types have no names here.
Table = Any
Column = Any

_GAP = "  "
_PROSE = 24  # characters that a column of prose wants at least
# Where a column stands when there is no room for all: 0 is never left out. Words are 0 and numbers _USUAL if not here.
_USUAL = 5
_RANKS = {
    "accuracy": 0,
    **dict.fromkeys(("fitted_on", "pool", "seeds", "tau", "verdict"), 1),
    **dict.fromkeys(("validation", "own", "clean", "average"), 2),
    **dict.fromkeys(("p_value", "random", "seconds", "train_seconds"), 3),
    **dict.fromkeys(("balanced_accuracy", "features", "fit_seconds", "gflop", "macro_f1"), 4),
    **dict.fromkeys(("chosen", "extract_seconds", "one_seconds", "search_seconds", "trained_parameters"), 6),
    **dict.fromkeys(("log_loss", "selectivity"), 7),
    **dict.fromkeys(("ece", "peak_gpu_memory", "peak_memory"), 8),
}


@dataclass(frozen=True)
class _Shown:
    """A column on the screen: its number in the table, how wide it is, its header's lines, and its cells' lines."""

    number: int
    column: Column
    width: int
    header: tuple[str, ...]
    cells: tuple[tuple[str, ...], ...]

    @property
    def rank(self) -> int:
        return _RANKS.get(self.column.name, 0 if self.column.align == "left" else _USUAL)


def laid_out(table: Table, width: int) -> Iterator["Text"]:
    """The lines of a table in a terminal of so many columns; bold is what `to_text` marks by a star."""
    from rich.text import Text

    columns = _columns(table)
    kept = _fitted(columns, width)
    if table.title:
        yield from (Text(line, "bold") for part in printable(table.title).splitlines() for line in _folded(part, width))
        yield Text()
    depth = max((len(column.header) for column in kept), default=0)
    for line in range(-depth, 0):
        yield _joined(kept, [column.header[line] if -line <= len(column.header) else "" for column in kept], "bold")
    yield Text(_GAP.join("─" * column.width for column in kept), "dim")
    for row in range(len(table.rows)):
        marks = {place: "bold green" for place, column in enumerate(kept) if (row, column.number) in table.marked}
        cells = [column.cells[row] for column in kept]
        for line in range(max(map(len, cells), default=0)):
            yield _joined(kept, [cell[line] if line < len(cell) else "" for cell in cells], marks=marks)
    notes = list(table.screen_notes)
    names = {column.number for column in kept}
    if missing := [column.column.shown for column in columns if column.number not in names]:
        where = f"they stand in {table.whole}" if table.whole else "a wider terminal shows them"
        notes.append(f"no room for {', '.join(missing)}: {where}")
    for note in notes:
        yield from (Text(line, "dim") for line in _folded(printable(note), width))


def _columns(table: Table) -> list[_Shown]:
    """All columns, each as wide as its longest cell and the longest word of its header."""
    from rich.cells import cell_len

    by_row = table.cells()
    shown = []
    for number, column in enumerate(table.columns):
        cells = [row[number] for row in by_row]
        width = max(map(cell_len, [*cells, *column.shown.split()]), default=0)
        header = tuple(_folded(column.shown, width))
        shown.append(_Shown(number, column, width, header, tuple((cell,) for cell in cells)))
    return shown


def _fitted(columns: Sequence[_Shown], width: int) -> list[_Shown]:
    """The columns that there is room for, of equal rank the first ones; prose in what the others leave."""

    def needed(columns: Sequence[_Shown]) -> int:
        widths = (min(column.width, _PROSE) if column.column.prose else column.width for column in columns)
        return sum(widths) + len(_GAP) * (len(columns) - 1)

    kept = list(columns)
    while needed(kept) > width and (ranked := [column for column in kept if column.rank]):
        kept.remove(max(ranked, key=lambda column: (column.rank, column.number)))
    room = max(width - needed(kept), 0)
    for place, column in enumerate(kept):
        if column.column.prose and column.width > _PROSE:
            wide = min(column.width, _PROSE + room)
            room -= wide - _PROSE
            cells = tuple(tuple(_folded(" ".join(lines), wide)) for lines in column.cells)
            kept[place] = replace(column, width=wide, header=tuple(_folded(column.column.shown, wide)), cells=cells)
    return kept


def _joined(
    columns: Sequence[_Shown], parts: Sequence[str], style: str = "", marks: dict[int, str] | None = None
) -> "Text":
    from rich.cells import cell_len
    from rich.text import Text

    line = Text(no_wrap=True, overflow="ignore")
    for place, (column, part) in enumerate(zip(columns, parts, strict=True)):
        room = " " * (column.width - cell_len(part))
        text = part + room if column.column.align == "left" else room + part
        line.append(_GAP if place else "")
        # Everything is a Text, never markup: a class may be called '[red]'.
        line.append(text, (marks or {}).get(place, style))
    line.rstrip()
    return line


def _folded(text: str, width: int) -> list[str]:
    """Lines of whole words."""
    return textwrap.wrap(text, max(width, 1), break_long_words=False, break_on_hyphens=False) or [""]
