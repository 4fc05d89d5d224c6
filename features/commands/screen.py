"""Columns as a terminal has room for: those that matter most, none of them folded inside a word or a number.

Headers are broken between words, cells only where they are prose. What does not fit is left out, the columns of the
highest rank first, and named below with the place where the whole stands.
"""

import os
import re
import shutil
import textwrap
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.text import Text

_GAP = "  "
_GLUE = "\u00a0"  # where `textwrap` breaks no line
_UNIT = re.compile(r"(?<=\d) (?=(?:%|s|ms|min|h|px|kB|MB|GB|GFLOP)(?!\w))")
_PROSE = 24  # characters that a column of prose wants at least


def is_screen(stream: TextIO) -> bool:
    """Whether people look at a stream through a terminal that understands colours and lines drawn."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def screen_width(stream: TextIO) -> int | None:
    """The columns that there are on a stream: $COLUMNS where it is set, as POSIX has it, else those of the terminal;
    None for what goes to a file or another program, which gets the whole."""
    columns = os.environ.get("COLUMNS", "")
    is_set = columns.isdecimal() and int(columns) > 0
    return shutil.get_terminal_size().columns if is_set or is_screen(stream) else None


@dataclass(frozen=True)
class ScreenColumn:
    """A header and the cells below it, as people read them.

    rank: where there is no room for all columns those of the highest rank are left out first, of equal rank the last;
    of 0 none. A narrow one may stay where a wide one of lower rank has no room. prose: cells are words that may be
    broken between lines. path: cells are paths, or hold some, which people act upon: none is cut, and where a line has
    no room they stand below it.
    """

    header: str
    cells: Sequence[str]
    rank: int = 0
    is_left: bool = True
    prose: bool = False
    path: bool = False

    @property
    def width(self) -> int:
        """As wide as its longest cell, and the longest word of its header."""
        from rich.cells import cell_len

        return max(map(cell_len, [*self.cells, *self.header.split()]), default=0)

    @property
    def least(self) -> int:
        """The least that it can do with."""
        return min(self.width, _PROSE) if self.prose else self.width


def laid_out(
    columns: Sequence[ScreenColumn],
    width: int,
    *,
    title: str = "",
    marked: Collection[tuple[int, int]] = (),
    notes: Sequence[str] = (),
    whole: str = "",
    rule: str = "─",
) -> Iterator["Text"]:
    """The lines of a table in a terminal of so many columns.

    marked: (row, column) of cells in bold. whole: where all of it stands. rule: what the line below the headers is of.
    """
    from rich.text import Text

    kept = _fitting(columns, width)
    below_rows: list[int] = []
    if _needed(columns, kept) > width and any(not column.path for column in columns):
        below_rows = [place for place, column in enumerate(columns) if column.path]
        kept = _fitting(columns, width, below_rows)
    if title:
        yield from (Text(line, "bold") for part in title.splitlines() for line in folded(part, width))
        yield Text()
    widths = _widths(columns, kept, width)
    headers = {place: folded(columns[place].header, widths[place]) for place in kept}
    for line in range(-max(map(len, headers.values()), default=0), 0):
        parts = {place: header[line] if -line <= len(header) else "" for place, header in headers.items()}
        yield _joined(columns, widths, parts, dict.fromkeys(kept, "bold"))
    yield Text(_GAP.join(rule * widths[place] for place in kept), "dim")
    for row in range(len(columns[0].cells) if columns else 0):
        cells = {
            place: folded(columns[place].cells[row], widths[place])
            if columns[place].prose
            else [columns[place].cells[row]]
            for place in kept
        }
        # What marks a row has to be seen where the column that it is marked in has no room.
        seen = {place if place in kept else kept[0] for number, place in marked if number == row}
        styles = dict.fromkeys(seen, "bold green")
        for line in range(max(map(len, cells.values()), default=0)):
            parts = {place: cell[line] if line < len(cell) else "" for place, cell in cells.items()}
            yield _joined(columns, widths, parts, styles)
        for place in below_rows:
            said = f"{columns[place].header}: {columns[place].cells[row]}"
            yield from (_whole(f"{_GAP}{line}") for line in folded(said, width - len(_GAP)))
    missing = [column.header for place, column in enumerate(columns) if place not in (*kept, *below_rows)]
    below = [note for note in notes if not _explains_only(note, missing)]
    if missing:
        it, stands = ("it", "stands") if len(missing) == 1 else ("they", "stand")
        shows = f"a wider terminal shows {'it' if len(missing) == 1 else 'them'}"
        where = f"{it} {stands} in {whole}" if whole else shows
        below.append(f"no room for {', '.join(missing)}: {where}")
    for note in below:
        yield from (_whole(line, "dim") for line in folded(note, width))


def _explains_only(note: str, headers: Sequence[str]) -> bool:
    """Whether all that a note explains ('log loss, ECE: of probabilities') is columns of these headers."""
    named, colon, _ = note.partition(": ")
    plain = {header.removesuffix(" %") for header in headers}
    return bool(colon) and all(name.removesuffix(" %") in plain for name in named.split(", "))


def _whole(line: str, style: str = "") -> "Text":
    """A line in which a path that is longer stays one word, which can be copied."""
    from rich.text import Text

    return Text(line, style, no_wrap=True, overflow="ignore")


def _needed(columns: Sequence[ScreenColumn], kept: Sequence[int]) -> int:
    """The least width of these columns beside each other."""
    return sum(columns[place].least for place in kept) + len(_GAP) * (len(kept) - 1)


def _fitting(columns: Sequence[ScreenColumn], width: int, elsewhere: Collection[int] = ()) -> list[int]:
    """The numbers of the columns that there is room for; elsewhere: those that need none."""
    places = [place for place in range(len(columns)) if place not in elsewhere]
    kept = list(places)
    while _needed(columns, kept) > width:
        ranked = [place for place in kept if columns[place].rank]
        if not ranked:
            break
        kept.remove(max(ranked, key=lambda place: (columns[place].rank, place)))
    # What is narrow may still find room where something wide that matters more has none.
    for place in sorted(set(places) - set(kept), key=lambda place: (columns[place].rank, place)):
        if _needed(columns, (*kept, place)) <= width:
            kept.append(place)
    return sorted(kept)


def _widths(columns: Sequence[ScreenColumn], kept: Sequence[int], width: int) -> dict[int, int]:
    """How wide each is: headers in a line where there is room, else prose takes what the others leave."""
    from rich.cells import cell_len

    unfolded = {place: max(columns[place].width, cell_len(columns[place].header)) for place in kept}
    if sum(unfolded.values()) + len(_GAP) * (len(kept) - 1) <= width:
        return unfolded
    widths = {place: columns[place].least for place in kept}
    room = max(width - sum(widths.values()) - len(_GAP) * (len(kept) - 1), 0)
    for place in kept:
        more = min(columns[place].width - widths[place], room)
        widths[place] += more
        room -= more
    return widths


def _joined(
    columns: Sequence[ScreenColumn], widths: dict[int, int], parts: dict[int, str], styles: dict[int, str]
) -> "Text":
    from rich.cells import cell_len
    from rich.text import Text

    line = Text(no_wrap=True, overflow="ignore")
    for place, part in parts.items():
        room = " " * (widths[place] - cell_len(part))
        line.append(_GAP if line else "")
        # Everything is a Text, never markup: a class may be called '[red]'.
        line.append(part + room if columns[place].is_left else room + part, styles.get(place, ""))
    line.rstrip()
    return line


def folded(text: str, width: int) -> list[str]:
    """Lines of whole words, of which none begins with a number's unit."""
    wrapped = textwrap.wrap(_UNIT.sub(_GLUE, text), max(width, 1), break_long_words=False, break_on_hyphens=False)
    return [line.replace(_GLUE, " ") for line in wrapped] or [""]
