"""How much a command says: `--quiet` leaves the answer and errors, `--verbose` adds what was decided and found.

`Parser` sets it once for the process; commands speak through these functions and never through `print`, since labels,
paths and records come from anybody and could steer the terminal: what `printable` lets through is all that reaches it.
"""

import contextlib
import logging
import sys
import threading
import unicodedata
import warnings
from collections.abc import Iterable, Iterator
from typing import TextIO

from features.commands.program import as_typed

QUIET, NORMAL, VERBOSE = -1, 0, 1

_loudness = NORMAL
_told: set[str] = set()
_deaf_threads = 0  # inside `decoders_unheard`
_filters, _filters_lock = contextlib.ExitStack(), threading.Lock()
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


@contextlib.contextmanager
def quiet(*loggers: str) -> Iterator[None]:
    """What others' code logs about failures is not said: as exceptions these arrive here."""
    before = {logger: logger.level for logger in map(logging.getLogger, loggers)}
    try:
        for logger in before:
            logger.setLevel(logging.CRITICAL)
        yield
    finally:
        for logger, level in before.items():
            logger.setLevel(level)


def printable(text: object) -> str:
    """A text of any origin, fit for a terminal: what steers one, or the order of letters, is shown by its number."""
    text = str(text)
    if text.isprintable():
        return text
    return "".join(sign if sign in "\n\t" or _is_letter(sign) else _numbered(sign) for sign in text)


def _is_letter(sign: str) -> bool:
    return unicodedata.category(sign) not in ("Cc", "Cf", "Cs", "Zl", "Zp")


def _numbered(sign: str) -> str:
    return sign.encode("unicode_escape").decode()


def put(line: object = "") -> None:
    """What a command is run for (predictions, a listing), on the standard output whatever was asked."""
    _print(line, sys.stdout)


def complain(line: object) -> None:
    """What went wrong, on the standard error whatever was asked."""
    _print(line, sys.stderr)


def say(line: object = "") -> None:
    """How it is going, on the standard output, unless quiet."""
    if not _is_heard(line) and not is_quiet():
        put(line)


def tell(line: object) -> None:
    """How it is going, on the standard error, unless quiet: for commands whose output is read by others."""
    if not _is_heard(line) and not is_quiet():
        complain(line)


def tell_once(line: str) -> None:
    """The same for what a process comes upon again and again."""
    if _lines_heard() is not None:
        tell(line)  # who hears it knows whether it was told
    elif line not in _told:
        _told.add(line)
        tell(line)


def not_again(lines: Iterable[str]) -> None:
    """Take lines for told: what a command is asked for is its answer, and not told besides."""
    _told.update(lines)


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
    """Meanwhile what Pillow warns of goes unsaid: it is told with the file's name, where a data set is looked at.

    Filters belong to the process, and a thread that put back those it found would bring back the warnings of another:
    the last thread to leave puts back what the first one found.
    """
    global _deaf_threads
    with _filters_lock:
        if not _deaf_threads:
            _filters.enter_context(warnings.catch_warnings())
            warnings.filterwarnings("ignore", module=r"PIL\.")
        _deaf_threads += 1
    try:
        yield
    finally:
        with _filters_lock:
            _deaf_threads -= 1
            if not _deaf_threads:
                _filters.close()


def detail(line: object) -> None:
    """What only the curious want, on the standard error, if verbose."""
    if is_verbose():
        complain(line)


def _lines_heard() -> list[str] | None:
    return getattr(_here, "heard", None)


def _is_heard(line: object) -> bool:
    """Whether somebody else takes the lines of this thread, and now has this one."""
    if (lines := _lines_heard()) is None:
        return False
    lines += [] if (text := str(line)) in lines else [text]
    return True


def _print(line: object, stream: TextIO | None) -> None:
    if stream is not None:  # it may have been closed
        print(printable(as_typed(line)), file=stream, flush=True)
