"""Contenders in processes of their own: set up once, then one turn for each line on their input.

So libraries that cannot live together (other versions of torch, another number of threads) alternate all the same. A
served program is a file that calls `serve(turn)`; it needs nothing but its own interpreter's packages.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any


class Served:
    """A program that takes turns when told; use as a context."""

    def __init__(self, program: Path, options: dict[str, Any], python: str = sys.executable, path: str = "") -> None:
        """path: where the program finds its modules; by default ours, for our own interpreter."""
        ours = str(Path.cwd()) if python == sys.executable else ""
        environment = {**os.environ, "PYTHONPATH": path or ours}
        self.name = program.stem
        self._process = subprocess.Popen(
            [python, str(program), json.dumps(options)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        self.told = self._answer()

    def clocked(self, clock: str) -> Callable[[], float]:
        """A contender's turn, by the clock 'wall' or 'cpu'."""
        return lambda: self.ask()[{"wall": "seconds", "cpu": "processor"}[clock]]

    def ask(self) -> dict[str, Any]:
        """One turn and all that the program says of it: `seconds`, `processor` seconds, and its own."""
        self._process.stdin.write("turn\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        # Libraries print what they like; an answer is a line that begins as none of theirs does.
        for line in self._process.stdout:
            if line.startswith("served "):
                return json.loads(line.removeprefix("served "))
        raise RuntimeError(f"{self.name} ended with status {self._process.wait()} instead of taking its turn")

    def __enter__(self) -> "Served":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._process.stdin.close()
        self._process.wait()


def serve(turn: Callable[[], dict[str, Any] | None], **told: Any) -> None:
    """In the program: say that it is set up, then take a turn for each line until the input ends."""
    print("served " + json.dumps(told), flush=True)
    for _ in sys.stdin:
        started, spent = time.perf_counter(), processor_seconds()
        said = turn() or {}
        spent, seconds = processor_seconds() - spent, time.perf_counter() - started
        print("served " + json.dumps({"seconds": seconds, "processor": spent, **said}), flush=True)


def processor_seconds() -> float:
    """Of all threads of this process, and of its processes that have ended (a DataLoader's, after each epoch)."""
    return sum(os.times()[:4])
