"""The short form of `python -m tests.fuzz`: every target with its seeds and a few hundred changed ones."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.__main__ import NAMES


@pytest.fixture(scope="module")
def tallies(tmp_path_factory) -> dict[str, dict]:
    """What was found, by target; each ran in a process of its own with bounded memory."""
    told = tmp_path_factory.mktemp("fuzz") / "told"
    command = [sys.executable, "-m", "tests.fuzz", "--inputs", "250", "--json", str(told)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2], env=environment)
    assert told.exists(), done.stderr
    return json.loads(told.read_text())


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", NAMES)
def test_nothing_crashes_hangs_or_runs(tallies, name):
    assert tallies[name]["findings"] == []
    assert tallies[name]["inputs"] >= 250
