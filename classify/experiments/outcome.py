"""What an experiment found, as values: sentences, notes, tables and panels, and the document that is kept of them.

`classify.show` paints these values; an experiment only says what there is.
"""

import abc
import html
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from classify.measure.outcome import Predictions, plain_json
from classify.measure.results import SavedResult
from classify.show.figures import draw_into, panels_figure, save_figure
from classify.show.panels import Panel
from classify.show.table import Table, markdown_text
from features.errors import UserError
from features.notes import write_json


class Outcome(abc.ABC):
    """The outcome of a probe, a comparison or a study: it shows itself in a line, as tables, and as a figure.

    Subclasses are frozen dataclasses. `str(outcome)` gives sentences, notes and tables; a notebook shows them as
    HTML.

    Attributes
    ----------
    question : dict
        What was asked, as plain values.
    sentences : tuple of str
        The answer, the first sentence what people came for.
    notes : tuple of str
        What was left out, and how to read it.
    tables : tuple of Table
        The most important first.
    folder : Path
        Where results and figures are kept.
    table_first : bool
        Whether the table is what people came for, and the sentences the last word.
    kept : str
        What stands in the folder beside its document.
    """

    FORMAT: ClassVar[str]
    VERSION: ClassVar[int] = 1
    table_first: ClassVar[bool] = False
    kept: ClassVar[str] = "a record of every row"

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

    @property
    def best_saved(self) -> SavedResult | None:
        """The result best on validation as it stands in the folder; None where there is none."""
        return getattr(getattr(self, "best", None), "saved", None)

    @property
    def predictions(self) -> Predictions:
        """What the row best on validation predicts for the test images.

        Returns
        -------
        Predictions
            `rows`, `labels` and `predicted`, int64 (N,), and `probabilities`, float32 (N, K), or None.

        Raises
        ------
        UserError
            Where that is not saved.
        """
        if (saved := self.best_saved) is None:
            raise UserError(f"{self.title}: no result of it stands in {self.folder}, so there are no predictions")
        return saved.predictions()

    def plot(self, path: Path | str | None = None, *, ax: Any = None) -> Any:
        """Draw the outcome.

        Parameters
        ----------
        path : path, optional
            Write the figure there: its ending says how, and without one both PNG and SVG are written.
        ax : Axes or array of Axes, optional
            Draw there. What has several panels takes as many, and draws the first in one alone.

        Returns
        -------
        matplotlib.figure.Figure, or `ax` where that is given

        Raises
        ------
        UserError
            Where matplotlib is not installed, or there is nothing to draw.
        """
        if ax is not None:
            return draw_into(ax, self.title, self.panels)
        figure = panels_figure(self.title, self.panels)
        if path is not None:
            save_figure(figure, path)
        return figure

    def to_pandas(self) -> Any:
        """All rows with full numbers.

        Returns
        -------
        pandas.DataFrame
            Accuracies between 0 and 1, times in seconds.

        Raises
        ------
        UserError
            Where pandas is not installed.
        """
        return self.all_rows.to_pandas()

    def to_latex(self) -> str:
        """The most important table as LaTeX, for the package booktabs."""
        return self.tables[0].to_latex()

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

    def __repr__(self) -> str:
        words = textwrap.shorten(" ".join(self.sentences[:2]), 240, placeholder=" …")
        return f"<{type(self).__name__} {self.title.splitlines()[0]}: {words}>"

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
