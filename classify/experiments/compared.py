"""The answer to a comparison: rows with what they reach and cost, paired tests, and the trade-off in a sentence."""

import html
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from classify.measure.outcome import Result, plain_json
from classify.measure.paired import holm, mcnemar
from classify.measure.results import SavedResult
from classify.measure.wording import count, duration, percent
from features.digests import sha256_json
from features.errors import UserError

FORMAT = "layerprobe comparison"
VERSION = 1
LEVEL = 0.05


@dataclass(frozen=True, eq=False)
class ComparedRow:
    """One row: a model over all seeds.

    model: as it is called in the table. layer: the cut. refit: whether it was fitted again on training + validation
    rows. saved: a result for each seed. one_seconds: to predict one image from its pixels on, or None.
    """

    model: str
    layer: str
    refit: bool
    saved: tuple[SavedResult, ...]
    one_seconds: float | None

    @property
    def first(self) -> Result:
        """The result of the first seed."""
        return self.saved[0].result

    def mean(self, get: Callable[[Result], float | None]) -> float | None:
        """The mean over seeds of a number of a result; None where one lacks it."""
        values = [get(saved.result) for saved in self.saved]
        return None if None in values else statistics.fmean(values)

    @cached_property
    def validation(self) -> float:
        """Mean accuracy on the validation rows, before any refit."""
        return self.mean(lambda result: result.validation_accuracy)

    @cached_property
    def accuracies(self) -> tuple[float, ...]:
        """Test accuracy for each seed."""
        return tuple(saved.result.metrics.accuracy for saved in self.saved)

    @property
    def accuracy(self) -> float:
        """Mean test accuracy."""
        return statistics.fmean(self.accuracies)

    @property
    def deviation(self) -> float | None:
        """Sample standard deviation of the test accuracy over seeds; None with one seed."""
        return statistics.stdev(self.accuracies) if len(self.accuracies) > 1 else None

    def seconds(self, *steps: str) -> float | None:
        """Mean seconds of these steps together; None where none of them was measured."""
        if not any(step in saved.result.seconds for saved in self.saved for step in steps):
            return None
        return self.mean(lambda result: sum(result.seconds.get(step, 0.0) for step in steps))

    @property
    def cost(self) -> float:
        """Seconds until it can predict: extraction of the training images, search and the last fit."""
        return self.seconds("extract", "search", "fit") or 0.0

    def extra(self, name: str) -> float | None:
        """The mean over seeds of an extra number."""
        return self.mean(lambda result: result.extra.get(name))

    @property
    def name(self) -> str:
        """The model with its layer and how it was fitted, as sentences call it."""
        head = self.first.config["head"]
        name = f"{self.model} on {self.layer}" if self.model == head and "pool" in self.first.config else self.model
        return f"{name} (refitted)" if self.refit else name


@dataclass(frozen=True, eq=False)
class ComparisonResult:
    """What a comparison found.

    question: what was asked, as plain values. rows: in the order of the models. best: the row with the highest
    validation accuracy. p_values: of McNemar's mid-p test of each row against `best` on the first seed's test
    predictions, Holm's correction over all rows; None for `best` itself. notes: what was left out and why.
    """

    question: dict[str, Any]
    rows: tuple[ComparedRow, ...]
    best: ComparedRow
    p_values: tuple[float | None, ...]
    notes: tuple[str, ...]
    folder: Path

    @property
    def table(self):
        """The one table: a `classify.show.table.Table`."""
        from classify.show.compare_tables import comparison_table

        return comparison_table(self)

    @property
    def tables(self) -> tuple:
        """What is shown: the one table."""
        return (self.table,)

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds of all rows."""
        return tuple(self.question["seeds"])

    @cached_property
    def stem(self) -> str:
        """What its record is called: 'compare-mnist-<ten digits>'."""
        rows = [[saved.result.digest for saved in row.saved] for row in self.rows]
        return f"compare-{self.best.first.config['dataset']}-{sha256_json([plain_json(self.question), rows])[:10]}"

    @cached_property
    def frontier(self) -> tuple[ComparedRow, ...]:
        """The rows that no other row beats in both test accuracy and cost, from the cheapest to the most accurate."""
        return frontier(self.rows)

    def answer(self) -> tuple[str, ...]:
        """The answer as sentences: what is best on validation, and the trade-off."""
        low, high = self.best.first.metrics.accuracy_interval
        seeds = f" with seed {self.seeds[0]}" if len(self.seeds) > 1 else ""
        best = (
            f"Best on validation: {self.best.name} ({percent(self.best.validation)} %); on "
            f"{count(self.best.first.metrics.n)} test images{seeds} it is right on "
            f"{percent(self.best.first.metrics.accuracy)} % (95 % interval {percent(low)} to {percent(high)})."
        )
        return best, self.trade_off()

    def trade_off(self) -> str:
        """Which rows no other row beats in both accuracy and cost, and what each further 0.1 points costs in time."""
        rows = self.frontier
        told = [f"{row.name} ({percent(row.accuracy)} %, {duration(row.cost)})" for row in rows]
        sentence = f"No other row is both more accurate and sooner ready than {_and(told)}"
        steps = []
        for before, after in zip(rows, rows[1:], strict=False):
            tenths = 1000 * (after.accuracy - before.accuracy)
            steps.append(f"{duration((after.cost - before.cost) / tenths)} up to {after.name}")
        if not steps:
            return f"{sentence}: nothing is gained by waiting longer."
        return f"{sentence}; each further 0.1 points costs {_and(steps)}."

    def __str__(self) -> str:
        notes = [f"note: {note}" for note in self.notes]
        return "\n".join([str(self.table), *notes, "", *self.answer()])

    def to_markdown(self) -> str:
        """The table, the notes and the answer."""
        from classify.show.table import markdown_text

        notes = ["\n".join(f"- {markdown_text(note)}" for note in self.notes)] if self.notes else []
        return "\n\n".join([self.table.to_markdown(), *notes, " ".join(map(markdown_text, self.answer()))]) + "\n"

    def _repr_html_(self) -> str:
        lines = [*self.answer(), *(f"note: {note}" for note in self.notes)]
        return "".join(f"<p>{html.escape(line)}</p>" for line in lines) + self.table.to_html()

    def to_csv(self) -> str:
        """All rows with full numbers."""
        return self.table.to_csv()

    def to_json(self) -> dict[str, Any]:
        """Everything as plain values; `results` name the records that hold predictions and environment."""
        records = self.table.records()
        for record, row in zip(records, self.rows, strict=True):
            record |= {
                "accuracies": row.accuracies,
                "cost_seconds": row.cost,
                "results": [saved.path.name for saved in row.saved],
            }
        body = {
            "format": FORMAT,
            "version": VERSION,
            "question": self.question,
            "answer": self.answer(),
            "best": self.best.name,
            "frontier": [row.name for row in self.frontier],
            "rows": records,
            "notes": self.notes,
            "environment": self.best.first.environment,
        }
        return plain_json(body, "comparison")


def best_on_validation(rows: Sequence[ComparedRow]) -> ComparedRow:
    """The row with the highest validation accuracy; of equals (a head refitted or not) the first."""
    return max(rows, key=lambda row: row.validation)


def against(best: ComparedRow, rows: Sequence[ComparedRow]) -> tuple[float | None, ...]:
    """Holm's adjusted p-values of McNemar's test of each row against `best` on the first seed's test rows."""
    reference = best.saved[0].predictions()
    others = [row for row in rows if row is not best]
    p_values = []
    for row in others:
        predictions = row.saved[0].predictions()
        if not np.array_equal(predictions.rows, reference.rows):
            raise UserError(f"{row.saved[0].path} was tested on other rows than {best.saved[0].path}; give --again")
        p_values.append(mcnemar(reference.labels, reference.predicted, predictions.predicted).p_value)
    corrected = dict(zip(map(id, others), holm(p_values).tolist(), strict=True)) if others else {}
    return tuple(corrected.get(id(row)) for row in rows)


def frontier(rows: Sequence[ComparedRow]) -> tuple[ComparedRow, ...]:
    """The rows that no other row beats in both accuracy and cost, cheapest first; of equals the first."""
    kept: list[ComparedRow] = []
    for row in sorted(rows, key=lambda row: (row.cost, -row.accuracy)):
        if not kept or row.accuracy > kept[-1].accuracy:
            kept.append(row)
    return tuple(kept)


def _and(parts: Sequence[str]) -> str:
    return " and ".join([", ".join(parts[:-1]), parts[-1]]) if len(parts) > 1 else parts[0]
