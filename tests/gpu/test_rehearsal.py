"""What is run where there is a GPU has been run before: on the processor, small, and to the end."""

import json
import subprocess
import sys

import pytest
import torch


def test_without_a_gpu_nothing_is_checked_and_that_is_said():
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    done = subprocess.run([sys.executable, "-m", "tests.gpu"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "nothing was checked" in done.stdout


def test_the_checks_hold_on_the_processor(tmp_path):
    told = tmp_path / "told.json"
    command = [sys.executable, "-m", "tests.gpu", "--rehearse", "--seconds", "60", "--json", str(told)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert all(len(line) <= 100 for line in done.stdout.split("Speeds")[1].splitlines())
    said = json.loads(told.read_text())
    outcomes = {row["check"]: row["outcome"] for row in said["checks"]}
    assert set(outcomes.values()) <= {"holds", "left out"}
    assert [outcomes[name] for name in ("precisions", "heads", "extraction")] == ["holds"] * 3
    assert all(row["images/s"] is None or row["images/s"] > 0 for row in said["speeds"])
