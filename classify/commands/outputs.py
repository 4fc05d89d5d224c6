"""What an outcome comes to on the command line: shown, and written beside the results folder where one asks for it."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from features.commands.options import Add
from features.commands.speaking import say
from features.errors import UserError

if TYPE_CHECKING:
    from classify.experiments.outcome import Outcome


def add_output_options(add: Add) -> None:
    """The three options; `add` is a section's."""
    add("--json", metavar="PATH", help="write everything as JSON")
    add("--csv", metavar="PATH", help="write all rows as CSV")
    add("--markdown", metavar="PATH", help="write the answer and the tables as Markdown")


def require_folders(*paths: str | None) -> None:
    """UserError, before anything is computed, for a path in a folder that is not there; None is no path."""
    for path in paths:
        if path is not None and not Path(path).absolute().parent.is_dir():
            raise UserError(f"{path}: there is no folder {Path(path).parent}; make it, or name another place")


def check_outputs(options: argparse.Namespace) -> None:
    """UserError where a file that was asked for could not be written."""
    require_folders(options.json, options.csv, options.markdown)


def present(outcome: "Outcome") -> None:
    """Print the answer first, then notes and tables; where people came for the table, that, and the notes."""
    from classify.show.table import show

    notes = [f"note: {note}" for note in outcome.notes]
    if outcome.table_first:
        show(*outcome.tables, *notes)
        return
    show(*outcome.sentences, *notes)
    for table in outcome.tables:
        show("", table)


def deliver(options: argparse.Namespace, outcome: "Outcome") -> None:
    """Show what was found, write what was asked for and the figure, and say where all of it is."""
    from classify.show.table import show

    present(outcome)
    say()
    write_outputs(options, outcome, say)
    if outcome.panels:
        _draw(outcome)
    say(f"kept in {outcome.folder}: {outcome.stem}.json and a record of every row")
    if outcome.table_first:
        show(*outcome.sentences)


def write_outputs(options: argparse.Namespace, outcome: "Outcome", say: Callable[[str], None]) -> None:
    """Write what was asked for, and say where it is."""
    from features.notes import write_json

    if options.json is not None:
        write_json(Path(options.json), outcome.to_json())
    for path, text in ((options.csv, outcome.to_csv), (options.markdown, outcome.to_markdown)):
        if path is not None:
            Path(path).write_text(text(), encoding="utf-8")
    if written := [path for path in (options.json, options.csv, options.markdown) if path is not None]:
        say(f"written: {', '.join(written)}")


def _draw(outcome: "Outcome") -> None:
    """The figure beside the record; without matplotlib what is missing."""
    from classify.show.figures import save_figure

    try:
        files = save_figure(outcome.plot(), outcome.folder / outcome.stem)
    except UserError as error:
        say(f"no figure: {error}")
    else:
        say(f"figure: {' and '.join(map(str, files))}")
