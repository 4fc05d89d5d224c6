"""SIGTERM, SIGHUP and Ctrl-C end a command with one line and the status that shells know."""

import os
import signal
import time

import pytest

from features.commands.options import run_command


@pytest.fixture
def answered(number):
    """The signal as a terminal has it, where a shell or nohup has made the tests ignore it."""
    before = signal.getsignal(number)
    signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    yield
    signal.signal(number, before)


@pytest.mark.parametrize(
    ("number", "status"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)],
    ids=lambda each: str(each),
)
def test_a_signal_is_answered_with_one_line(capsys, number, status, answered):
    put_down = []

    def main(arguments):
        try:
            os.kill(os.getpid(), number)
            time.sleep(5)
        finally:
            put_down.append(arguments)

    before = signal.getsignal(number)
    assert run_command(main, ["--all"]) == status
    told = capsys.readouterr().err
    assert told.startswith("stopped; ") and told.count("\n") == 1
    assert put_down == [["--all"]] and signal.getsignal(number) is before


def test_a_signal_that_someone_ignores_stays_ignored(monkeypatch):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert run_command(lambda arguments: os.kill(os.getpid(), signal.SIGHUP), []) == 0
    finally:
        signal.signal(signal.SIGHUP, before)
