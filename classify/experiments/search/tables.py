"""The tables and the figure of a search; nothing is computed here."""

from collections.abc import Callable, Sequence
from typing import Any

from classify.experiments.search.grid import DIMENSIONS
from classify.experiments.search.tried import Rung, Tried
from classify.measure.choice import LOG_LOSS
from classify.measure.intervals import wilson_interval
from classify.measure.record import RowConfig
from classify.measure.wording import count, counted, percent_interval
from classify.show import columns
from classify.show.panels import Line, Panel
from classify.show.table import Cell, Column, Table, table_of

MOST_SHOWN = 20  # configurations in the table that is read on a terminal
MOST_DRAWN = 8  # lines of the figure


def trials_table(tried: Sequence[Tried], score: str, *, shortened: bool = False) -> Table:
    """One line for each trial, in the order given; shortened: the first of them, and a note on the others."""
    shown = tried[:MOST_SHOWN] if shortened else tried
    cells: tuple[Cell, ...] = (
        *(
            (_column(dimension.name, dimension.unit), _value(dimension.name))
            for dimension in DIMENSIONS
            if any(_value(dimension.name)(entry) != dimension.usual for entry in tried)
        ),
        (columns.number("rows", "rows", "training images"), lambda entry: entry.rows),
        (_scored(score), lambda entry: reached(entry, score)),
        (columns.seconds("seconds", means="search and fits"), lambda entry: entry.trial.seconds),
    )
    if not tried:
        return table_of("Trials", tried, cells, [])
    folds = tried[0].trial.config.on_folds
    notes = [f"scored {'out of folds of' if folds else 'on a part held out of'} the training images, {_error(score)}"]
    title = "Trials"
    if shortened:
        # Each stands there once, with the most training images that it came to.
        best = f"the best {count(len(shown))} of " if len(shown) < len(tried) else ""
        notes.append("the first of each number of rows is the one to choose there: of near-ties the surer one")
        title = f"{best}{counted(len(tried), 'configuration')}, by how far they came".capitalize()
    return table_of(title, shown, cells, notes)


def rungs_table(rungs: Sequence[Rung], score: str) -> Table:
    """One line for each step."""
    cells: tuple[Cell, ...] = (
        (columns.number("rows", "training images"), lambda rung: rung.rows),
        (columns.number("due", "candidates"), lambda rung: len(rung.due)),
        (columns.number("tried"), lambda rung: len(rung.tried)),
        (columns.text("best"), lambda rung: str(rung.tried[0].candidate) if rung.tried else None),
        (_scored(score), lambda rung: reached(rung.tried[0], score) if rung.tried else None),
        (columns.seconds("extract_seconds", "passes"), lambda rung: rung.extract_seconds if rung.tried else None),
        (columns.seconds("seconds", "heads"), lambda rung: rung.seconds if rung.tried else None),
    )
    return table_of("Steps of the search", rungs, cells, ["of each step the best third went on"])


def trials_panel(rungs: Sequence[Rung], score: str) -> Panel:
    """Scores by training images, a line for each of the configurations that came furthest."""
    last = next(rung for rung in reversed(rungs) if rung.tried)
    lines = []
    for entry in last.tried[:MOST_DRAWN]:
        points = [(rung.rows, other) for rung in rungs for other in rung.tried if other.candidate == entry.candidate]
        values = [reached(other, score) for _, other in points]
        scale = 1 if score == LOG_LOSS else 100
        y, low, high = (tuple(scale * value[part] for value in values if value) for part in range(3))
        lines.append(Line(str(entry.candidate), tuple(float(rows) for rows, _ in points), y, low, high))
    ticks = tuple((float(rung.rows), count(rung.rows)) for rung in rungs)
    name = "log loss" if score == LOG_LOSS else f"{score} (%)"
    return Panel("How far the best came", "training images", name, tuple(lines), log=True, ticks=ticks)


def reached(entry: Tried, score: str) -> tuple[float, float, float] | None:
    """The score of a trial with its 95 % interval, of a log loss without."""
    value = entry.score(score)
    if value is None:
        return None
    if score == LOG_LOSS:
        return value, value, value
    rows = len(entry.trial.validation_rows)
    return value, *wilson_interval(min(max(value, 0.0), 1.0) * rows, rows)


def _scored(score: str) -> Column:
    if score == LOG_LOSS:
        return Column("validation", "log loss", format=lambda value: f"{value[0]:.4f}" if value else "-", parts=_PARTS)
    header = "validation %" if score == RowConfig.score else f"validation {score} %"
    return Column("validation", header, format=percent_interval, parts=_PARTS)


_PARTS = ("", "low", "high")


def _error(score: str) -> str:
    return "lower is better" if score == LOG_LOSS else columns.INTERVAL


def _column(name: str, unit: str) -> Column:
    return columns.number(name, unit) if unit else columns.text(name)


def _value(name: str) -> Callable[[Tried], Any]:
    return lambda entry: getattr(entry.candidate, name)
