"""The page's tables: those of `classify.show.table`, sorted by a click, with a link from each row to its record."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from classify.measure.choice import best_of
from classify.measure.standing import p_values
from classify.measure.wording import MISSING, one_line
from classify.show import columns
from classify.show.report.documents import Document
from classify.show.report.folder import Model, Section, shared_details
from classify.show.table import Column, Table
from classify.show.trade_off import full_name

# What people came for stands beside the name, where a phone shows it without scrolling.
_MODELS = (
    columns.MODEL,
    columns.accuracy(header="test accuracy %"),
    columns.VALIDATION,
    columns.CUT,
    columns.FITTED_ON,
    columns.OVER_SEEDS,
    columns.P_VALUE,
    columns.BALANCED,
    columns.MACRO_F1,
    columns.LOG_LOSS,
    columns.ECE,
    columns.PARAMETERS,
    columns.EXTRACT,
    columns.TRAIN,
    columns.ONE_IMAGE,
    columns.MEMORY,
    columns.GPU_MEMORY,
)


@dataclass(frozen=True)
class SortedTable:
    """A table of the page. name: its id. links: for each row an id on the page, or nothing."""

    name: str
    table: Table
    links: tuple[str, ...]

    @property
    def rows(self) -> Iterator[list[tuple[str, Any, bool]]]:
        """Of each cell what is read, what it is sorted by (number or text; None is last), and whether it is marked."""
        for i, (row, texts) in enumerate(zip(self.table.rows, self.table.cells(), strict=True)):
            keys = [column.key(value) for column, value in zip(self.table.columns, row, strict=True)]
            yield [
                (text, text if isinstance(key, str) else key, (i, j) in self.table.marked)
                for j, (text, key) in enumerate(zip(texts, keys, strict=True))
            ]


def _sorted_table(
    name: str, title: str, shown: Sequence[Column], rows: Sequence[dict[str, Any]], best: int | None, *notes: str
) -> SortedTable:
    """Of rows with the fields of the columns, and 'anchor'; the best is marked where it is named and where it is so."""
    marked = {(best, 0), *((best, place) for place, column in enumerate(shown) if column is columns.VALIDATION)}
    cells = tuple(tuple(column.read(row) for column in shown) for row in rows)
    table = Table(title, tuple(shown), cells, notes, frozenset((i, j) for i, j in marked if i is not None))
    return SortedTable(name, table, tuple(row["anchor"] for row in rows))


def model_table(
    rows: Sequence[dict[str, Any]], best: int | None, name: str, caption: str, shared: Sequence[str] = ()
) -> SortedTable:
    """Heads and networks as rows, which have the fields of a comparison's, and 'anchor'. shared: what all of them have
    that their names do not say."""
    notes = [f"All of them: {', '.join(shared)}."] if shared else []
    if best is not None:
        notes.append(f"Bold: best on validation ({one_line(rows[best]['model'])}), the one to choose.")
    if any(row.get("p_value") is not None for row in rows):
        notes.append("p below 0.05: the row and the one best on validation differ by more than chance would have it.")
    if any(row["fitted_on"] == "train" for row in rows) and any(row["fitted_on"].startswith("train +") for row in rows):
        notes.append(
            "Networks are not fitted again after their epoch was chosen on validation; compare them with the heads "
            "fitted on train."
        )
    shown = [column for column in _MODELS if any(column.read(row) is not None for row in rows)]
    return _sorted_table(name, caption, shown, rows, best, *notes)


def comparison_rows(document: Document, section: Section) -> tuple[list[dict[str, Any]], int | None]:
    """A comparison's rows, with the page's places of their records, and which was best on validation."""
    rows = []
    for row, names in zip(document.body["rows"], document.records, strict=True):
        models = [model for name in names if (model := section.find(name))]
        metrics = [model.saved.result.metrics for model in models]
        changed = {"model": full_name(row), "anchor": models[0].anchor if models else ""}
        above = sum(of_seed.accuracy for of_seed in metrics) > sum(of_seed.majority for of_seed in metrics)
        rows.append({**row, **changed, "above_majority": above or not metrics})
    best = document.best[0]
    return rows, next((place for place, names in enumerate(document.records) if best in names), None)


def record_rows(models: Sequence[Model]) -> tuple[list[dict[str, Any]], int | None]:
    """Rows of the same form for records that no comparison names, paired tests among them."""
    shared = shared_details(models)
    rows = [record_row(model, shared) for model in models]
    validated = [model for model, row in zip(models, rows, strict=True) if row["validation"] is not None]
    if not validated:
        return rows, None
    best = models.index(best_of(validated, lambda model: [model.saved.result]))
    others = [place for place in range(len(models)) if place != best]
    for place, value in zip(
        others, p_values(models[best].saved, [models[place].saved for place in others]), strict=True
    ):
        rows[place]["p_value"] = value
    return rows, best


def record_row(model: Model, shared: Sequence[str] = ()) -> dict[str, Any]:
    """A record with the fields of a comparison's row, and 'anchor'. shared: details that its name need not say."""
    result = model.saved.result
    metrics, seconds, extra = result.metrics, result.seconds, result.extra
    low, high = metrics.accuracy_interval
    untrained = extra.trained_parameters == 0
    training = [seconds[step] for step in ("search", "fit") if step in seconds]
    return {
        "model": model.name_beside(shared),
        "layer": result.config.layer or MISSING,
        "fitted_on": "train + validation" if result.refit else "nothing" if untrained else "train",
        "validation": result.validation_accuracy,
        "accuracy": metrics.accuracy,
        "accuracy_low": low,
        "accuracy_high": high,
        "balanced_accuracy": metrics.balanced_accuracy,
        "macro_f1": metrics.macro_f1,
        "log_loss": metrics.log_loss,
        "ece": metrics.ece,
        "trained_parameters": extra.trained_parameters,
        "extract_seconds": seconds.get("extract"),
        "train_seconds": sum(training) if training else None,
        "one_seconds": extra.predict_one_seconds,
        "peak_memory": extra.peak_host_bytes,
        "p_value": None,
        "above_majority": metrics.accuracy > metrics.majority,
        "anchor": model.anchor,
    }


def standings_table(document: Document, section: Section, name: str) -> SortedTable:
    """A probe's layers under their best heads: what each reaches and costs, and whether it differs from the best."""
    records = {_entry(row): model.anchor for row in document.body["rows"] if (model := section.find(row["result"]))}
    several = len({row["pool"] for row in document.body["layers"]}) > 1
    networks = any(row.get("backbone") for row in document.body["layers"])
    shown = (
        *([columns.text("backbone")] if networks else []),
        columns.text("layer", means="the link leads to where its numbers come from"),
        *([columns.text("pool")] if several else []),
        columns.accuracy(header="test accuracy %"),
        columns.BEST_HEAD,
        columns.called(columns.P_VALUE, "p", format=lambda p: "best" if p is None else columns.spelled_p(p)),
        columns.GFLOP,
        columns.BYTES,
    )
    rows = []
    for row in document.body["layers"]:
        low, high = row["accuracy_interval"]
        changed = {"accuracy_low": low, "accuracy_high": high, "anchor": records.get(_entry(row), "")}
        changed["gflop"] = None if row["flops"] is None else row["flops"] / 1e9
        changed["layer"] = f"Head2Toe over {row['layer']}" if row["kind"] == "head2toe" else row["layer"]
        rows.append({**row, **changed})
    best = next((place for place, row in enumerate(rows) if row["p_value"] is None), None)
    return _sorted_table(name, "Each layer under its best head, against the best", shown, rows, best)


def _entry(row: dict[str, Any]) -> tuple[str, ...]:
    """What tells a probe's entry from its others."""
    return row["kind"], row["layer"], row["head"], row["pool"], row.get("backbone") or ""
