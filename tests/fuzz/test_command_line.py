"""Words that nobody would type, in every order: each command ends with status 0 or 2, and complains in one line."""

import contextlib
import importlib
import io

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import classify.__main__ as classify
import extract.__main__ as extract
from features.commands import cache
from features.commands.options import run_command

ODD = st.sampled_from(
    ["", " ", "-", "--", "0", "-1", "1e9", "nan", str(10**30), "é", "\0", "a\nb", "../..", "~", "%s", "{}", "x" * 5000,
     "all", "+", "layer1+", "grid:0", "grid:-1", "folder:", "npz:", "digits", "random", "cpu", "avg", "@", "=", "a=b"]
)  # fmt: skip
WORDS = st.one_of(ODD, st.text(max_size=12), st.integers(-5, 500).map(str), st.floats().map(str))


def _options(module: str) -> list[str]:
    """Every option of a command, as its parser knows them."""
    parser = importlib.import_module(module)._parser()
    return [name for action in parser._actions for name in action.option_strings]


def _vectors(options: list[str]) -> st.SearchStrategy[list[str]]:
    option = st.sampled_from([name for name in options if name not in ("--save-config", "--list-layers")])
    part = st.one_of(
        st.tuples(option, WORDS).map(list),
        st.tuples(option, WORDS).map(lambda pair: ["=".join(pair)]),
        option.map(lambda name: [name]),
        WORDS.map(lambda word: [word]),
    )
    return st.lists(part, max_size=5).map(lambda parts: [word for each in parts for word in each])


def _hold(main, arguments: list[str]) -> None:
    said, told = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(told):
        try:
            status = run_command(main, arguments)
        except SystemExit as end:  # --help and --version
            status = end.code or 0
    assert status in (0, 2), (arguments, told.getvalue())
    if status == 2:
        lines = told.getvalue().strip().splitlines()
        assert [line for line in lines if line.startswith("error: ")] == lines[-1:], (arguments, told.getvalue())
        assert "Traceback" not in told.getvalue()


@pytest.fixture
def place(home, tmp_path, monkeypatch):
    """An empty home, and a working folder of its own."""
    monkeypatch.chdir(tmp_path)
    return home


QUICK = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)


@QUICK
@given(_vectors(_options("extract.__main__")))
def test_extract(place, arguments):
    # A data set that is not there comes last and wins: nothing is computed, whatever else is right.
    _hold(extract.main, [*arguments, "--dataset", "npz:absent.npz"])


# Each with what keeps it from working: a data set, records or images that are not there.
VERBS = {
    "run": ["--dataset", "npz:absent.npz"],
    "check": ["--dataset", "npz:absent.npz"],
    "probe": ["--dataset", "npz:absent.npz"],
    "compare": ["--dataset", "npz:absent.npz"],
    "predict": ["--from", "absent"],
    "export": ["--from", "absent"],
    "repeat": [],
    "report": ["--results", "absent"],
}


@pytest.mark.parametrize("verb", VERBS)
def test_classify(place, verb):
    options = _options(f"classify.commands.{verb}")

    @settings(QUICK, max_examples=15)
    @given(_vectors(options))
    def hold(arguments):
        _hold(classify.main, [verb, *arguments, *VERBS[verb]])

    hold()


@QUICK
@given(st.sampled_from(["list", "verify", "remove", "accept", "compact", "nothing"]), st.lists(WORDS, max_size=3))
def test_features(place, verb, arguments):
    (place / "features").mkdir(exist_ok=True)
    kept = place / "features" / "mine.h5"
    kept.write_text("mine")
    _hold(cache.main, [verb, *arguments])
    assert kept.read_text() == "mine"
