"""The short form of `python -m tests.faults`: a few attempts of every fault, and nothing may be lost.

One process does them all, as the long form does: it must have torch loaded and nothing computed when it forks.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import tests.faults.every  # noqa: F401 - registers them
from tests.faults.tally import FAULTS


@pytest.fixture(scope="module")
def tallies(tmp_path_factory) -> dict[str, dict]:
    """What came of every fault."""
    folder = tmp_path_factory.mktemp("faults")
    command = [sys.executable, "-m", "tests.faults", "--short", "--json", str(folder / "told"), "--folder", str(folder)]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode in (0, 1), done.stderr
    return json.loads((folder / "told").read_text())


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", [name for name, fault in FAULTS.items() if fault.short])
def test_nothing_is_lost(tallies, name):
    tally = tallies[name]
    if tally["skipped"]:
        pytest.skip(tally["skipped"])
    assert tally["lost"] == []
    assert tally["tried"] == tally["survived"] >= FAULTS[name].short
