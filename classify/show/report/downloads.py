"""Tables of the page as files: each is a link that holds its CSV, so that nothing is asked for and no script is needed.

A spreadsheet takes a cell that begins with =, +, - or @ for a formula, and class names and file names may come from
strangers: such words get an apostrophe before them, numbers do not.
"""

import base64
import csv
import io
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from classify.measure.wording import MISSING, one_line
from classify.show.table import Table

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def csv_address(header: Sequence[Any], rows: Iterable[Sequence[Any]], hide: Callable[[str], str] = str) -> str:
    """A data: address of comma-separated values in UTF-8. hide: takes out of a text what is not to be told."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    for row in (header, *rows):
        writer.writerow([_cell(value, hide) for value in row])
    return f"data:text/csv;charset=utf-8;base64,{base64.b64encode(stream.getvalue().encode()).decode()}"


def table_csv(table: Table, hide: Callable[[str], str] = str) -> str:
    """The same of a table, its numbers in full, with a column for each part of a cell."""
    header = [name for column in table.columns for name in column.fields(None)]
    return csv_address(header, ([record.get(name) for name in header] for record in table.records()), hide)


def _cell(value: Any, hide: Callable[[str], str]) -> Any:
    if value is None or value == MISSING:
        return ""
    if not isinstance(value, str):
        return value if isinstance(value, int | float) else one_line(value)
    text = hide(one_line(value))
    return f"'{text}" if text.startswith(_FORMULA) and not _is_number(text) else text


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
