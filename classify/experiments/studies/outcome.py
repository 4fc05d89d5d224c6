"""What a study found: an answer in words, tables, panels of a figure, and the records behind every number."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from classify.measure.environment import this_environment
from classify.measure.outcome import plain_json
from classify.measure.results import SavedResult
from classify.show.panels import Panel, panels_figure
from classify.show.table import Table, markdown_text
from features.digests import sha256_json, write_json

FORMAT = "layerprobe study"
VERSION = 1


@dataclass(frozen=True, eq=False)
class StudyResult:
    """The outcome of one study.

    study: its name. question: what was asked, as plain values. answer: sentences, the first what people came for.
    notes: what was cut and how to read it. results: the records of all rows, which hold predictions and environment.
    """

    study: str
    question: dict[str, Any]
    answer: tuple[str, ...]
    tables: tuple[Table, ...]
    panels: tuple[Panel, ...]
    notes: tuple[str, ...]
    results: tuple[SavedResult, ...]
    folder: Path

    @cached_property
    def stem(self) -> str:
        """What its record is called: 'study-data-size-mnist-<ten digits>'."""
        digest = sha256_json([plain_json(self.question), [saved.result.digest for saved in self.results]])
        return f"study-{self.study}-{self.question['dataset'].split(':')[0]}-{digest[:10]}"

    def plot(self) -> Any:
        """The figure; UserError where matplotlib is not installed."""
        asked = self.question
        size = f", {asked['image_size']} px" if asked.get("image_size") else ""
        return panels_figure(f"{self.study}: {asked['dataset']}, {asked['backbone']}{size}", self.panels)

    def save(self) -> None:
        """Keep it in its folder."""
        write_json(self.folder / f"{self.stem}.json", self.to_json())

    def __str__(self) -> str:
        notes = (f"note: {note}" for note in self.notes)
        return "\n".join([*self.answer, *notes, *(f"\n{table}" for table in self.tables)])

    def to_markdown(self) -> str:
        """The answer, the notes and the tables."""
        notes = ["\n".join(f"- {markdown_text(note)}" for note in self.notes)] if self.notes else []
        answer = " ".join(map(markdown_text, self.answer))
        return "\n\n".join([answer, *notes, *(table.to_markdown() for table in self.tables)]) + "\n"

    def to_csv(self) -> str:
        """The first table with full numbers."""
        return self.tables[0].to_csv()

    def to_json(self) -> dict[str, Any]:
        """Everything as plain values; `results` name the records."""
        body = {
            "format": FORMAT,
            "version": VERSION,
            "study": self.study,
            "question": self.question,
            "answer": self.answer,
            "notes": self.notes,
            "tables": [table.to_json() for table in self.tables],
            "panels": [panel.to_json() for panel in self.panels],
            "results": [saved.path.name for saved in self.results],
            "environment": this_environment(),
        }
        return plain_json(body, "study")
