"""Where an outcome is written besides the results folder: `--json`, `--csv`, `--markdown`, and the figure."""

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from features.commands.options import Add
from features.commands.speaking import say
from features.errors import UserError


def add_output_options(add: Add) -> None:
    """The three options; `add` is a section's."""
    add("--json", metavar="PATH", help="write everything as JSON")
    add("--csv", metavar="PATH", help="write all rows as CSV")
    add("--markdown", metavar="PATH", help="write the answer and the tables as Markdown")


def check_outputs(options: argparse.Namespace) -> None:
    """UserError, before anything is computed, for a path in a folder that is not there."""
    for path in (options.json, options.csv, options.markdown):
        if path is not None and not Path(path).absolute().parent.is_dir():
            raise UserError(f"{path}: there is no folder {Path(path).parent}; make it, or name another place")


def show_outcome(answer: Iterable[str], result: Any) -> None:
    """Print the answer first, then the notes and the tables of what was found."""
    from classify.show.table import show

    for line in answer:
        show(line)
    for note in result.notes:
        show(f"note: {note}")
    for table in result.tables:
        print()
        show(table)
    say()


def write_outputs(options: argparse.Namespace, result: Any) -> None:
    """Write what was asked for, and say where."""
    from features.digests import write_json

    if options.json is not None:
        write_json(Path(options.json), result.to_json())
    for path, text in ((options.csv, result.to_csv), (options.markdown, result.to_markdown)):
        if path is not None:
            Path(path).write_text(text(), encoding="utf-8")
    written = [str(path) for path in (options.json, options.csv, options.markdown) if path is not None]
    if written:
        say(f"written: {', '.join(written)}")


def write_figure(result: Any) -> None:
    """Draw what the result plots beside its record, and say where; without matplotlib say what is missing."""
    from classify.show.figures import save_figure

    try:
        figures = save_figure(result.plot(), result.folder / result.stem)
    except UserError as error:
        say(f"no figure: {error}")
    else:
        say(f"figure: {' and '.join(map(str, figures))}")
    say(f"kept in {result.folder}: {result.stem}.json and a record of every row")
