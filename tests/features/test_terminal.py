"""What comes from outside (labels, paths, records) is shown on the terminal and steers it nowhere."""

import io
import re
import sys
from pathlib import Path

import pytest

from classify.show.table import Column, Table, show
from features.commands import speaking
from features.commands.options import run_command
from features.errors import UserError

ROOT = Path(__file__).parents[2]
# Clears the screen; names the window; turns the order of letters; begins a line anew; C1's own introducer.
STEERING = ("\x1b[2J", "\x1b]0;owned\x07", "\u202eevil", "fine\rforged", "\x9b2J", "\u2028next", "\x7f", "\x00")


class _Terminal(io.StringIO):
    def isatty(self):
        return True


def _steers(text: str) -> bool:
    # What rich itself writes: colours, and nothing else.
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text)
    return bool(re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u2028\u2029]", plain))


@pytest.mark.parametrize("name", STEERING)
def test_no_name_steers_the_terminal(capsys, name):
    for speak in (speaking.say, speaking.tell, speaking.put, speaking.complain):
        speak(f"cats{name}.png")
    told = capsys.readouterr()
    assert not _steers(told.out) and not _steers(told.err)
    assert told.out.count("\n") == told.err.count("\n") == 2
    assert "cats" in told.out


@pytest.mark.parametrize("name", STEERING)
def test_no_complaint_steers_the_terminal(capsys, name):
    def fail(arguments):
        raise UserError(f"no such file: {name}")

    def fail_of_the_system(arguments):
        raise OSError(2, "No such file", f"{name}.png")

    for command in (fail, fail_of_the_system):
        assert run_command(command, []) == 2
        told = capsys.readouterr().err
        assert not _steers(told) and told.count("\n") == 1


@pytest.mark.parametrize("stream", [io.StringIO, _Terminal])
@pytest.mark.parametrize("name", STEERING)
def test_no_table_steers_the_terminal(monkeypatch, stream, name):
    monkeypatch.setenv("TERM", "xterm")
    out = stream()
    table = Table(f"title {name}", (Column("a", f"{name}"), Column(f"b{name}")), ((name, 1),), (f"note {name}",))
    show(f"line {name}", table, stream=out)
    assert "title" in out.getvalue() and not _steers(out.getvalue())


@pytest.mark.parametrize("text", ["Käse, 猫, кот, 😀", "a\tb\nc", "no\xa0break", "½ ± × →"])
def test_letters_are_left_alone(text):
    assert speaking.printable(text) == text


def test_bytes_that_are_no_text_are_shown_by_their_numbers():
    assert speaking.printable("caf\udce9.png") == "caf\\udce9.png"


def test_predictions_as_csv_steer_no_terminal(monkeypatch):
    from classify.commands.predict import _opened

    monkeypatch.setattr(sys, "stdout", _Terminal())
    with _opened("-") as stream:
        stream.write("\x1b[2J.png,cats\n")
    assert sys.stdout.getvalue() == "\\x1b[2J.png,cats\n"
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    with _opened("-") as stream:
        stream.write("\x1b[2J.png,cats\n")
    assert sys.stdout.getvalue() == "\x1b[2J.png,cats\n", "other programs are given what it is"


def test_nothing_is_printed_past_the_one_function():
    sources = [path for room in ("features", "extract", "classify") for path in (ROOT / room).rglob("*.py")]
    printing = {path.name for path in sources if re.search(r"(?<![\w.])print\(", path.read_text("utf-8"))}
    assert printing == {"speaking.py", "table.py"}
