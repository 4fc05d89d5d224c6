"""What an outcome comes to on the command line: shown, and written beside the results folder where one asks for it."""

import argparse
import dataclasses
import itertools
import json
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from features.commands.options import Add, add_shared
from features.commands.program import program
from features.commands.speaking import is_quiet, say
from features.datasets.catalogue import ARROW, READABLE
from features.errors import UserError
from features.home import user_path
from features.regular import read_regular
from features.written import is_as_written, is_special, text_written

if TYPE_CHECKING:
    from classify.experiments.outcome import Outcome


def add_output_options(add: Add) -> None:
    """The three options, and the one for replacing what stands there; `add` is a section's."""
    add("--json", metavar="PATH", help="write everything as JSON")
    add("--csv", metavar="PATH", help="write all rows as CSV")
    add("--markdown", metavar="PATH", help="write the answer and the tables as Markdown")
    add_shared(add, "--overwrite")


def check_outputs(options: argparse.Namespace, *names: str) -> None:
    """UserError, before anything is computed, where a file that an option of these names asks for cannot be written, or
    would take the place of what is no output: something that the command reads, a result, another output, or, without
    `--overwrite`, whatever no command of ours wrote there."""
    names = names or ("json", "csv", "markdown")
    outputs = {name: Path(value) for name in names if (value := getattr(options, name)) not in (None, "-")}
    for name, path in outputs.items():
        if not path.absolute().parent.is_dir():
            raise UserError(f"{path}: there is no folder {path.parent}; make it, or name another place")
        if path.is_dir():
            raise UserError(f"--{name} {path}: a folder is there; name a file")
    for (name, path), (other_name, other) in itertools.combinations(outputs.items(), 2):
        if _is_one(path, other) and not is_special(path):
            raise UserError(f"--{name} and --{other_name} are both {path}; name a file for each of them")
    read = tuple(_read_by(vars(options), names))
    for name, path in outputs.items():
        check_output(path, f"--{name} {path}", read, overwrite=options.overwrite)


def check_output(path: Path, called: str, read: Iterable[Path] = (), *, overwrite: bool = False) -> None:
    """The same for one path that may or may not be there; read: files and folders that the command reads."""
    if is_special(path) or not (path.exists() or path.is_symlink()):
        return
    ours = is_as_written(path)
    for place in read:
        if _is_one(path, place) or (not ours and place.is_dir() and _stands_below(path, place)):
            raise UserError(f"{called}: this command reads it, or from the folder that it is in; name another place")
    if _belongs_to_a_result(path):
        raise UserError(f"{called}: that is a part of a result, and nothing takes its place; name another place")
    if not ours and not overwrite:
        raise UserError(
            f"{called}: a file is there that was not written by this command, or was changed since; name another "
            "place, or give --overwrite"
        )


def _read_by(options: Mapping[str, Any], outputs: Iterable[str]) -> Iterator[Path]:
    """What stands at the paths that options other than outputs name, in data sets' names as well."""
    for name, value in options.items():
        # Outputs may stand among results, whose own files are looked at one by one.
        if name in (*outputs, "results", "given", "command_line", "save_config"):
            continue
        for text in value if isinstance(value, list | tuple) else [value]:
            if not isinstance(text, str):
                continue
            named = text.rpartition("=")[2]  # of weights, NAME=PATH
            for part in {text, named, *text.removeprefix(READABLE).partition(":")[2].split(ARROW)}:
                place = user_path(part.strip().partition("?")[0]) if part.strip() else None
                if place is not None and _exists(place):
                    yield place


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def _is_one(path: Path, other: Path) -> bool:
    """Whether two paths are or would be one file."""
    if path.exists() and other.exists():
        return path.samefile(other)
    return path.parent.resolve() / path.name == other.parent.resolve() / other.name


def _stands_below(path: Path, folder: Path) -> bool:
    return folder.resolve() in path.resolve().parents


def _belongs_to_a_result(path: Path) -> bool:
    """Whether a file is the record of a result, or stands beside one and bears its name."""
    try:
        record = json.loads(read_regular(path.with_suffix(".json")))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(record, dict) and record.get("format") == "layerprobe result"


def present(outcome: "Outcome", whole: str = "", *, listed: bool = False) -> None:
    """Print the tables, the most important last, then notes and, below all, the answer: where a terminal is read. Where
    it is quiet the answer alone.

    whole: where all of it stands. listed: a part of the answer is the first table, as it is of an outcome whose table
    people came for.
    """
    from classify.show.table import show

    tables, notes = outcome.tables, outcome.notes
    if is_quiet():
        tables, notes = tables[:1] if listed or outcome.table_first else (), ()
    for table in reversed(tables):
        show(dataclasses.replace(table, whole=whole), "")
    show(*(f"note: {note}" for note in notes), *outcome.sentences)


def deliver(options: argparse.Namespace, outcome: "Outcome", last: str = "") -> None:
    """Write what was asked for and the figure and say where all of it is, then show what was found and what is next.

    last: a line below the answer, as long as it is: a command is copied.
    """
    write_outputs(options, outcome, say)
    if outcome.panels:
        _draw(outcome)
    record = outcome.folder / f"{outcome.stem}.json"
    say(f"saved in {outcome.folder}: {record.name} and {outcome.kept}")
    say()
    present(outcome, options.csv or str(record))
    if last:
        say(last)
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
        names = ["dataset", "path_column", "label_column", "skip_unreadable", "backbone", "weights", "image_size"]
        names += ["crop_mode", "resize", "interpolation", "mean", "std", "decode", "limit", "limit_test", "results"]
    same: list[Any] = []
    for name in names:
        if (option := f"--{name.replace('_', '-')}") in options.given:
            value = getattr(options, name)
            same += [option, *([] if value is True else value if isinstance(value, list) else [value])]
    words = [
        *program("classify probe" if layers else "classify report").split(),
        *(["--quick"] if layers else []),
        *same,
    ]
    say(f"next: {shlex.join(map(str, words))}")


def write_outputs(options: argparse.Namespace, outcome: "Outcome", say: Callable[[str], None]) -> None:
    """Write what was asked for, and say where it is."""

    def as_json() -> str:
        return json.dumps(outcome.to_json(), indent=1, sort_keys=True, allow_nan=False)

    for path, text in ((options.json, as_json), (options.csv, outcome.to_csv), (options.markdown, outcome.to_markdown)):
        if path is not None:
            # One of the results may have got that name since.
            if _belongs_to_a_result(Path(path)):
                raise UserError(f"{path}: that is a part of a result now, and nothing takes its place; name another")
            with text_written(Path(path)) as stream:
                stream.write(text())
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
