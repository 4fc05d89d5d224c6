"""What an outcome comes to on the command line: shown, and written beside the results folder where one asks for it."""

import argparse
import dataclasses
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from features.commands.options import Add
from features.commands.program import program
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


def present(outcome: "Outcome", whole: str = "") -> None:
    """Print the tables, the most important last, then notes and, below all, the answer: where a terminal is read.

    whole: where all of it stands.
    """
    from classify.show.table import show

    for table in reversed(outcome.tables):
        show(dataclasses.replace(table, whole=whole), "")
    show(*(f"note: {note}" for note in outcome.notes), *outcome.sentences)


def deliver(options: argparse.Namespace, outcome: "Outcome") -> None:
    """Write what was asked for and the figure and say where all of it is, then show what was found and what is next."""
    _write(options, outcome)
    if outcome.panels:
        _draw(outcome)
    record = outcome.folder / f"{outcome.stem}.json"
    say(f"saved in {outcome.folder}: {record.name} and a record of every row")
    say()
    present(outcome, options.csv or str(record))
    say_next(options)


def say_next(options: argparse.Namespace, *, layers: bool = False) -> None:
    """The command to try next: after a quick answer the whole one, else the report of all results; layers: which layer
    is best has not been asked yet, and is the next question."""
    words = shlex.split(options.command_line)
    if "--quick" in words:
        say(f"next, the whole of it: {shlex.join(word for word in words if word != '--quick')}")
        return
    names = ["results"]
    if layers:
        names = ["dataset", "backbone", "weights", "image_size", "limit", "limit_test", "results"]
    given = {name: f"--{name.replace('_', '-')}" for name in names}
    same = [
        word for name, option in given.items() if option in options.given for word in (option, getattr(options, name))
    ]
    words = [
        *program("classify probe" if layers else "classify report").split(),
        *(["--quick"] if layers else []),
        *same,
    ]
    say(f"next: {shlex.join(map(str, words))}")


def _write(options: argparse.Namespace, outcome: "Outcome") -> None:
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
