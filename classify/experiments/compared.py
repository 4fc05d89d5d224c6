"""The answer to a comparison: rows with what they reach and cost, paired tests, and the trade-off in a sentence."""

import dataclasses
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from classify.experiments.outcome import Outcome
from classify.measure.outcome import Result, plain_json
from classify.measure.results import SavedResult
from classify.measure.standing import LEVEL, frontier
from classify.measure.wording import count, duration, percent
from classify.show import columns
from classify.show.panels import Panel
from classify.show.table import Cell, Table, table_of
from classify.show.trade_off import trade_off
from features.digests import sha256_json

MOST_NAMED = 5  # of the rows that no other beats, in the sentence that people read


@dataclass(frozen=True, eq=False)
class ComparedRow:
    """One row: a model over all seeds.

    saved: a result for each seed. one_seconds: to predict one image from its pixels on, or None.
    """

    saved: tuple[SavedResult, ...]
    one_seconds: float | None

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.name}, {percent(self.accuracy)} % of the test images>"

    def _repr_html_(self) -> str:
        return "".join(saved._repr_html_() for saved in self.saved)

    @property
    def first(self) -> Result:
        """The result of the first seed."""
        return self.saved[0].result

    @property
    def model(self) -> str:
        """As it is called in the table."""
        return self.first.config.network_label

    @property
    def layer(self) -> str:
        """The cut, and how what it gives was pooled where that was no average."""
        config = self.first.config
        pooled = "" if config.is_network or config.pool in (None, "avg") else f" ({config.pool})"
        return f"{config.layer}{pooled}"

    @property
    def refit(self) -> bool:
        """Whether it was fitted again on training and validation rows."""
        return self.first.config.refit

    def mean(self, get: Callable[[Result], float | None]) -> float | None:
        """The mean over seeds of a number of a result; None where one lacks it."""
        values = [value for saved in self.saved if (value := get(saved.result)) is not None]
        return statistics.fmean(values) if len(values) == len(self.saved) else None

    @cached_property
    def validation(self) -> float:
        """Mean accuracy on the validation rows, before any refit."""
        accuracy = self.mean(lambda result: result.validation_accuracy)
        assert accuracy is not None  # every model of a comparison has validation rows
        return accuracy

    @cached_property
    def accuracies(self) -> tuple[float, ...]:
        """Test accuracy for each seed."""
        return tuple(saved.result.metrics.accuracy for saved in self.saved)

    @property
    def accuracy(self) -> float:
        """Mean test accuracy."""
        return statistics.fmean(self.accuracies)

    @cached_property
    def above_majority(self) -> bool:
        """Whether it is right more often than always saying the largest class, on average over seeds."""
        return self.accuracy > statistics.fmean(saved.result.metrics.majority for saved in self.saved)

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
        return self.mean(lambda result: getattr(result.extra, name))

    @property
    def name(self) -> str:
        """The model with its layer and how it was fitted, as sentences call it."""
        config = self.first.config
        name = f"{self.model} on {self.layer}" if self.model == config.head and "pool" in config else self.model
        # On folds every row is fitted on all images in the end, which tells none of them from the others.
        return f"{name} (refitted)" if self.refit and not config.on_folds else name


@dataclass(frozen=True, eq=False, repr=False)
class ComparisonResult(Outcome):
    """What `layerprobe.compare` found.

    Attributes
    ----------
    rows : tuple of ComparedRow
        In the order of the models: `model`, `layer`, `accuracy` (0 to 1, mean over seeds), `deviation`, `cost` in
        seconds.
    best : ComparedRow
        The row to choose, by validation.
    p_values : tuple of float or None
        Of McNemar's mid-p test of each row against `best` on the first seed's test predictions, Holm's correction over
        all rows; None for `best` itself.
    """

    FORMAT: ClassVar[str] = "layerprobe comparison"
    table_first: ClassVar[bool] = True

    question: dict[str, Any]
    rows: tuple[ComparedRow, ...]
    best: ComparedRow
    p_values: tuple[float | None, ...]
    notes: tuple[str, ...]
    folder: Path

    @property
    def table(self) -> Table:
        """The one table."""
        return comparison_table(self)

    @property
    def tables(self) -> tuple[Table, ...]:
        return (self.table,)

    @property
    def best_saved(self) -> SavedResult:
        return self.best.saved[0]

    @property
    def panels(self) -> tuple[Panel, ...]:
        return trade_off(self._records())

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds of all rows."""
        return tuple(self.question["seeds"])

    @property
    def title(self) -> str:
        return f"comparison: {self.best.first.config.dataset}"

    @cached_property
    def stem(self) -> str:
        """What its record is called: 'compare-mnist-<ten digits>'."""
        rows = [[saved.result.digest for saved in row.saved] for row in self.rows]
        return f"compare-{self.best.first.config.dataset}-{sha256_json([plain_json(self.question), rows])[:10]}"

    @cached_property
    def frontier(self) -> tuple[ComparedRow, ...]:
        """The rows that no other row beats in both test accuracy and cost, from the cheapest to the most accurate.

        Rows that are not above the majority baseline are worth no wait, and are left out, unless no row is above it.
        """
        worth = [row for row in self.rows if row.above_majority]
        return frontier(worth or self.rows, lambda row: row.cost, lambda row: row.accuracy)

    @property
    def sentences(self) -> tuple[str, ...]:
        return self.answer()

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
        """Which rows no other row beats in both accuracy and cost, and what each further 0.1 points costs in time; of
        many the most accurate are named."""
        rows = self.frontier[-MOST_NAMED:]
        ahead = [f"{row.name} ({percent(row.accuracy)} %, {duration(row.cost)})" for row in rows]
        sentence = f"No other row is both more accurate and sooner ready than {_and(ahead)}"
        if more := len(self.frontier) - len(rows):
            sentence += f" (nor than {more} that {'is' if more == 1 else 'are'} less accurate)"
        steps = []
        for before, after in zip(rows, rows[1:], strict=False):
            tenths = 1000 * (after.accuracy - before.accuracy)
            steps.append(f"{duration((after.cost - before.cost) / tenths)} up to {after.name}")
        gained = f"; each further 0.1 points costs {_and(steps)}" if steps else ": nothing is gained by waiting longer"
        below = [row.name for row in self.rows if not row.above_majority]
        left_out = f" Left out, since not above the majority baseline: {', '.join(below)}."
        return f"{sentence}{gained}.{left_out if 0 < len(below) < len(self.rows) else ''}"

    def body(self) -> dict[str, Any]:
        return {
            "best": self.best.name,
            "best_result": self.best.saved[0].path.name,
            "frontier": [row.name for row in self.frontier],
            "rows": self._records(),
            "environment": self.best.first.environment,
        }

    def _records(self) -> list[dict[str, Any]]:
        records = self.table.records()
        for record, row in zip(records, self.rows, strict=True):
            record |= {
                "accuracies": row.accuracies,
                "cost_seconds": row.cost,
                "above_majority": row.above_majority,
                "results": [saved.path.name for saved in row.saved],
            }
        return records


def comparison_table(comparison: "ComparisonResult") -> Table:
    """One line for each model: what it reaches, what it costs, and whether it differs from the best on validation."""
    several = len(comparison.seeds) > 1
    p_values = dict(zip(map(id, comparison.rows), comparison.p_values, strict=True))

    def on_gpu(row: ComparedRow) -> float | None:
        return row.extra("peak_device_bytes")

    gpu_used = any(on_gpu(row) is not None for row in comparison.rows)
    cells: tuple[Cell, ...] = (
        (columns.MODEL, lambda row: row.model),
        (columns.CUT, lambda row: row.layer),
        (columns.FITTED_ON, _fitted_on),
        (columns.VALIDATION, lambda row: row.validation),
        (columns.accuracy(), lambda row: columns.estimate(row.first.metrics)),
        *([(columns.OVER_SEEDS, lambda row: (row.accuracy, row.deviation))] if several else []),
        (columns.BALANCED, lambda row: row.mean(lambda result: result.metrics.balanced_accuracy)),
        (columns.MACRO_F1, lambda row: row.mean(lambda result: result.metrics.macro_f1)),
        (columns.LOG_LOSS, lambda row: row.mean(lambda result: result.metrics.log_loss)),
        (columns.ECE, lambda row: row.mean(lambda result: result.metrics.ece)),
        (columns.PARAMETERS, lambda row: row.extra("trained_parameters")),
        (columns.EXTRACT, lambda row: row.seconds("extract")),
        (columns.TRAIN, lambda row: row.seconds("search", "fit")),
        (columns.ONE_IMAGE, lambda row: row.one_seconds),
        (columns.MEMORY, lambda row: row.extra("peak_host_bytes")),
        *([(columns.GPU_MEMORY, on_gpu)] if gpu_used else []),
        (columns.P_VALUE, lambda row: p_values[id(row)]),
    )
    table = table_of(_title(comparison), comparison.rows, cells, _notes(comparison, several))
    place = next(number for number, row in enumerate(comparison.rows) if row is comparison.best)
    return dataclasses.replace(table, marked=frozenset({(place, table.index("validation"))}))


def _title(comparison: "ComparisonResult") -> str:
    config, rows = comparison.best.first.config, comparison.best.first.rows
    counted = f"{count(rows['train'])} + {count(rows['validation'])} training and validation images"
    if config.on_folds:
        counted = f"{count(rows['train'])} training images ({config.validate})"
    return f"{config.dataset}: {counted}, {count(rows['test'])} test images"


def _notes(comparison: "ComparisonResult", several: bool) -> tuple[str, ...]:
    notes = ["* best on validation"]
    notes.append(columns.ACCURACY_NOTE)
    if several:
        seeds = _and([str(seed) for seed in comparison.seeds])
        notes.append(
            f"accuracy: with seed {comparison.seeds[0]}; mean ± sd: mean and standard deviation over seeds {seeds}; "
            "all other figures are means over seeds"
        )
    notes.append(columns.majority_note(comparison.best.first.metrics))
    fitted = (
        "fitted on: a head's hyper-parameters and a network's epoch are chosen on validation; networks are not fitted "
        "again after that, so compare them with the rows fitted on train"
    )
    if comparison.best.first.config.on_folds:
        fitted = "fitted on: what was chosen out of folds, heads and networks alike, is fitted on all training images"
    notes.append(fitted)
    notes.append(
        "extract: of the training images, all layers of the pass; train: search and last fit; one image: from its "
        "pixels to its class; memory: of the whole process at its most"
    )
    silent = dict.fromkeys(row.model for row in comparison.rows if row.first.metrics.log_loss is None)
    if silent:
        give = "does not give" if len(silent) == 1 else "do not give"
        notes.append(f"log loss, ECE: of probabilities, which {', '.join(silent)} {give}")
    which = f" with seed {comparison.seeds[0]}" if several else ""
    notes.append(
        f"p: McNemar's mid-p test against the row best on validation{which}, Holm's correction over all rows; below "
        f"{LEVEL:g} they differ"
    )
    if any(row.first.metrics.outside for row in comparison.rows):
        notes.append("untouched own: its own classes taken for labels; predictions that are no label count as wrong")
    return tuple(notes)


def _fitted_on(row: ComparedRow) -> str:
    untrained = row.first.extra.trained_parameters == 0
    fitted = "all of train" if row.first.config.on_folds else "train + validation" if row.refit else "train"
    return "nothing" if untrained else fitted


def _and(parts: Sequence[str]) -> str:
    return " and ".join([", ".join(parts[:-1]), parts[-1]]) if len(parts) > 1 else parts[0]
