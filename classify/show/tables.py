"""What stands in the tables of a run: the report of one result, the rows of several, accuracy as layer x head.

How a table prints itself is in `table`. Results are read here, never computed.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from classify.measure.outcome import Result
from classify.measure.wording import MISSING, one_line, settings
from classify.show import columns
from classify.show.table import Column, Table, pivot

MOST_CLASSES = 20
WORST = 10
# What a run may vary beside layer and head; the rest of a configuration is no column.
_NO_COLUMN = ("layer", "head")


def per_class_table(result: Result) -> Table:
    """Precision, recall, F1 and support of each class, or of the ten worst if there are more than 20."""
    metrics = result.metrics
    occurring = np.flatnonzero(np.asarray(metrics.support) + np.asarray(metrics.confusion).sum(axis=0))
    order, title = list(range(len(metrics.classes))), "Classes"
    notes: tuple[str, ...] = ()
    if len(metrics.classes) > MOST_CLASSES:
        order = sorted(occurring.tolist(), key=lambda label: metrics.f1[label])[:WORST]
        title = f"The {len(order)} classes with the lowest F1"
        notes = (f"of {len(metrics.classes)}, {len(occurring)} of which occur in the test set or the predictions",)
    shown = (
        columns.text("class"),
        columns.share("precision", "precision %"),
        columns.share("recall", "recall %"),
        columns.share("f1", "F1 %"),
        columns.number("support", "images"),
    )
    fields = (metrics.classes, metrics.precision, metrics.recall, metrics.f1, metrics.support)
    return Table(title, shown, tuple(tuple(values[label] for values in fields) for label in order), notes)


def confusion_table(result: Result) -> Table:
    """The confusion matrix, or the ten most confused pairs if there are more than 20 classes."""
    metrics = result.metrics
    if len(metrics.classes) <= MOST_CLASSES:
        # A class name may be used twice, and may be 'truth'; a column's name may not.
        cells = tuple(
            Column(f"{label}: {name}", one_line(name), format=_nonzero) for label, name in enumerate(metrics.classes)
        )
        counts = tuple((name, *row) for name, row in zip(metrics.classes, metrics.confusion, strict=True))
        return Table("Confusion", (columns.text("truth", "truth \\ predicted"), *cells), counts)
    return pairs_table(result, WORST)


def pairs_table(result: Result, most: int) -> Table:
    """So many pairs of classes, those that are confused most."""
    metrics = result.metrics
    matrix = np.array(metrics.confusion)
    np.fill_diagonal(matrix, 0)
    order = np.argsort(-matrix, axis=None, kind="stable")[:most]
    pairs = [pair for pair in zip(*np.unravel_index(order, matrix.shape), strict=True) if matrix[pair]]
    shown = (
        columns.text("truth"),
        columns.text("predicted", "predicted as"),
        columns.number("images"),
        columns.share("share", "% of the class"),
    )
    counted = ((truth, guess, int(matrix[truth, guess])) for truth, guess in pairs)
    rows = (
        (metrics.classes[truth], metrics.classes[guess], number, number / metrics.support[truth])
        for truth, guess, number in counted
    )
    return Table("Most confused", shown, tuple(rows))


def summary_table(results: Sequence[Result]) -> Table:
    """One row for each result: layer, head, whatever else of the configurations differs, and what came out.

    The row that was best on validation is marked, since that is the one to choose; the test set chooses nothing.
    """
    varying = _varying(results)
    shown = (
        columns.text("layer"),
        columns.text("head"),
        *(columns.text(name, name.replace("_", " ")) for name in varying),
        *columns.REACHED,
        Column("chosen", align="left", format=lambda values: one_line(settings(values or {}))),
        columns.FIT,
    )
    rows = tuple(
        (
            *(_spelled(result.config.get(name)) for name in ("layer", "head", *varying)),
            *columns.reached(result),
            result.chosen,
            result.seconds.get("fit"),
        )
        for result in results
    )
    notes = [columns.ACCURACY_NOTE]
    if unfinished := sum(result.converged is False for result in results):
        notes.append(f"{unfinished} of {len(results)} solvers stopped before they converged")
    return Table("Results", shown, rows, tuple(notes)).best("validation", note=columns.BEST_NOTE)


def layer_by_head(results: Sequence[Result]) -> Table:
    """Test accuracy in a table of layer (rows) x head (columns); for each head the layer best on validation is marked.

    Configurations that differ in more than layer and head get a row for each.
    """
    labels = ("layer", *_varying(results))
    long = Table(
        "Accuracy on the test set, layer x head",
        (
            *(columns.text(name, name.replace("_", " ")) for name in labels),
            Column("head"),
            columns.accuracy(header="accuracy"),
            Column("validation"),
        ),
        tuple(
            (
                *(_spelled(result.config.get(name)) for name in (*labels, "head")),
                columns.estimate(result.metrics),
                result.validation_accuracy,
            )
            for result in results
        ),
        ("percent ± half the width of the 95 % interval",),
    )
    wide = pivot(long, rows=labels, columns="head", value="accuracy")
    chosen = pivot(long, rows=labels, columns="head", value="validation")
    for name in [column.name for column in chosen.columns[len(labels) :]]:
        chosen = chosen.best(name)
    notes = (*wide.notes, "* the layer that was best on validation for this head") if chosen.marked else wide.notes
    return Table(wide.title, wide.columns, wide.rows, notes, chosen.marked)


def _varying(results: Sequence[Result]) -> tuple[str, ...]:
    """The fields of the configurations, other than layer and head, that are not the same in all of them."""
    names = dict.fromkeys(name for result in results for name in result.config if name not in _NO_COLUMN)
    taken = ("validation", "accuracy", "macro_f1", "log_loss", "chosen", "fit_seconds")
    return tuple(
        name
        for name in names
        if name not in taken and len({_spelled(result.config.get(name)) for result in results}) > 1
    )


def _spelled(value: Any) -> Any:
    """A configuration's value as a cell that can be compared: numbers stay, the rest becomes text."""
    if isinstance(value, dict):
        return settings(value)
    return value if value is None or isinstance(value, (int, float)) else str(value)


def _nonzero(value: int | None) -> str:
    return MISSING if value is None else str(value) if value else "."
