"""What there is to show of networks beside their results: epoch by epoch, and what the untouched one sees.

Results are read here, never computed.
"""

from collections.abc import Sequence

from classify.measure.outcome import Result
from classify.measure.wording import count, decimal, duration, percent, percent_interval
from classify.show.table import Column, Table


def network_tables(results: Sequence[Result]) -> tuple[Table, ...]:
    """The tables for those of the results that are of networks, without doubles."""
    tables = [epochs_table(results[0])] if len(results) == 1 and results[0].extra.get("history") else []
    own = [result for result in results if result.extra.get("top1") is not None]
    tables += [imagenet_table(own)] if own else []
    seen = [result for result in results if result.extra.get("seen_as")]
    tables += [seen_as_table(max(seen, key=lambda result: "map" in result.extra))] if seen else []
    return tuple(tables)


def network_label(config: dict) -> str:
    """A network's row in a few words, from its configuration: 'finetune layer4, bss=0.001'."""
    part = config.get("unfreeze") or config.get("reading")
    name = f"{config['head']} {part}" if part else config["head"]
    name += f" until {config['until']}" if config.get("until") else ""
    drawn = [f"drawn anew above {config['fresh_above']}"] if config.get("fresh_above") else []
    return ", ".join([name, *drawn, *config.get("regularizers", ())])


def networks_table(results: Sequence[Result]) -> Table:
    """One row for each network of a run."""
    columns = (
        Column("network", align="left"),
        Column("validation", "validation %", format=percent),
        Column("accuracy", "accuracy %", format=percent_interval, parts=("", "low", "high")),
        Column("macro_f1", "macro F1 %", format=percent),
        Column("log_loss", "log loss", format=decimal),
        Column("trained_parameters", "trained parameters", format=count),
        Column("epoch", "epoch", format=lambda epochs: "-" if epochs is None else f"{epochs[0]} of {epochs[1]}"),
        Column("fit_seconds", "fit", format=duration),
    )
    rows = tuple(
        (
            network_label(result.config),
            result.validation_accuracy,
            (result.metrics.accuracy, *result.metrics.accuracy_interval),
            result.metrics.macro_f1,
            result.metrics.log_loss,
            result.extra["trained_parameters"],
            (result.chosen["epoch"], result.extra["epochs"]) if "epoch" in result.chosen else None,
            result.seconds.get("fit"),
        )
        for result in results
    )
    notes = ("accuracy on the test set ± half the width of its 95 % interval; epoch: the one chosen on validation",)
    return Table("Networks", columns, rows, notes).best("validation", note="best on validation")


def epochs_table(result: Result) -> Table:
    """The epochs of one training run; the one whose weights were kept is marked."""
    columns = (
        Column("epoch", format=count),
        Column("loss", format=decimal),
        Column("penalty", format=decimal),
        Column("validation_accuracy", "validation %", format=percent),
        Column("validation_macro_f1", "macro F1 %", format=percent),
        Column("seconds", "time", format=duration),
    )
    history = result.extra["history"]
    rows = tuple(tuple(epoch[column.name] for column in columns) for epoch in history)
    best = result.chosen.get("epoch")
    marked = frozenset((place, 3) for place, epoch in enumerate(history) if epoch["epoch"] == best)
    return Table("Epochs", columns, rows, ("* the epoch that was kept",) if marked else (), marked)


def imagenet_table(results: Sequence[Result]) -> Table:
    """Top-1 and top-5 of untouched networks on their own classes, beside the published figure where there is one."""
    columns = (
        Column("weights", align="left"),
        Column("images", format=count),
        Column("top1", "top-1 %", format=percent),
        Column("top5", "top-5 %", format=percent),
        Column("published_top1", "published top-1 %", format=percent),
        Column("published_top5", "published top-5 %", format=percent),
    )
    rows = tuple(
        (result.config["weights"], result.metrics.n, *(result.extra.get(column.name) for column in columns[2:]))
        for result in results
    )
    return Table("On its own classes", columns, rows)


def seen_as_table(result: Result) -> Table:
    """The source classes that each label's images are most often taken for, and the one that stands for it."""
    stands_for = result.extra.get("map", {})
    columns = (
        Column("label", align="left"),
        Column("seen_as", "is seen as", align="left"),
        *([Column("map", "stands for it", align="left")] if stands_for else []),
    )
    rows = tuple(
        (
            label,
            ", ".join(f"{name} {percent(share, 0)} %" for name, share in seen),
            *([stands_for.get(label)] if stands_for else []),
        )
        for label, seen in result.extra["seen_as"].items()
    )
    return Table("What the untouched network sees in the training images", columns, rows)
