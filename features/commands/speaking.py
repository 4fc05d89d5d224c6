"""How much a command says: `--quiet` leaves the answer and errors, `--verbose` adds what was decided and found.

`Parser` sets it once for the process; commands speak through these functions and never through `print`, since labels,
paths and records come from anybody and could steer the terminal: what `printable` lets through is all that reaches it.
"""

import sys
import unicodedata
from typing import TextIO

QUIET, NORMAL, VERBOSE = -1, 0, 1

_loudness = NORMAL
_told: set[str] = set()


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
    if not is_quiet():
        put(line)


def tell(line: object) -> None:
    """How it is going, on the standard error, unless quiet: for commands whose output is read by others."""
    if not is_quiet():
        complain(line)


def tell_once(line: str) -> None:
    """The same for what a process comes upon again and again."""
    if line not in _told:
        _told.add(line)
        tell(line)


def detail(line: object) -> None:
    """What only the curious want, on the standard error, if verbose."""
    if is_verbose():
        complain(line)


def _print(line: object, stream: TextIO | None) -> None:
    if stream is not None:  # it may have been closed
        print(printable(line), file=stream, flush=True)
