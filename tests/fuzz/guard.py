"""Bounds on one reading: memory, time, and no code run. What passes them in silence or as a UserError is fine."""

import contextlib
import os
import resource
import signal
from collections.abc import Callable
from pathlib import Path

from features.errors import UserError

MOST_SECONDS = 20
MOST_BYTES = 3 << 30
CANARY = "LAYERPROBE_FUZZ_CANARY"


class Finding(Exception):
    """A reading that crashed, hung, took too much or ran what was in the file."""


class _Hangs(BaseException):
    """Raised by the alarm; not an Exception, lest a reader take it for damage to the file."""


def bound_memory() -> None:
    """Let this process have `MOST_BYTES` more of address space than it has now."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + MOST_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (most, resource.getrlimit(resource.RLIMIT_AS)[1]))


def read_guarded(read: Callable[[], object]) -> None:
    """Read; Finding for anything but success or a UserError of one line."""
    signal.signal(signal.SIGALRM, _hangs)
    signal.alarm(MOST_SECONDS)
    try:
        read()
    except UserError as error:
        if "\n" in str(error):
            raise Finding(f"several lines: {error}") from error
    except _Hangs:
        raise Finding(f"took more than {MOST_SECONDS} s") from None
    except Exception as error:
        raise Finding(f"{type(error).__name__}: {error}") from error
    finally:
        signal.alarm(0)
    canary = os.environ.get(CANARY)
    if canary and Path(canary).exists():
        with contextlib.suppress(OSError):
            Path(canary).unlink()
        raise Finding("code in the file was run")


def _hangs(number: int, frame: object) -> None:
    raise _Hangs
