"""How much a command says: `--quiet` leaves the answer and errors, `--verbose` adds what was decided and found.

`Parser` sets it once for the process; commands speak through these functions rather than `print`. What a command is
run for (tables, predictions, a listing) is printed whatever was asked.
"""

import contextlib
import sys
import threading
import warnings
from collections.abc import Iterator
from typing import TextIO

from features.commands.program import as_typed

QUIET, NORMAL, VERBOSE = -1, 0, 1

_loudness = NORMAL
_told: set[str] = set()
_here = threading.local()  # .heard: the lines of this thread that are for another process to say


def set_loudness(level: int) -> None:
    """QUIET, NORMAL or VERBOSE, from now on."""
    global _loudness
    _loudness = level


def is_quiet() -> bool:
    """Whether only the answer is wanted."""
    return _loudness < NORMAL


def is_verbose() -> bool:
    """Whether everything is wanted."""
    return _loudness > NORMAL


def say(line: object = "") -> None:
    """How it is going, on the standard output, unless quiet."""
    _print(line, sys.stdout)


def tell(line: object) -> None:
    """How it is going, on the standard error, unless quiet: for commands whose output is read by others."""
    _print(line, sys.stderr)


def tell_once(line: str) -> None:
    """The same for what a process comes upon again and again."""
    if _lines_heard() is not None:
        tell(line)  # who hears it knows whether it was told
    elif line not in _told:
        _told.add(line)
        tell(line)


@contextlib.contextmanager
def heard() -> Iterator[list[str]]:
    """Meanwhile what this thread says and tells is put into a list, each line once: work done for another process is
    spoken of by that one, which people look at."""
    lines: list[str] = []
    _here.heard = lines
    try:
        yield lines
    finally:
        del _here.heard


@contextlib.contextmanager
def decoders_unheard() -> Iterator[None]:
    """Meanwhile what Pillow warns of goes unsaid: it is told with the file's name, where a data set is looked at."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        yield


def detail(line: object) -> None:
    """What only the curious want, on the standard error, if verbose."""
    if is_verbose():
        print(as_typed(line), file=sys.stderr, flush=True)


def _lines_heard() -> list[str] | None:
    return getattr(_here, "heard", None)


def _print(line: object, stream: TextIO) -> None:
    if (lines := _lines_heard()) is not None:
        lines += [] if (text := str(line)) in lines else [text]
    elif not is_quiet():
        print(as_typed(line), file=stream, flush=True)
