"""The page's tables: cells with what people read and what they are sorted by."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from classify.measure.standing import p_values
from classify.measure.wording import (
    MISSING,
    count,
    decimal,
    duration,
    gigabytes,
    one_line,
    percent,
    percent_interval,
    whole,
)
from classify.show.columns import spelled_p
from classify.show.report.documents import Answer
from classify.show.report.folder import Model, Section


@dataclass(frozen=True)
class Cell:
    """text: what is read. value: what it is sorted by, a number or a text; None goes last. link: an id on the page."""

    text: str
    value: float | str | None = None
    link: str = ""
    marked: bool = False


@dataclass(frozen=True)
class SortedTable:
    """A table of the page. columns: (header, what it means, whether it holds numbers)."""

    name: str
    caption: str
    columns: tuple[tuple[str, str, bool], ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()


def _column(
    name: str, header: str, means: str, spelled: Callable[[Any], str]
) -> tuple[str, str, str, Callable[[Any], str]]:
    return name, header, means, spelled


_NUMBERS = (
    _column("validation", "validation %", "accuracy on the validation rows, by which everything is chosen", percent),
    _column("accuracy", "test accuracy %", "on the test images, ± half the width of the 95 % interval", percent),
    _column("p_value", "p", "McNemar's mid-p test against the row best on validation, Holm's correction", spelled_p),
    _column("macro_f1", "macro F1 %", "mean F1 over the classes, on the test images", percent),
    _column("log_loss", "log loss", "mean of -log of the label's probability; lower is better", decimal),
    _column("ece", "ECE %", "expected calibration error in 15 bins; lower is better", percent),
    _column("trained_parameters", "parameters", "numbers that were trained", whole),
    _column("extract_seconds", "extract", "pass of the training images through the frozen part", duration),
    _column("train_seconds", "train", "search and last fit", duration),
    _column("one_seconds", "one image", "from its pixels to its class", duration),
    _column("peak_memory", "memory", "of the whole process at its most", gigabytes),
)


def model_table(rows: Sequence[dict[str, Any]], best: int | None, name: str, caption: str) -> SortedTable:
    """Heads and networks as rows; `rows` have the fields of a comparison's, and 'model', 'layer', 'anchor'."""
    used = [column for column in _NUMBERS if any(row.get(column[0]) is not None for row in rows)]
    several = any(len(row.get("accuracies", ())) > 1 for row in rows)
    columns = [("model", "head or network; the link leads to where its numbers come from", False)]
    columns += [("cut", "the layer that it starts from", False), ("fitted on", "rows of the last fit", False)]
    for field, header, means, _ in used:
        columns.append((header, means, True))
        if field == "accuracy" and several:
            columns.append(("mean of seeds %", "mean and standard deviation of the test accuracy over seeds", True))
    lines = []
    for place, row in enumerate(rows):
        cells = [Cell(one_line(row["model"]), one_line(row["model"]), row.get("anchor", ""), place == best)]
        cells += [Cell(one_line(row[field]), one_line(row[field])) for field in ("layer", "fitted_on")]
        for field, _, _, spelled in used:
            value = row.get(field)
            text = spelled(value)
            if field == "accuracy":
                text = percent_interval((row["accuracy"], row["accuracy_low"], row["accuracy_high"]))
            cells.append(Cell(text, value, marked=place == best and field == "validation"))
            if field == "accuracy" and several:
                cells.append(_over_seeds(row.get("accuracies", ())))
        lines.append(tuple(cells))
    notes = []
    if best is not None:
        notes.append(f"Bold: best on validation ({one_line(rows[best]['model'])}), the one to choose.")
    if any(row.get("p_value") is not None for row in rows):
        notes.append("p below 0.05: the row and the one best on validation differ by more than chance would have it.")
    if any(row["fitted_on"] == "train" for row in rows) and any(row["fitted_on"].startswith("train +") for row in rows):
        notes.append(
            "Networks are not fitted again after their epoch was chosen on validation; compare them with the heads "
            "fitted on train."
        )
    return SortedTable(name, caption, tuple(columns), tuple(lines), tuple(notes))


def _over_seeds(accuracies: Sequence[float]) -> Cell:
    if not accuracies:
        return Cell(MISSING)
    mean = float(np.mean(accuracies))
    deviation = float(np.std(accuracies, ddof=1)) if len(accuracies) > 1 else None
    return Cell(f"{percent(mean)} ± {percent(deviation)}", mean)


def comparison_rows(answer: Answer, section: Section) -> tuple[list[dict[str, Any]], int | None]:
    """A comparison's rows, with the page's places of their records, and which was best on validation."""
    rows = []
    for row, names in zip(answer.body["rows"], answer.records, strict=True):
        models = [model for name in names if (model := section.find(name))]
        rows.append({**row, "anchor": models[0].anchor if models else ""})
    values = [(row["validation"], -place) for place, row in enumerate(rows) if row["validation"] is not None]
    return rows, -max(values)[1] if values else None


def record_rows(models: Sequence[Model]) -> tuple[list[dict[str, Any]], int | None]:
    """Rows of the same form for records that no comparison names, paired tests among them."""
    rows = [_record_row(model) for model in models]
    known = [(row["validation"], -place) for place, row in enumerate(rows) if row["validation"] is not None]
    if not known:
        return rows, None
    best = -max(known)[1]
    others = [place for place in range(len(models)) if place != best]
    for place, value in zip(
        others, p_values(models[best].saved, [models[place].saved for place in others]), strict=True
    ):
        rows[place]["p_value"] = value
    return rows, best


def _record_row(model: Model) -> dict[str, Any]:
    result = model.saved.result
    metrics, seconds, extra = result.metrics, result.seconds, result.extra
    low, high = metrics.accuracy_interval
    untrained = extra.trained_parameters == 0
    training = [seconds[step] for step in ("search", "fit") if step in seconds]
    return {
        "model": model.name,
        "layer": result.config.layer or MISSING,
        "fitted_on": "train + validation" if result.refit else "nothing" if untrained else "train",
        "validation": result.validation_accuracy,
        "accuracy": metrics.accuracy,
        "accuracy_low": low,
        "accuracy_high": high,
        "macro_f1": metrics.macro_f1,
        "log_loss": metrics.log_loss,
        "ece": metrics.ece,
        "trained_parameters": extra.trained_parameters,
        "extract_seconds": seconds.get("extract"),
        "train_seconds": sum(training) if training else None,
        "one_seconds": extra.predict_one_seconds,
        "peak_memory": extra.peak_host_bytes,
        "p_value": None,
        "anchor": model.anchor,
    }


def standings_table(answer: Answer, section: Section, name: str) -> SortedTable:
    """A probe's layers under their best heads: what each reaches and costs, and whether it differs from the best."""
    records = {_entry(row): model.anchor for row in answer.body["rows"] if (model := section.find(row["result"]))}
    pools = {row["pool"] for row in answer.body["layers"]}
    columns = [("layer", "the link leads to where its numbers come from", False)]
    columns += [("pool", "", False)] if len(pools) > 1 else []
    columns += [
        ("best head", "chosen on validation", False),
        ("test accuracy %", "± half the width of the 95 % interval", True),
        ("p", "McNemar's mid-p test against the best on validation, Holm's correction over layers", True),
        ("GFLOP an image", "up to the layer, a multiply-add counted as two", True),
        ("bytes an image", "of its features in the cache", True),
    ]
    rows = []
    for row in answer.body["layers"]:
        best = row["p_value"] is None
        gflop = None if row["flops"] is None else row["flops"] / 1e9
        layer = f"Head2Toe over {row['layer']}" if row["kind"] == "head2toe" else row["layer"]
        cells = [Cell(one_line(layer), one_line(layer), records.get(_entry(row), ""), best)]
        cells += [Cell(one_line(row["pool"]), one_line(row["pool"]))] if len(pools) > 1 else []
        cells += [
            Cell(one_line(row["head"]), one_line(row["head"])),
            Cell(percent_interval((row["accuracy"], *row["accuracy_interval"])), row["accuracy"]),
            Cell("best" if best else spelled_p(row["p_value"]), None if best else row["p_value"]),
            Cell(decimal(gflop, 2), gflop),
            Cell(count(row["bytes"]), row["bytes"]),
        ]
        rows.append(tuple(cells))
    return SortedTable(name, "Each layer under its best head, against the best", tuple(columns), tuple(rows))


def _entry(row: dict[str, Any]) -> tuple[str, ...]:
    """What tells a probe's entry from its others."""
    return row["kind"], row["layer"], row["head"], row["pool"]
