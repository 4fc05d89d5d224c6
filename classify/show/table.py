"""One table, many forms: terminal, plain text, Markdown, CSV, JSON, LaTeX, pandas and HTML.

Cells hold values, a column says how they are spelled. Texts for people are spelled; CSV and JSON give the full values.
"""

import csv
import dataclasses
import html
import io
import itertools
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TextIO

from classify.measure.outcome import plain_json
from classify.measure.wording import MISSING, one_line
from features.commands.program import as_typed
from features.commands.screen import folded, is_screen, screen_width
from features.commands.speaking import printable
from features.errors import UserError


def spelled(value: Any) -> str:
    """How a cell reads if its column does not say otherwise."""
    return MISSING if value is None else f"{value:.4g}" if isinstance(value, float) else one_line(value)


@dataclass(frozen=True)
class Column:
    """name: what CSV and JSON call it. header: what people read, by default the name. format: from value to text.

    parts: for cells that are tuples; CSV and JSON then hold one field for each part, called name_part ('' for the name
    itself): ('', 'low', 'high') or ('', 'sd'). A cell that is None lacks them all. means: what it counts, for the page.
    prose: cells are words that may be broken between lines. path: cells are paths, or hold some, and are never cut.
    """

    name: str
    header: str = ""
    align: Literal["left", "right"] = "right"
    format: Callable[[Any], str] = spelled
    parts: tuple[str, ...] = ()
    means: str = ""
    prose: bool = False
    path: bool = False

    @property
    def shown(self) -> str:
        """The header as people read it."""
        return one_line(self.header or self.name)

    def fields(self, value: Any) -> dict[str, Any]:
        """The cell as named plain values."""
        if not self.parts:
            return {self.name: plain_json(value, self.name)}
        values = (None,) * len(self.parts) if value is None else value
        names = (f"{self.name}_{part}" if part else self.name for part in self.parts)
        return {name: plain_json(cell, name) for name, cell in zip(names, values, strict=True)}

    def read(self, record: Mapping[str, Any]) -> Any:
        """The cell of which a record has the fields; None where it lacks them."""
        values = tuple(map(record.get, self.fields(None)))
        return None if values[0] is None else values if self.parts else values[0]

    def key(self, value: Any) -> Any:
        """What a cell is judged and sorted by: the first of its parts."""
        return value[0] if self.parts and value is not None else value


@dataclass(frozen=True)
class Table:
    """A title, columns, rows of as many values, notes under the table, and the marked cells as (row, column) numbers.

    whole: where all of it stands, said where a terminal has no room for it. Printed as it is (`str`, notebooks, rich
    consoles) or turned into the form asked for.
    """

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Any, ...], ...]
    notes: tuple[str, ...] = ()
    marked: frozenset[tuple[int, int]] = frozenset()
    whole: str = ""

    def __post_init__(self):
        object.__setattr__(self, "columns", tuple(self.columns))
        object.__setattr__(self, "rows", tuple(map(tuple, self.rows)))
        object.__setattr__(self, "notes", tuple(self.notes))
        names = [column.name for column in self.columns]
        if len(set(names)) < len(names):
            raise ValueError(f"a table's columns need names of their own, and these are {names}")
        for number, row in enumerate(self.rows):
            if len(row) != len(names):
                raise ValueError(f"row {number} has {len(row)} cells for the {len(names)} columns {names}")

    def index(self, name: str) -> int:
        """The number of a column; KeyError with the names there are."""
        names = [column.name for column in self.columns]
        if name not in names:
            raise KeyError(f"no column {name!r} among {', '.join(names)}")
        return names.index(name)

    def column(self, name: str) -> tuple[Any, ...]:
        """The values of one column."""
        place = self.index(name)
        return tuple(row[place] for row in self.rows)

    def best(self, name: str, largest: bool = True, note: str = "") -> "Table":
        """The same table with the best cells of a column marked as well (ties all), and `note` saying what * means.

        Cells of several parts are judged by the first. Without any value nothing is marked.
        """
        place = self.index(name)
        keys = enumerate(map(self.columns[place].key, self.column(name)))
        values = {number: key for number, key in keys if key is not None}
        if not values:
            return self
        top = (max if largest else min)(values.values())
        marked = self.marked | {(number, place) for number, value in values.items() if value == top}
        return dataclasses.replace(self, marked=marked, notes=(*self.notes, *([f"* {note}"] if note else [])))

    def mark(self, place: int, name: str, note: str) -> "Table":
        """The same table with the cell of a row and a column marked, and `note` saying what * means."""
        marked = self.marked | {(place, self.index(name))}
        return dataclasses.replace(self, marked=marked, notes=(*self.notes, f"* {note}"))

    def cells(self) -> list[list[str]]:
        """The rows as people read them, without marks."""
        return [
            [one_line(column.format(value)) for column, value in zip(self.columns, row, strict=True)]
            for row in self.rows
        ]

    def starred(self) -> list[list[str]]:
        """The rows as people read them, * after a marked cell."""
        rows = [
            [text + ("*" if (i, j) in self.marked else "") for j, text in enumerate(row)]
            for i, row in enumerate(self.cells())
        ]
        # In a column with a mark the others get a space, so that digits stay below each other.
        for j in {j for _, j in self.marked}:
            for i, row in enumerate(rows):
                if (i, j) not in self.marked:
                    row[j] += " "
        return rows

    def to_text(self, width: int | None = None) -> str:
        """Plain text for logs and pipes: no colours, no frames; * after a marked cell.

        width: of the lines, in characters, with what has no room left out; None: as wide as it needs to be.
        """
        if width is not None:
            from classify.show.terminal import table_lines

            return "\n".join(line.plain for line in table_lines(self, width, plain=True))
        lines = [[column.shown for column in self.columns], *self.starred()]
        widths = [max(len(line[j]) for line in lines) for j in range(len(self.columns))]
        lines.insert(1, ["-" * width for width in widths])
        texts = [
            "  ".join(
                text.ljust(width) if column.align == "left" else text.rjust(width)
                for text, width, column in zip(line, widths, self.columns, strict=True)
            ).rstrip()
            for line in lines
        ]
        return "\n".join([*([self.title, ""] if self.title else []), *texts, *self.notes])

    __str__ = to_text

    def __repr__(self) -> str:
        size = f"{len(self.rows)} x {len(self.columns)}"
        return f"<{type(self).__name__} {size}: {', '.join(column.name for column in self.columns)[:120]}>"

    def to_markdown(self) -> str:
        """A GitHub table; marked cells in bold, notes as a paragraph."""
        lines = [
            [markdown_text(column.shown) for column in self.columns],
            ["---" if column.align == "left" else "---:" for column in self.columns],
        ]
        for i, row in enumerate(self.cells()):
            texts = map(markdown_text, row)
            lines.append([f"**{text}**" if (i, j) in self.marked else text for j, text in enumerate(texts)])
        table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        title = [f"**{markdown_text(self.title)}**"] if self.title else []
        notes = ["; ".join(_without_star(note, "bold:") for note in map(markdown_text, self.notes))]
        return "\n\n".join([*title, table, *(notes if self.notes else [])])

    def records(self) -> list[dict[str, Any]]:
        """The rows as dictionaries of plain values, cells of several parts spread out."""
        return [
            {
                name: field
                for column, value in zip(self.columns, row, strict=True)
                for name, field in column.fields(value).items()
            }
            for row in self.rows
        ]

    def to_json(self) -> dict[str, Any]:
        """title, rows (dictionaries) and notes; header and cells as people read them."""
        read = {"header": [column.shown for column in self.columns], "cells": self.cells()}
        return {"title": self.title, "rows": self.records(), "notes": list(self.notes), **read}

    def to_csv(self) -> str:
        """Comma-separated values with a header line; full numbers, empty where there is none."""
        stream = io.StringIO()
        header = [name for column in self.columns for name in column.fields(None)]
        writer = csv.DictWriter(stream, header, lineterminator="\n")
        writer.writeheader()
        for record in self.records():
            writer.writerow(
                {
                    name: " ".join(f"{key}={item}" for key, item in value.items()) if isinstance(value, dict) else value
                    for name, value in record.items()
                }
            )
        return stream.getvalue()

    def to_pandas(self) -> Any:
        """A pandas DataFrame with full numbers, a column for each part; UserError where pandas is not installed."""
        try:
            import pandas
        except ImportError as error:
            raise UserError("a DataFrame needs one more package: pip install pandas") from error
        return pandas.DataFrame(
            self.records(), columns=[name for column in self.columns for name in column.fields(None)]
        )

    def to_latex(self) -> str:
        """A tabular with the rules of booktabs, as people read it; marked cells in bold, notes as comments."""
        sides = "".join(column.align[0] for column in self.columns)
        lines = [" & ".join(latex_text(column.shown) for column in self.columns)]
        for i, row in enumerate(self.cells()):
            texts = [latex_text(text) for text in row]
            lines.append(
                " & ".join(f"\\textbf{{{text}}}" if (i, j) in self.marked else text for j, text in enumerate(texts))
            )
        head, *body = [f"{line} \\\\" for line in lines]
        notes = [f"% {note}" for note in (*filter(None, [one_line(self.title)]), *map(one_line, self.screen_notes))]
        rules = [
            f"\\begin{{tabular}}{{{sides}}}",
            "\\toprule",
            head,
            "\\midrule",
            *body,
            "\\bottomrule",
            "\\end{tabular}",
        ]
        return "\n".join([*notes, *rules]) + "\n"

    def to_html(self) -> str:
        """A table element that scrolls where it is too wide, everything in it escaped; marked cells in bold."""
        # A notebook's own style would fold numbers and set headers apart from their columns.
        styles = [
            f"text-align: {column.align}" + ("" if column.prose else "; white-space: nowrap") for column in self.columns
        ]
        head = "".join(
            f'<th scope="col" style="{style}">{html.escape(column.shown)}</th>'
            for column, style in zip(self.columns, styles, strict=True)
        )
        body = ""
        for i, row in enumerate(self.cells()):
            line = ""
            for j, text in enumerate(map(html.escape, row)):
                text = f"<b>{text}</b>" if (i, j) in self.marked else text
                line += f'<td style="{styles[j]}">{text}</td>'
            body += f"<tr>{line}</tr>"
        caption = f"<caption>{html.escape(self.title)}</caption>" if self.title else ""
        notes = "".join(f"<p>{html.escape(note)}</p>" for note in self.screen_notes)
        table = f"<table>{caption}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        return f'<div style="overflow-x: auto">{table}</div>{notes}'

    _repr_html_ = to_html

    @property
    def screen_notes(self) -> tuple[str, ...]:
        """The notes for a form that marks cells in bold."""
        return tuple(_without_star(note, "bold:") for note in self.notes)

    def __rich_console__(self, console: Any, options: Any) -> Iterable[Any]:
        """As a terminal has room for it."""
        from classify.show.terminal import table_lines

        return table_lines(self, options.max_width)


# A column, and what it says of the thing that a line is about.
Cell = tuple[Column, Callable[[Any], Any]]


def table_of(title: str, things: Iterable[Any], cells: Iterable[Cell], notes: Iterable[str] = ()) -> Table:
    """A table with a line for each thing."""
    cells = tuple(cells)
    rows = tuple(tuple(value(thing) for _, value in cells) for thing in things)
    return Table(title, tuple(column for column, _ in cells), rows, tuple(notes))


def pivot(table: Table, rows: str | Sequence[str], columns: str, value: str) -> Table:
    """Turn a long table into a wide one: a row for each value of `rows`, a column for each value of `columns`.

    Both in the order in which they first occur; a combination that does not occur is None, and one that
    occurs twice a ValueError.
    """
    labels = (rows,) if isinstance(rows, str) else tuple(rows)
    shape = table.columns[table.index(value)]
    keys = list(zip(*(table.column(name) for name in labels), strict=True))
    across = table.column(columns)
    cells: dict[tuple, Any] = {}
    for key, name, cell in zip(keys, across, table.column(value), strict=True):
        if (key, name) in cells:
            raise ValueError(f"two rows for {columns} {name} and {', '.join(map(str, key))}; one cell holds one value")
        cells[key, name] = cell
    names = list(dict.fromkeys(across))
    wide = (dataclasses.replace(shape, name=str(name), header=one_line(name)) for name in names)
    return Table(
        table.title,
        (*(table.columns[table.index(name)] for name in labels), *wide),
        tuple((*key, *(cells.get((key, name)) for name in names)) for key in dict.fromkeys(keys)),
        table.notes,
    )


def show(*parts: Any, stream: TextIO | None = None) -> None:
    """Print tables and reports: with colours and frames in a terminal, else as the plain text that `str` gives; in the
    columns that there are."""
    stream = stream or sys.stdout
    width = screen_width(stream)
    if is_screen(stream):
        from rich.console import Console
        from rich.text import Text

        console = Console(file=stream, highlight=False, width=width)
        for part in parts:
            if isinstance(part, str):
                part = Text(_folded(printable(as_typed(part)), console.width), no_wrap=True, overflow="ignore")
            console.print(part, crop=False)
        return
    for part in parts:
        text = printable(as_typed(part.to_text(width) if isinstance(part, Table) else part))
        text = _folded(text, width) if width is not None and isinstance(part, str) else text
        encoding = getattr(stream, "encoding", None) or "utf-8"
        try:
            text.encode(encoding)
        except UnicodeEncodeError:
            text = text.replace("±", "+-").encode(encoding, "replace").decode(encoding)
        print(text, file=stream)


def _folded(text: str, width: int) -> str:
    """A text of several lines, in lines of so many characters."""
    return "\n".join(itertools.chain.from_iterable(folded(line, width) for line in text.split("\n")))


def markdown_text(text: str) -> str:
    """A text that stands inside Markdown as it is: bars and angle brackets escaped, on one line."""
    text = one_line(text).replace("\\", "\\\\").replace("|", "\\|").replace("*", "\\*")
    return text.replace("<", "&lt;").replace(">", "&gt;")


_LATEX = {sign: f"\\{sign}" for sign in "&%$#_{}"} | {
    "\\": "\\textbackslash{}",
    "~": "\\textasciitilde{}",
    "^": "\\textasciicircum{}",
    "±": "$\\pm$",
    "<": "$<$",
    ">": "$>$",
}


def latex_text(text: str) -> str:
    """A text that stands inside LaTeX as it is, on one line."""
    return "".join(_LATEX.get(sign, sign) for sign in one_line(text))


def _without_star(note: str, mark: str) -> str:
    """A note that explains *, for a form that marks cells otherwise."""
    for star in ("* ", "\\* "):
        if note.startswith(star):
            return f"{mark} {note.removeprefix(star)}"
    return note
