"""How far a whole is: its share, the time left, and where it is shown."""

import itertools
import sys
import types

import pytest
import rich.progress  # noqa: F401  # keeps the clock that it finds when it is imported: not a test's

from features.commands import progress
from features.commands.progress import Course, course, going, row_progress
from features.commands.speaking import NORMAL, QUIET, set_loudness


@pytest.fixture(autouse=True)
def as_loud_as_usual():
    yield
    set_loudness(NORMAL)


def _terminal(monkeypatch):
    """What is written to standard error, which is a terminal from here on."""
    drawn = []

    class Terminal:
        encoding = "utf-8"

        def isatty(self):
            return True

        def write(self, text):
            drawn.append(text)
            return len(text)

        def flush(self):
            pass

    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setattr(sys, "stderr", Terminal())
    return drawn


def test_time_left_follows_from_what_is_done(monkeypatch):
    now = 100.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    whole = Course("probe")
    whole.expect(10)
    assert whole.seconds_left() is None and whole.share == 0 and str(whole) == "probe: 0%"
    now = 108.0
    whole.advance(4)
    assert whole.share == pytest.approx(0.4)
    assert whole.seconds_left() == pytest.approx(12)
    now = 113.0
    assert whole.seconds_left() == pytest.approx(7), "between two steps it counts down, and never up"
    now = 121.0
    assert whole.seconds_left() is None and str(whole) == "probe: 40%"
    whole.expect(-2)  # of these a result was there already
    assert whole.seconds_left(now=108) == pytest.approx(8)
    whole.advance(100)
    assert whole.share == 1 and whole.seconds_left() == 0


def test_what_was_there_already_does_not_make_the_rest_seem_faster():
    whole = Course("compare")
    whole.expect(10)
    began = whole.started
    whole.expect(-6)
    assert whole.started >= began and whole.expected == 4 and whole.done == 0


def test_where_all_is_there_already_no_share_is_shown(monkeypatch):
    """A rerun whose results are all saved expects nothing: it stood at 0 % to its end."""
    screen = _terminal(monkeypatch)
    with course("probe") as whole:
        whole.expect(3)
        whole.expect(-3)
    with course("probe") as whole:
        pass
    assert "probe" in "".join(screen) and "%" not in "".join(screen)


def test_outside_a_course_nothing_is_shown_and_nothing_breaks(capsys):
    going().expect(3)
    going().advance(1)
    with course("probe", "auto") as whole:
        assert going() is whole and not whole.is_bar
        whole.expect(2)
        whole.advance(1)
    assert going() is not whole and capsys.readouterr() == ("", "")


@pytest.mark.parametrize(("show", "quiet", "lines"), [("on", False, 2), ("on", True, 0), ("off", False, 0)])
def test_in_a_log_there_is_a_line_now_and_then_if_asked_for(capsys, monkeypatch, show, quiet, lines):
    monkeypatch.setattr(progress, "_EVERY", 0.0)
    monkeypatch.setattr(progress.time, "monotonic", itertools.count().__next__)
    set_loudness(QUIET if quiet else NORMAL)
    with course("probe", show) as whole:
        whole.expect(4)
        whole.advance(1)
        whole.advance(1)
    said = capsys.readouterr().err.splitlines()
    assert len(said) == lines
    assert all(line.startswith("probe: ") and line.endswith(" left") for line in said)


def test_on_a_terminal_one_set_of_bars_serves_the_whole_and_its_parts(monkeypatch):
    drawn = _terminal(monkeypatch)
    now = 100.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    with course("probe") as whole:
        assert whole.is_bar
        whole.expect(2)
        with row_progress() as advance:
            advance("train", 1, 10)
            advance("train", 5, 10)
        now += 20
        whole.advance(1, "1/2")
    text = "".join(drawn)
    assert "probe" in text and "50%" in text and "about 20 s left" in text
    assert progress._bars is None


def test_a_notebook_shows_one_bar_that_goes_when_it_is_done(monkeypatch):
    shown = []

    class Handle:
        def update(self, value):
            shown.append(value)

    def display(value, display_id):
        shown.append(value)
        return Handle()

    module = types.ModuleType("IPython.display")
    module.HTML, module.display = str, display
    package = types.ModuleType("IPython")
    package.display, package.get_ipython = module, lambda: types.SimpleNamespace(kernel=object())
    monkeypatch.setitem(sys.modules, "IPython", package)
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    now = 100.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    for took in 9, 20:
        with course("probe", "auto") as whole:
            whole.expect(2)
            now += took
            whole.advance(1)
        if took < 10:
            assert shown == []
    bar = '<progress value="0.500" max="1"></progress> probe: 50%, about 20 s left'
    assert shown == [bar, ""]
