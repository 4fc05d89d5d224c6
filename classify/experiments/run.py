"""What a run found: one result in full, or several side by side, the one best on validation first."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from classify.experiments.cross_testing import procedure
from classify.experiments.outcome import Outcome
from classify.measure.choice import best_of, by_rank
from classify.measure.outcome import Result
from classify.measure.results import SavedResult, open_result
from classify.measure.standing import not_distinguishable
from classify.show.panels import Panel
from classify.show.table import Table
from classify.show.tables import (
    confusion_table,
    layer_by_head,
    network_tables,
    networks_table,
    per_class_table,
    summary_table,
)
from classify.show.training import training_panels
from features.digests import sha256_json

OF_THE_ROW = ("accuracy", "macro F1", "log loss", "calibration error", "outside")
MOST_NAMED = 6  # results that are as good as the best, in a sentence


@dataclass(frozen=True, eq=False, repr=False)
class RunOutcome(Outcome):
    """The results of heads, or of networks; each kind is configured by other things and has its own table.

    equals: those that cannot be told apart from the best on what it was chosen on. tested: what choosing among them
    comes to, where all images were tested by cross-validation.
    """

    FORMAT: ClassVar[str] = "layerprobe run"

    results: tuple[Result, ...]
    question: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    equals: tuple[Result, ...] = ()
    tested: str = ""
    folder: Path = Path("results")

    @classmethod
    def of(cls, saved: Sequence[SavedResult], folder: Path) -> "RunOutcome":
        """What these results come to; paired on what was predicted where they were chosen."""
        best = best_of(saved, lambda result: [result.result])
        others = by_rank([other for other in saved if other is not best], lambda other: [other.result])
        equals = tuple(others[place].result for place in not_distinguishable(best, others))
        whole, names = procedure(saved), [_name(other.result) for other in saved]
        tested = "" if whole is None else whole.sentence(names)
        return cls(tuple(other.result for other in saved), equals=equals, tested=tested, folder=folder)

    @property
    def best(self) -> Result:
        """The one that was best on validation, as `classify.measure.choice` says."""
        return best_of(self.results, lambda result: [result])

    @property
    def best_saved(self) -> SavedResult | None:
        path = self.folder / f"{self.best.stem}.json"
        return open_result(path) if path.is_file() else None

    @property
    def sentences(self) -> tuple[str, ...]:
        lines = str(self.best).splitlines()
        if len(self.results) == 1:
            return tuple(lines)
        equals = ", ".join(map(_name, self.equals[:MOST_NAMED]))
        more = f" and {len(self.equals) - MOST_NAMED} more" if len(self.equals) > MOST_NAMED else ""
        as_good = [f"cannot be told apart from it there (paired, Holm, 5 %): {equals}{more}"] if equals else []
        tested = []
        if self.tested:
            # What the chosen row reached by itself is no test of the choice, which was made on the same images.
            tested, lines = [self.tested], [line for line in lines if not line.startswith(OF_THE_ROW)]
        return (f"best on validation: {self._called}", *as_good, *tested, *lines)

    @property
    def _called(self) -> str:
        config = self.best.config
        return f"{config.network_label} on {config.layer}{f' ({config.pool} pooling)' if config.pool else ''}"

    @property
    def tables(self) -> tuple[Table, ...]:
        if len(self.results) == 1:
            tables = [per_class_table(self.best), confusion_table(self.best), *network_tables(self.results)]
        elif self.best.config.pool is None:
            tables = [networks_table(self.results), *network_tables(self.results)]
        else:
            tables = [summary_table(self.results)]
            if len({result.config.layer for result in self.results}) > 1:
                tables.append(layer_by_head(self.results))
        if len(self.results) > 1:
            tables.append(dataclasses.replace(confusion_table(self.best), title=f"Confusion of {self._called}"))
        return tuple(table for table in tables if table.rows)

    @property
    def all_rows(self) -> Table:
        return summary_table(self.results)

    @property
    def panels(self) -> tuple[Panel, ...]:
        """The training of networks; heads have none."""
        return training_panels([(result.config.network_label, result) for result in self.results])

    @property
    def title(self) -> str:
        return self.best.config.dataset

    @property
    def stem(self) -> str:
        """What a document of it would be called: 'run-mnist-<ten digits>'."""
        digest = sha256_json([result.digest for result in self.results])
        return f"run-{self.best.config.dataset}-{digest[:10]}"

    def body(self) -> dict[str, Any]:
        return {"rows": self.all_rows.records(), "results": [f"{result.stem}.json" for result in self.results]}


def _name(result: Result) -> str:
    return f"{result.config.network_label} on {result.config.layer}"
