"""The answer to a search: the winner with its test, all trials, and what was not tried."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from classify.experiments.outcome import Outcome
from classify.experiments.search.grid import DIMENSIONS, Candidate
from classify.experiments.search.tables import rungs_table, trials_panel, trials_table
from classify.experiments.search.tried import Rung, Tried
from classify.measure.outcome import plain_json
from classify.measure.results import SavedResult
from classify.measure.wording import count, decimal, percent
from classify.show.panels import Panel
from classify.show.table import Table
from features.digests import sha256_json

MOST_NAMED = 6  # configurations that are as good as the best, in a sentence


@dataclass(frozen=True, eq=False, repr=False)
class SearchResult(Outcome):
    """What `layerprobe.search` found.

    Attributes
    ----------
    best : Tried
        The configuration to choose: `candidate` (image_size, layer, pool, head), `rows` and `trial`.
    saved : SavedResult
        Its result, fitted on all training rows and tested once.
    rungs : tuple of Rung
        The steps, each with its `tried`, the best first.
    equals : tuple of Tried
        Those that cannot be told apart from the best on what it was chosen on.
    untried : str
        What there was no time for, in a sentence; ''.
    command : str
        What makes the winner again, for a shell.
    """

    FORMAT: ClassVar[str] = "layerprobe search"
    kept: ClassVar[str] = "the winner's record, and below trials/ one of each trial"

    question: dict[str, Any]
    best: Tried
    saved: SavedResult
    rungs: tuple[Rung, ...]
    equals: tuple[Tried, ...]
    untried: str
    notes: tuple[str, ...]
    command: str
    folder: Path

    @property
    def best_saved(self) -> SavedResult | None:
        return self.saved

    @property
    def trials(self) -> tuple[Tried, ...]:
        """All trials, rung by rung, the best of each first."""
        return tuple(entry for rung in self.rungs for entry in rung.tried)

    @property
    def score(self) -> str:
        """What was chosen by."""
        return str(self.best.trial.config.score)

    @property
    def tables(self) -> tuple[Table, ...]:
        furthest: dict[Candidate, Tried] = {}
        for entry in (entry for rung in reversed(self.rungs) for entry in rung.tried):
            furthest.setdefault(entry.candidate, entry)
        return (
            trials_table(tuple(furthest.values()), self.score, shortened=True),
            *([rungs_table(self.rungs, self.score)] if len(self.rungs) > 1 else []),
        )

    @property
    def all_rows(self) -> Table:
        return trials_table(self.trials, self.score)

    @property
    def panels(self) -> tuple[Panel, ...]:
        return (trials_panel(self.rungs, self.score),) if len(self.rungs) > 1 else ()

    @property
    def title(self) -> str:
        config = self.saved.result.config
        return f"{config.dataset}, {config.backbone} ({config.weights})\nthe best of a search: {self.best.candidate}"

    @cached_property
    def digest(self) -> str:
        """64 hex digits of the question and of the trials that answer it."""
        return sha256_json([plain_json(self.question), [entry.trial.digest for entry in self.trials]])

    @property
    def stem(self) -> str:
        """What its files are called: 'search-usps-resnet18-<ten digits>'."""
        config = self.saved.result.config
        return f"search-{config.dataset}-{config.backbone}-{self.digest[:10]}"

    @property
    def sentences(self) -> tuple[str, ...]:
        result = self.saved.result
        metrics, (low, high) = result.metrics, result.metrics.accuracy_interval
        of_them = f"{count(len({entry.candidate for entry in self.trials}))} configurations"
        sentences = [
            f"Best of {of_them}: {self.best.candidate}, {self._reached(self.best)} on {count(self.best.rows)} training "
            "images, on which it was chosen.",
            f"Fitted on all {count(result.training_images)} and tested once: on {count(metrics.n)} test images it is "
            f"right on {percent(metrics.accuracy)} % (95 % interval {percent(low)} to {percent(high)}).",
            self._equals(),
            self.untried,
        ]
        return tuple(sentence for sentence in sentences if sentence)

    def body(self) -> dict[str, Any]:
        return {
            "digest": self.digest,
            # What the report shows of a study.
            "study": "search",
            "tables": [table.to_json() for table in self.tables],
            "panels": [panel.to_json() for panel in self.panels],
            "results": [self.saved.path.name],
            "best": {**_plain(self.best.candidate), "result": self.saved.path.name},
            "trials": self.all_rows.records(),
            "rungs": rungs_table(self.rungs, self.score).records(),
            "equals": [_plain(entry.candidate) for entry in self.equals],
            "untried": self.untried,
            "command": self.command,
            "environment": self.saved.result.environment,
        }

    def _reached(self, entry: Tried) -> str:
        value = entry.score(self.score)
        if self.score == "log-loss":
            return f"log loss {decimal(value)}"
        return f"{percent(value)} %" if self.score == "accuracy" else f"{self.score} {percent(value)} %"

    def _equals(self) -> str:
        if not self.equals:
            return ""
        how = "corrected resampled t-test" if self.best.trial.config.on_folds else "McNemar's test"
        named = [f"{entry.candidate} ({self._reached(entry)})" for entry in self.equals[:MOST_NAMED]]
        more = f" and {count(len(self.equals) - MOST_NAMED)} more" if len(self.equals) > MOST_NAMED else ""
        return f"It cannot be told apart there ({how}, Holm's correction, 5 %) from {'; '.join(named)}{more}."


def _plain(candidate: Candidate) -> dict[str, Any]:
    return {dimension.name: getattr(candidate, dimension.name) for dimension in DIMENSIONS}
