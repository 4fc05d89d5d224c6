"""Which columns of our tables matter most, for terminals that have no room for all; how they are laid out is in
`features.commands.screen`."""

from collections.abc import Iterator
from typing import Any

from features.commands.program import as_typed
from features.commands.screen import ScreenColumn, laid_out
from features.commands.speaking import printable

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


def table_lines(table: Any, width: int, *, plain: bool = False) -> Iterator[Any]:
    """The lines of a `classify.show.table.Table` on a terminal, as rich prints them; bold is what `to_text` stars.

    plain: starred here too, and nothing is drawn: for a terminal's width, and none to read it on.
    """
    by_row = table.starred() if plain else table.cells()
    columns = [
        ScreenColumn(
            printable(column.shown),
            [row[number] for row in by_row],
            rank=_RANKS.get(column.name, 0 if column.align == "left" else _USUAL),
            is_left=column.align == "left",
            prose=column.prose,
            path=column.path,
        )
        for number, column in enumerate(table.columns)
    ]
    notes = [printable(as_typed(note)) for note in (table.notes if plain else table.screen_notes)]
    title, whole = printable(table.title), printable(as_typed(table.whole))
    rule = "-" if plain else "─"
    yield from laid_out(columns, width, title=title, marked=table.marked, notes=notes, whole=whole, rule=rule)
