"""What there is to show of networks beside their results: epoch by epoch, and what the untouched one sees.

Results are read here, never computed.
"""

from collections.abc import Sequence

from classify.measure.outcome import Result
from classify.measure.wording import percent
from classify.show import columns
from classify.show.table import Column, Table


def network_tables(results: Sequence[Result]) -> tuple[Table, ...]:
    """The tables for those of the results that are of networks, without doubles."""
    tables = [epochs_table(results[0])] if len(results) == 1 and results[0].extra.history else []
    own = [result for result in results if result.extra.top1 is not None]
    tables += [imagenet_table(own)] if own else []
    seen = [result for result in results if result.extra.seen_as]
    tables += [seen_as_table(max(seen, key=lambda result: result.extra.map is not None))] if seen else []
    return tuple(tables)


def networks_table(results: Sequence[Result]) -> Table:
    """One row for each network of a run."""
    shown = (
        columns.text("network"),
        *columns.REACHED,
        columns.called(columns.PARAMETERS, "trained parameters"),
        Column("epoch", "epoch", format=lambda epochs: "-" if epochs is None else f"{epochs[0]} of {epochs[1]}"),
        columns.FIT,
    )
    rows = tuple(
        (
            result.config.network_label,
            *columns.reached(result),
            result.extra.trained_parameters,
            (result.chosen["epoch"], result.extra.epochs) if "epoch" in result.chosen else None,
            result.seconds.get("fit"),
        )
        for result in results
    )
    notes = (f"{columns.ACCURACY_NOTE}; epoch: the one chosen on validation",)
    return Table("Networks", shown, rows, notes).best("validation", note=columns.BEST_NOTE)


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
    marked = frozenset((place, 3) for place, epoch in enumerate(history) if epoch["epoch"] == best)
    return Table("Epochs", shown, rows, ("* the epoch that was kept",) if marked else (), marked)


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
        columns.text("seen_as", "is seen as"),
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
