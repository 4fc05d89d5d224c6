"""Completion as a person meets it: an interactive bash, keys typed, and what stands on the line after the tab."""

import os
import re
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("argcomplete", reason="needs the extra 'completion'")
pytestmark = pytest.mark.skipif(shutil.which("bash") is None or os.name != "posix", reason="needs bash")

from features.commands.completion import backbones  # noqa: E402


class Bash:
    """An interactive bash on a terminal of its own, with completion switched on."""

    def __init__(self, folder):
        import pty

        self.master, slave = pty.openpty()
        folders = [str(Path(sys.executable).parent), os.environ["PATH"]]
        environment = {**os.environ, "PATH": os.pathsep.join(folders), "PS1": "> ", "TERM": "dumb", "HOME": str(folder)}
        self.process = subprocess.Popen(
            ["bash", "--norc", "--noprofile", "-i"],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=environment,
            start_new_session=True,
        )
        os.close(slave)
        self.type("bind 'set bell-style none'; bind 'set enable-bracketed-paste off'; stty -echo; PS1='> '\n")
        self.type("eval \"$(activate-global-python-argcomplete --dest=-)\"; echo rea''dy\n")
        self.read_until("ready")

    def type(self, keys: str) -> None:
        os.write(self.master, keys.encode())

    def read_until(self, wanted: str, seconds: float = 30) -> str:
        """What the terminal shows up to the wanted text."""
        shown, end = "", time.monotonic() + seconds
        while not re.search(wanted, shown):
            assert time.monotonic() < end, f"no {wanted!r} in {shown!r}"
            if select.select([self.master], [], [], 0.2)[0]:
                shown += os.read(self.master, 4096).decode(errors="replace")
        return shown

    def completed(self, line: str) -> str:
        """The line as it stands after a tab, run as the argument of `echo`."""
        # To the beginning and to the end of the line: what was completed is shown, not run.
        self.type(f"{line}\t\x01echo '[' \x05 ']'\n")
        return re.search(r"\[ (\S.*?) ?\]", self.read_until(r"\[ \w.*\]\r"))[1]

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.master)


@pytest.fixture(scope="module")
def bash(tmp_path_factory):
    shell = Bash(tmp_path_factory.mktemp("shell"))
    yield shell
    shell.close()


@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("python -m classify pro", "python -m classify probe"),
        ("python -m classify --model svm logi", "python -m classify --model svm logistic"),
        ("python -m classify compare --forg", "python -m classify compare --forget-networks"),
        ("python -m classify probe --depth bl", "python -m classify probe --depth block"),
        ("python -m extract --dataset fash", "python -m extract --dataset fashion-mnist"),
        ("python -m extract --backbone wide_resnet101", "python -m extract --backbone wide_resnet101_2"),
        ("python -m features veri", "python -m features verify"),
        ("python -m classify nothing-of-th", "python -m classify nothing-of-th"),
    ],
)
def test_bash_completes(bash, typed, completed):
    assert bash.completed(typed) == completed


def test_the_backbones_offered_are_those_there_are():
    from features.families import SOURCES

    named = {name for source in SOURCES if not source.prefix for name in source.load().names()}
    assert set(backbones()) == named | {source.prefix for source in SOURCES if source.prefix}


@pytest.mark.parametrize("line", ["python -m classify --backbone resn", "python -m classify compare --models sv"])
def test_completing_imports_neither_torch_nor_numpy(line):
    script = (
        "import functools, os, sys, argcomplete\n"
        "reading, writing = os.pipe(); os.dup2(writing, 8)\n"
        "def ended(status):\n"
        "    print(os.read(reading, 999).decode())\n"
        "    sys.exit(status or bool({'torch', 'numpy', 'sklearn'} & set(sys.modules)))\n"
        "argcomplete.autocomplete = functools.partial(argcomplete.autocomplete, exit_method=ended)\n"
        f"from {line.split()[2]}.__main__ import main; main([])\n"
    )
    asked = {"_ARGCOMPLETE": "3", "COMP_LINE": line, "COMP_POINT": str(len(line))}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=os.environ | asked)
    assert done.returncode == 0, done.stderr
    assert {"resnet18", "svm"} & set(done.stdout.split())
