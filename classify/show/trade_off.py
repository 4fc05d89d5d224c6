"""Test accuracy against the time until a model can predict, as a value: the best for their time joined and named."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from classify.heads.network import NETWORKS
from classify.measure.standing import frontier
from classify.measure.wording import one_line
from classify.show.panels import Line, Panel
from classify.show.scale import time_ticks

KINDS = ("head on features", "fine-tuned network", "network from scratch", "untouched network", "control")
BEST = "best for the time"  # no other is both sooner ready and more accurate


@dataclass(frozen=True)
class Priced:
    """A model with its cost. kind: one of `KINDS`; accuracy (the mean over seeds), low, high: fractions.

    above_majority: whether it is right more often than always saying the largest class.
    """

    name: str
    kind: str
    seconds: float
    accuracy: float
    low: float
    high: float
    above_majority: bool


def trade_off(rows: Sequence[Mapping[str, Any]]) -> tuple[Panel, ...]:
    """The chart of a comparison's rows, as its document has them; none where fewer than two have a cost.

    Rows that say that they are a 'control' are hollow, and not among the best; nor are those that say that they are not
    above the majority baseline ('above_majority'), unless none is.
    """
    models = [model for row in rows if (model := _priced(row)).seconds > 0]
    if len(models) < 2:
        return ()
    chosen_from = [model for model in models if model.kind != KINDS[4]]
    chosen_from = [model for model in chosen_from if model.above_majority] or chosen_from
    best = frontier(chosen_from, lambda model: model.seconds, lambda model: model.accuracy) if chosen_from else ()
    seconds = [model.seconds for model in models]
    return (
        Panel(
            "",
            "time until it can predict: extract, search, train",
            "test accuracy, %",
            (*(_line(kind, [model for model in models if model.kind == kind]) for kind in KINDS), _joined(best)),
            log=True,
            ticks=time_ticks(min(seconds), max(seconds)),
            errors=True,
            seconds=True,
        ),
    )


def _line(kind: str, models: Sequence[Priced]) -> Line:
    return Line(
        kind,
        tuple(model.seconds for model in models),
        tuple(100 * model.accuracy for model in models),
        tuple(100 * model.low for model in models),
        tuple(100 * model.high for model in models),
        dashed=kind == KINDS[4],
        connected=False,
        names=tuple(model.name for model in models),
    )


def _joined(best: Sequence[Priced]) -> Line:
    x, y = tuple(model.seconds for model in best), tuple(100 * model.accuracy for model in best)
    return Line(BEST, x, y, names=tuple(model.name for model in best), frontier=True)


def _priced(row: Mapping[str, Any]) -> Priced:
    seconds = row.get("cost_seconds")
    if seconds is None:
        seconds = sum(row[name] or 0.0 for name in ("extract_seconds", "train_seconds"))
    accuracies = row.get("accuracies") or [row["accuracy"]]
    mean = sum(accuracies) / len(accuracies)
    ends = row["accuracy_low"], row["accuracy_high"]
    # Comparisons of version 0.1.0 do not say it.
    return Priced(full_name(row), _kind(row), seconds, mean, *ends, row.get("above_majority", True))


def _kind(row: Mapping[str, Any]) -> str:
    if row.get("control"):
        return KINDS[4]
    network = NETWORKS.get(re.split("[ ,]", row["model"])[0])
    if network is None:
        return KINDS[0]
    return KINDS[3] if not network.trains else KINDS[2] if network.drawn else KINDS[1]


def full_name(row: Mapping[str, Any]) -> str:
    """What a row is called where its cut and the rows that it was fitted on do not stand beside it."""
    name = row["model"]
    # A comparison's heads are called by their bare names; a record's name says all this already.
    if " " not in name and NETWORKS.get(name) is None:
        name = f"{name} on {row['layer']}" + (" (refitted)" if row["fitted_on"].startswith("train +") else "")
    return one_line(name)
