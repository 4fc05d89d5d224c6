"""The tables of a run: one result in full, several side by side, accuracy as layer x head, and what networks add.

How a table prints itself is in `table`. Results are read here, never computed.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from classify.measure.choice import best_of
from classify.measure.outcome import Result
from classify.measure.wording import MISSING, counted, one_line, percent, settings
from classify.show import columns
from classify.show.table import Cell, Column, Table, pivot, table_of

MOST_CLASSES = 20
MATRIX_CLASSES = 12  # in a confusion matrix; of more the pairs that are confused most
MATRIX_WIDTH = 80  # of a terminal that shows it whole
WORST = 10
# What a run may vary beside layer and head; the rest of a configuration is no column.
_NO_COLUMN = ("layer", "head")
_FIT: Cell = (columns.FIT, lambda result: result.seconds.get("fit"))


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
    cells: tuple[Cell, ...] = (
        (columns.text("class"), metrics.classes.__getitem__),
        (columns.share("precision", "precision %"), metrics.precision.__getitem__),
        (columns.share("recall", "recall %"), metrics.recall.__getitem__),
        (columns.share("f1", "F1 %"), metrics.f1.__getitem__),
        (columns.number("support", "images"), metrics.support.__getitem__),
    )
    return table_of(title, order, cells, notes)


def confusion_table(result: Result) -> Table:
    """The confusion matrix, or the ten most confused pairs if there are more than 12 classes.

    Columns are headed by the classes or, where these would not fit into a terminal, by letters that stand for them.
    """
    metrics = result.metrics
    if len(metrics.classes) > MATRIX_CLASSES:
        return pairs_table(result, WORST)
    names = [one_line(name) for name in metrics.classes]
    corner, heads = "truth \\ predicted", names
    notes: tuple[str, ...] = ()
    if len(corner) + sum(max(len(name), 4) + 2 for name in names) > MATRIX_WIDTH:
        heads = [chr(ord("a") + label) for label in range(len(names))]
        names = [f"{head} {name}" for head, name in zip(heads, names, strict=True)]
        corner, notes = "truth \\", ("columns: predicted as",)
    # A class name may be used twice, and may be 'truth'; a column's name may not.
    cells = tuple(
        Column(f"{label}: {name}", head, format=_nonzero)
        for label, (name, head) in enumerate(zip(metrics.classes, heads, strict=True))
    )
    counts = tuple((name, *row) for name, row in zip(names, metrics.confusion, strict=True))
    return Table("Confusion", (columns.text("truth", corner), *cells), counts, notes)


def pairs_table(result: Result, most: int) -> Table:
    """So many pairs of classes, those that are confused most."""
    metrics = result.metrics
    matrix = np.array(metrics.confusion)
    np.fill_diagonal(matrix, 0)
    order = np.argsort(-matrix, axis=None, kind="stable")[:most]
    pairs = [pair for pair in zip(*np.unravel_index(order, matrix.shape), strict=True) if matrix[pair]]
    cells: tuple[Cell, ...] = (
        (columns.text("truth"), lambda pair: metrics.classes[pair[0]]),
        (columns.text("predicted", "predicted as"), lambda pair: metrics.classes[pair[1]]),
        (columns.number("images"), lambda pair: int(matrix[pair])),
        (columns.share("share", "% of the class"), lambda pair: int(matrix[pair]) / metrics.support[pair[0]]),
    )
    return table_of("Most confused", pairs, cells)


def summary_table(results: Sequence[Result]) -> Table:
    """One row for each result: layer, head, whatever else of the configurations differs, and what came out.

    The row that was best on validation is marked, since that is the one to choose; the test set chooses nothing.
    """
    cells: tuple[Cell, ...] = (
        *_labels("layer", "head", *_varying(results)),
        *columns.REACHED,
        (
            Column("chosen", align="left", prose=True, format=lambda values: one_line(settings(values or {}))),
            lambda result: result.chosen,
        ),
        _FIT,
    )
    notes = [columns.ACCURACY_NOTE, columns.majority_note(results[0].metrics)]
    if unfinished := sum(result.converged is False for result in results):
        notes.append(f"{unfinished} of {counted(len(results), 'solver')} stopped before converging")
    return _best_marked(table_of("Results", results, cells, notes), results)


def layer_by_head(results: Sequence[Result]) -> Table:
    """Test accuracy in a table of layer (rows) x head (columns); for each head the layer best on validation is marked.

    Configurations that differ in more than layer and head get a row for each.
    """
    labels = ("layer", *_varying(results))
    by_head: dict[str, list[Result]] = {}
    for result in results:
        if result.validation_accuracy is not None:
            by_head.setdefault(result.config.head, []).append(result)
    bests = [best_of(of_head, lambda result: [result]) for of_head in by_head.values()]
    cells: tuple[Cell, ...] = (
        *_labels(*labels, "head"),
        (columns.accuracy(header="accuracy"), lambda result: columns.estimate(result.metrics)),
        (Column("chosen"), lambda result: 1.0 if any(result is best for best in bests) else None),
    )
    title = "Accuracy on the test set, layer x head"
    notes = [f"percent {columns.INTERVAL}", columns.majority_note(results[0].metrics)]
    long = table_of(title, results, cells, notes)
    wide = pivot(long, rows=labels, columns="head", value="accuracy")
    chosen = pivot(long, rows=labels, columns="head", value="chosen")
    for name in [column.name for column in chosen.columns[len(labels) :]]:
        chosen = chosen.best(name)
    starred = ("* the layer that was best on validation for this head",) if chosen.marked else ()
    return Table(wide.title, wide.columns, wide.rows, (*wide.notes, *starred), chosen.marked)


def network_tables(results: Sequence[Result]) -> tuple[Table, ...]:
    """What there is to show of networks beside their results: epoch by epoch, and what the untouched one sees."""
    tables = [epochs_table(results[0])] if len(results) == 1 and results[0].extra.history else []
    untouched = [result for result in results if result.extra.top1 is not None]
    tables += [imagenet_table(untouched)] if untouched else []
    seeing = [result for result in results if result.extra.seen_as]
    tables += [seen_as_table(max(seeing, key=lambda result: result.extra.map is not None))] if seeing else []
    return tuple(tables)


def networks_table(results: Sequence[Result]) -> Table:
    """One row for each network of a run."""

    def epoch(result: Result) -> tuple[int, int | None] | None:
        return (result.chosen["epoch"], result.extra.epochs) if "epoch" in result.chosen else None

    cells: tuple[Cell, ...] = (
        (columns.text("network"), lambda result: result.config.network_label),
        *columns.REACHED,
        (columns.called(columns.PARAMETERS, "trained parameters"), lambda result: result.extra.trained_parameters),
        (Column("epoch", format=lambda epochs: "-" if epochs is None else f"{epochs[0]} of {epochs[1]}"), epoch),
        _FIT,
    )
    notes = [f"{columns.ACCURACY_NOTE}; epoch: the one chosen on validation", columns.majority_note(results[0].metrics)]
    return _best_marked(table_of("Networks", results, cells, notes), results)


def _best_marked(table: Table, results: Sequence[Result]) -> Table:
    """The table of these results, the one to choose marked; none where nothing was validated."""
    if all(result.validation_accuracy is None for result in results):
        return table
    return table.mark(results.index(best_of(results, lambda result: [result])), "validation", columns.BEST_NOTE)


def epochs_table(result: Result) -> Table:
    """The epochs of one training run; the one whose weights were kept is marked."""
    shown = (
        columns.number("epoch"),
        columns.plain("loss"),
        columns.plain("penalty"),
        columns.share("validation_accuracy", "validation %"),
        columns.share("validation_macro_f1", "macro F1 %"),
        columns.seconds("seconds", "time"),
    )
    history = result.extra.history or []
    rows = tuple(tuple(epoch.get(column.name) for column in shown) for epoch in history)
    best = result.chosen.get("epoch")
    chosen = (epoch["epoch"] == best and epoch["validation_accuracy"] is not None for epoch in history)
    marked = frozenset((place, 3) for place, is_best in enumerate(chosen) if is_best)
    return Table("Epochs", shown, rows, ("* the best epoch, whose weights were saved",) if marked else (), marked)


def imagenet_table(results: Sequence[Result]) -> Table:
    """Top-1 and top-5 of untouched networks on their own classes, beside the published figure where there is one."""
    shown = (
        columns.text("weights"),
        columns.number("images"),
        columns.share("top1", "top-1 %"),
        columns.share("top5", "top-5 %"),
        columns.share("published_top1", "published top-1 %"),
        columns.share("published_top5", "published top-5 %"),
    )
    rows = tuple(
        (result.config.weights, result.metrics.n, *(result.extra.get(column.name) for column in shown[2:]))
        for result in results
    )
    return Table("On its own classes", shown, rows)


def seen_as_table(result: Result) -> Table:
    """The source classes that each label's images are most often taken for, and the one that stands for it."""
    stands_for = result.extra.map or {}
    shown = (
        columns.text("label"),
        Column("seen_as", "is seen as", align="left", prose=True),
        *([columns.text("map", "stands for it")] if stands_for else []),
    )
    rows = tuple(
        (
            label,
            ", ".join(f"{name} {percent(share, 0)} %" for name, share in seen),
            *([stands_for.get(label)] if stands_for else []),
        )
        for label, seen in (result.extra.seen_as or {}).items()
    )
    return Table("What the untouched network sees in the training images", shown, rows)


def _labels(*names: str) -> tuple[Cell, ...]:
    """Fields of the configuration, as words."""

    def field(name: str) -> Callable[[Result], Any]:
        return lambda result: _spelled(result.config.get(name))

    return tuple((columns.text(name, name.replace("_", " ")), field(name)) for name in names)


def _varying(results: Sequence[Result]) -> tuple[str, ...]:
    """The fields of the configurations, other than layer and head, that are not the same in all of them."""
    names = dict.fromkeys(name for result in results for name in result.config if name not in _NO_COLUMN)
    taken = ("validation", "accuracy", "balanced_accuracy", "macro_f1", "log_loss", "chosen", "fit_seconds")
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
