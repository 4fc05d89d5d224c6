"""Start-up: a cached `classify --model ridge` from the shell to the printed result, and what of it is importing.

Nothing is extracted: the features must be in the cache (`python -m extract`). What is importing is what Python says of
each module (`-X importtime`), which is wall seconds, and so left out where the clock is the processor's.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator

from tests.benchmarks.contest import Contender, Outcome, compete, timed


def add_options(parser: argparse.ArgumentParser) -> None:
    """Which command."""
    add = parser.add_argument
    add("--model", default="ridge")
    add("--dataset", default="mnist")
    add("--weights", default="default")
    add("--layer", default="avgpool")
    add("--image-size", type=int)
    add("--clock", default="wall", choices=("wall", "cpu"), help="cpu: seconds of all threads, on a busy machine")


def measure(options: argparse.Namespace) -> Iterator[Outcome]:
    """One contest: the whole command, and importing alone."""
    arguments = ["--model", options.model, "--dataset", options.dataset, "--weights", options.weights]
    arguments += ["--layer", options.layer, "--again"]
    if options.image_size:
        arguments += ["--image-size", str(options.image_size)]
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        arguments += ["--results", folder]
        clock = timed if options.clock == "wall" else _processor_seconds
        contenders = [
            Contender("the whole command", clock(lambda: _run(["-m", "classify", *arguments]))),
            Contender("numpy and scikit-learn alone", clock(lambda: _run(["-c", "import numpy, sklearn.base"]))),
        ]
        if options.clock == "wall":
            contenders.append(Contender("its imports", lambda: _importing(["-m", "classify", *arguments])))
        yield compete(
            f"classify --model {options.model}, cached, {options.clock} seconds",
            contenders,
            amount=1,
            unit="runs",
            rounds=options.rounds,
        )


def _run(arguments: list[str]) -> None:
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _importing(arguments: list[str]) -> float:
    """Seconds that the modules themselves took, summed."""
    done = subprocess.run([sys.executable, "-X", "importtime", *arguments], check=True, capture_output=True, text=True)
    lines = (line.split("import time:", 1)[1] for line in done.stderr.splitlines() if line.startswith("import time:"))
    return sum(int(own) for own in (line.split("|")[0] for line in lines) if own.strip().isdigit()) / 1e6


def _processor_seconds(work: Callable[[], None]) -> Callable[[], float]:
    """A turn that is the processor's seconds of the processes that `work` starts."""

    def turn() -> float:
        before = os.times()
        work()
        after = os.times()
        return after.children_user + after.children_system - before.children_user - before.children_system

    return turn
