"""Being told to stop: SIGTERM and SIGHUP end a command as Ctrl-C does, by an exception on which everything is put down.

The system's own way would end the process where it stands: nothing would be lost, but nothing said and nothing closed.
"""

import contextlib
import signal
import threading
from collections.abc import Iterator

_SIGNALS = ("SIGTERM", "SIGHUP")


class Stopped(KeyboardInterrupt):
    """The process was told to stop by the signal of this number."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def status_of(stop: KeyboardInterrupt) -> int:
    """The exit status that shells know for it: 128 and the signal's number."""
    return 128 + getattr(stop, "number", signal.SIGINT)


@contextlib.contextmanager
def told_to_stop() -> Iterator[None]:
    """Let the signals raise `Stopped` inside the block, where nobody else handles or ignores them (as `nohup` does)."""
    unhandled = []
    if threading.current_thread() is threading.main_thread():
        numbers = [getattr(signal, name) for name in _SIGNALS if hasattr(signal, name)]
        unhandled = [number for number in numbers if signal.getsignal(number) is signal.SIG_DFL]
    for number in unhandled:
        signal.signal(number, _stop)
    try:
        yield
    finally:
        for number in unhandled:
            signal.signal(number, signal.SIG_DFL)


def _stop(number: int, frame: object) -> None:
    raise Stopped(number)
