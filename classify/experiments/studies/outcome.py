"""What a study found: an answer in words, tables, panels of a figure, and the records behind every number."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from classify.experiments.outcome import Outcome
from classify.measure.choice import best_of
from classify.measure.environment import this_environment
from classify.measure.outcome import plain_json
from classify.measure.results import SavedResult
from classify.show.panels import Panel
from classify.show.table import Table
from features.digests import sha256_json


@dataclass(frozen=True, eq=False, repr=False)
class StudyResult(Outcome):
    """What `layerprobe.study` found.

    Attributes
    ----------
    study : str
        Its name.
    answer : tuple of str
        Sentences, the first what people came for.
    tables : tuple of Table
    panels : tuple of Panel
        Of the figure.
    results : tuple of SavedResult
        The records of all rows, which hold predictions and environment.
    """

    FORMAT: ClassVar[str] = "layerprobe study"

    study: str
    question: dict[str, Any]
    answer: tuple[str, ...]
    tables: tuple[Table, ...]
    panels: tuple[Panel, ...]
    notes: tuple[str, ...]
    results: tuple[SavedResult, ...]
    folder: Path

    @property
    def best(self) -> SavedResult | None:
        """Of its rows the one best on validation; None where it kept none."""
        return best_of(self.results, lambda saved: [saved.result]) if self.results else None

    @property
    def best_saved(self) -> SavedResult | None:
        return self.best

    @property
    def sentences(self) -> tuple[str, ...]:
        return self.answer

    @cached_property
    def stem(self) -> str:
        """What its record is called: 'study-data-size-mnist-<ten digits>'."""
        digest = sha256_json([plain_json(self.question), [saved.result.digest for saved in self.results]])
        return f"study-{self.study}-{self.question['dataset'].split(':')[0]}-{digest[:10]}"

    @property
    def title(self) -> str:
        asked = self.question
        size = f", {asked['image_size']} px" if asked.get("image_size") else ""
        return f"{self.study}: {asked['dataset']}, {asked['backbone']}{size}"

    def body(self) -> dict[str, Any]:
        return {
            "study": self.study,
            "tables": [table.to_json() for table in self.tables],
            "panels": [panel.to_json() for panel in self.panels],
            "results": [saved.path.name for saved in self.results],
            "environment": this_environment(),
        }
