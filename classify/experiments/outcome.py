"""What an experiment found, as values: sentences, notes, tables and panels, and the document that is kept of them.

`classify.show` paints these values; an experiment only says what there is.
"""

import abc
import html
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from classify.measure.outcome import plain_json
from classify.show.figures import panels_figure, save_figure
from classify.show.panels import Panel
from classify.show.table import Table, markdown_text
from features.notes import write_json


class Outcome(abc.ABC):
    """The outcome of a probe, a comparison or a study; subclasses are frozen dataclasses.

    question: what was asked, as plain values. notes: what was left out, and how to read it. folder: where results and
    figures are kept. table_first: what people came for is the table, and the sentences are the last word.
    """

    FORMAT: ClassVar[str]
    VERSION: ClassVar[int] = 1
    table_first: ClassVar[bool] = False

    question: dict[str, Any]
    notes: tuple[str, ...]
    folder: Path

    @property
    @abc.abstractmethod
    def sentences(self) -> tuple[str, ...]:
        """The answer, the first sentence what people came for."""

    if TYPE_CHECKING:  # fields of some, computed by others: a dataclass would take a property for a field's default

        @property
        def tables(self) -> tuple[Table, ...]:
            """What is shown with it, the most important first."""

        @property
        def panels(self) -> tuple[Panel, ...]:
            """What is drawn."""

    @property
    def all_rows(self) -> Table:
        """The table that `--csv` writes."""
        return self.tables[0]

    @property
    @abc.abstractmethod
    def title(self) -> str:
        """What stands above the figure."""

    @property
    @abc.abstractmethod
    def stem(self) -> str:
        """What its files are called, without an ending."""

    @abc.abstractmethod
    def body(self) -> dict[str, Any]:
        """What the document holds beside question, answer and notes."""

    def plot(self, path: Path | str | None = None) -> Any:
        """The matplotlib figure, written to `path` if given: its ending says how, and without one both PNG and SVG are
        written. UserError where matplotlib is not installed."""
        figure = panels_figure(self.title, self.panels)
        if path is not None:
            save_figure(figure, path)
        return figure

    def to_json(self) -> dict[str, Any]:
        """Everything as plain values; results are named by their records, which hold predictions and environment."""
        shared = {"format": self.FORMAT, "version": self.VERSION, "question": self.question, "notes": self.notes}
        return plain_json({**shared, "answer": self.sentences, **self.body()}, self.FORMAT)

    def save(self) -> None:
        """Keep the document in its folder."""
        write_json(self.folder / f"{self.stem}.json", self.to_json())

    def to_csv(self) -> str:
        """All rows with full numbers."""
        return self.all_rows.to_csv()

    def to_markdown(self) -> str:
        """The answer, the notes and the tables."""
        sentences = " ".join(map(markdown_text, self.sentences))
        notes = "\n".join(f"- {markdown_text(note)}" for note in self.notes)
        return "\n\n".join(self._ordered(sentences, notes, [table.to_markdown() for table in self.tables])) + "\n"

    def __str__(self) -> str:
        notes = "\n".join(f"note: {note}" for note in self.notes)
        return "\n\n".join(self._ordered("\n".join(self.sentences), notes, list(map(str, self.tables))))

    def _repr_html_(self) -> str:
        def paragraphs(*lines: str) -> str:
            return "".join(f"<p>{html.escape(line)}</p>" for line in lines)

        notes = paragraphs(*(f"note: {note}" for note in self.notes))
        return "".join(self._ordered(paragraphs(*self.sentences), notes, [table.to_html() for table in self.tables]))

    def _ordered(self, sentences: str, notes: str, tables: list[str]) -> list[str]:
        parts = [*tables, notes, sentences] if self.table_first else [sentences, notes, *tables]
        return [part for part in parts if part]
