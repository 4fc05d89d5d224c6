"""How much a command says: `--quiet` leaves the answer and errors, `--verbose` adds what was decided and found.

`Parser` sets it once for the process; commands speak through these functions rather than `print`. What a command is
run for (tables, predictions, a listing) is printed whatever was asked.
"""

import sys
from collections.abc import Iterable

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


def say(line: object = "") -> None:
    """How it is going, on the standard output, unless quiet."""
    if not is_quiet():
        print(line, flush=True)


def tell(line: object) -> None:
    """How it is going, on the standard error, unless quiet: for commands whose output is read by others."""
    if not is_quiet():
        print(line, file=sys.stderr, flush=True)


def tell_once(line: str) -> None:
    """The same for what a process comes upon again and again."""
    if line not in _told:
        _told.add(line)
        tell(line)


def not_again(lines: Iterable[str]) -> None:
    """Take lines for told: what a command is asked for is its answer, and not told besides."""
    _told.update(lines)


def detail(line: object) -> None:
    """What only the curious want, on the standard error, if verbose."""
    if is_verbose():
        print(line, file=sys.stderr, flush=True)
