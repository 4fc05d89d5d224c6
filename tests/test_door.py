"""A system that cannot keep the files safe is told so at the door, in one line, and in the package's metadata."""

import configparser
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("module", ["features", "extract", "classify"])
def test_without_the_systems_locks_there_is_one_line_at_the_door(module):
    script = f"import runpy, sys; sys.modules['fcntl'] = None; runpy.run_module({module!r}, run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode != 0 and done.stdout == ""
    assert done.stderr.startswith("error: layerprobe runs on Linux and macOS") and done.stderr.count("\n") == 1
    assert "WSL" in done.stderr


@pytest.mark.parametrize("module", ["features", "extract", "classify"])
def test_on_a_mac_what_mps_lacks_is_left_to_the_processor_before_torch_is_loaded(module, monkeypatch):
    name = "PYTORCH_ENABLE_MPS_FALLBACK"
    script = f"""
import os, runpy, sys
sys.platform, sys.argv = "darwin", [{module!r}, "--no-such-option"]
try:
    runpy.run_module({module!r}, run_name="__main__")
except SystemExit:
    print("torch" in sys.modules, os.environ[{name!r}])
"""
    for given, there in (None, "1"), ("0", "0"):
        monkeypatch.delenv(name, raising=False) if given is None else monkeypatch.setenv(name, given)
        done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
        assert done.stdout.split() == ["False", there], done.stderr


def test_the_metadata_say_on_what_it_runs():
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    systems = {line for line in parser["metadata"]["classifiers"].split("\n") if line.startswith("Operating System")}
    assert systems == {"Operating System :: POSIX :: Linux", "Operating System :: MacOS"}
