"""The place where faults happen: homes and results in a folder of their own, and processes that do the product's work.

Processes are forked from this one, which has loaded torch and computed nothing, so that a run takes well under a
second; they are processes as the system knows them, and are killed as such. What they compute is tiny: scikit-learn's
digits at 32 pixels through a SqueezeNet with random weights.
"""

import contextlib
import hashlib
import importlib
import json
import os
import pickle
import random
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from sklearn.datasets import load_digits

import classify.__main__ as classify
import extract.__main__ as extract
from extract import one_pass
from features.commands import cache
from features.commands.options import run_command

for _module in (
    "classify.commands.run",
    "classify.experiments.making",
    "classify.heads.network.classifier",
    "classify.show.tables",
    "extract.commands.ensure",
    "h5py",
    "safetensors.torch",
    "skops.io",
    "sklearn.linear_model",
    "sklearn.metrics",
    "torch._dynamo",
    "torch.fx.experimental.symbolic_shapes",
    "torch.optim",
):
    # What a run imports on its way is there already: a process costs what it computes.
    with contextlib.suppress(ImportError):
        importlib.import_module(_module)
load_digits()

COMMANDS = {"extract": extract.main, "classify": classify.main, "features": cache.main}
NETWORK = ("--dataset", "digits", "--weights", "random", "--image-size", "32", "--backbone", "squeezenet1_1")
LAYER, EARLIER, LATER = "features.3", "features.2", "features.5"
EXTRACT = (*NETWORK, "--limit", "90", "--limit-test", "40", "--layer", LAYER, "avgpool")
TRAIN = (*NETWORK[:6], "--limit", "60", "--limit-test", "20", "--model", "finetune", "--unfreeze", "layer4")
TRAIN = (*TRAIN, "--epochs", "3", "--batch-size", "32", "--train-precision", "float32")
# Megabytes less to write than TRAIN: for what is about files, not about training.
TRAIN_SMALL = (*NETWORK, "--limit", "60", "--limit-test", "20", "--model", "convnet", "--epochs", "3")
TRAIN_SMALL = (*TRAIN_SMALL, "--batch-size", "32", "--train-precision", "float32")
# Long, for a machine on which others may have processes stand still for minutes.
LIMIT = 900.0
_TOLD = (signal.SIGINT, signal.SIGTERM)


@dataclass
class Process:
    """A forked process; its output stands in files."""

    pid: int
    folder: Path
    status: int | None = None

    def wait(self, limit: float = LIMIT) -> int:
        """The exit status, negative for a signal; a process that hangs is killed and gives -1000."""
        ends = time.monotonic() + limit
        while self.status is None:
            pid, raw = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.status = os.waitstatus_to_exitcode(raw)
            elif time.monotonic() > ends:
                self.send(signal.SIGKILL)
                os.waitpid(self.pid, 0)
                self.status = -1000
            else:
                time.sleep(0.002)
        return self.status

    def send(self, number: int) -> None:
        """Send a signal; one that has ended takes none."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    @property
    def said(self) -> str:
        """Its standard output."""
        return (self.folder / "out").read_text(errors="replace")

    @property
    def complained(self) -> str:
        """Its standard error."""
        return (self.folder / "err").read_text(errors="replace")


class Bench:
    """A folder to work in, a seeded source of random moments, and the unbroken runs to compare with."""

    def __init__(self, folder: Path, seed: int = 0) -> None:
        self.folder = folder
        self.random = random.Random(seed)
        self._count = 0
        # Blocks are recorded as soon as they are written: a pass of a second has as many moments as one of an hour.
        one_pass._SECONDS_BETWEEN_COMMITS = 0.0

    def place(self, name: str) -> Path:
        """A new folder with an empty home in it."""
        self._count += 1
        place = self.folder / f"{name}-{self._count}"
        (place / "home").mkdir(parents=True)
        return place

    def start(self, place: Path, verb: str, *arguments: str, first: Callable[[], None] | None = None) -> Process:
        """Run a command in a process of its own, in `place`; `first` is called in it before anything else."""

        def main(options: Sequence[str]) -> int | None:
            # Signals of which a command makes a line reach it from its first step to its last, and not the fork.
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _TOLD)
            try:
                return COMMANDS[verb](options)
            finally:
                signal.pthread_sigmask(signal.SIG_BLOCK, _TOLD)

        def act() -> int:
            if first:
                first()
            return run_command(main, [str(each) for each in arguments])

        return self._fork(place, act)

    def run(self, place: Path, verb: str, *arguments: str, first: Callable[[], None] | None = None) -> Process:
        """The same, waited for."""
        process = self.start(place, verb, *arguments, first=first)
        process.wait()
        return process

    def call(self, place: Path, function: Callable[[], Any]) -> Any:
        """What a function gives in a process of its own; RuntimeError with its traceback where it raises."""
        answer = place / "answer"
        answer.unlink(missing_ok=True)

        def act() -> int:
            answer.write_bytes(pickle.dumps(function()))
            return 0

        process = self._fork(place, act)
        if process.wait() != 0:
            raise RuntimeError(f"status {process.status}\n{process.complained}")
        return pickle.loads(answer.read_bytes())

    def _fork(self, place: Path, act: Callable[[], int]) -> Process:
        self._count += 1
        folder = self.folder / f"output-{self._count}"
        folder.mkdir(parents=True)
        sys.stdout.flush()
        sys.stderr.flush()
        signal.pthread_sigmask(signal.SIG_BLOCK, _TOLD)
        pid = os.fork()
        if pid:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _TOLD)
            return Process(pid, folder)
        status = 70
        try:
            for descriptor, name in ((1, "out"), (2, "err")):
                os.dup2(os.open(folder / name, os.O_CREAT | os.O_WRONLY), descriptor)
            os.environ["LAYERPROBE_HOME"] = str(place / "home")
            os.chdir(place)
            torch.set_num_threads(1)
            # Shells start what runs in the background with Ctrl-C ignored, and children inherit that.
            signal.signal(signal.SIGINT, signal.default_int_handler)
            status = act()
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)

    @cached_property
    def extracted(self) -> "Unbroken":
        """What an unbroken extraction gives."""
        return self._unbroken("extract", EXTRACT, features_of)

    @cached_property
    def trained(self) -> "Unbroken":
        """What an unbroken training gives."""
        return self._unbroken("classify", TRAIN, results_of)

    @cached_property
    def trained_small(self) -> "Unbroken":
        """What an unbroken training of the small network gives."""
        return self._unbroken("classify", TRAIN_SMALL, results_of)

    def _unbroken(self, verb: str, arguments: Sequence[str], look: Callable[[Path], dict[str, str]]) -> "Unbroken":
        found = []
        for _ in range(2):
            place = self.place("unbroken")
            started = time.monotonic()
            process = self.run(place, verb, *arguments)
            if process.status:
                raise RuntimeError(f"an unbroken {verb} fails: {process.complained}")
            found.append((look(place), time.monotonic() - started))
            shutil.rmtree(place)
        if found[0][0] != found[1][0]:
            raise RuntimeError(f"two unbroken runs of {verb} differ: {differences(found[0][0], found[1][0])}")
        return Unbroken(found[0][0], min(seconds for _, seconds in found))


@dataclass(frozen=True)
class Unbroken:
    """Digests of what a run leaves, by name, and the seconds that it took."""

    content: dict[str, str]
    seconds: float


def features_of(place: Path) -> dict[str, str]:
    """The SHA-256 of every complete file of the cache in a place."""
    return {path.name: _sha256(path.read_bytes()) for path in (place / "home" / "features").glob("*.h5")}


def results_of(place: Path) -> dict[str, str]:
    """What a training leaves that must not depend on how it went: weights, predictions, metrics."""
    found = {}
    for path in sorted((place / "results").rglob("*")):
        if path.suffix in (".npz", ".safetensors"):
            found[path.name] = _sha256(path.read_bytes())
        elif path.parent.name == "results" and path.suffix == ".json":
            result = json.loads(path.read_text())["result"]
            kept = {name: result[name] for name in ("config", "metrics", "validation_accuracy", "rows", "chosen")}
            found[path.name] = _sha256(json.dumps(kept, sort_keys=True).encode())
    return found


def differences(expected: dict[str, str], found: dict[str, str]) -> str:
    """In words: which names differ; nothing where none does."""
    names = sorted(name for name in {*expected, *found} if expected.get(name) != found.get(name))
    return f"{len(names)} differ: {', '.join(names)}" if names else ""


def one_line(process: Process, *beginnings: str) -> str:
    """In words, what is wrong with a complaint that should be one line with one of these beginnings."""
    lines = process.complained.strip().splitlines()
    if len(lines) == 1 and lines[0].startswith(beginnings):
        return ""
    return f"status {process.status}, said {process.complained.strip()[-600:]!r}"


def flip(path: Path, at: int, bit: int) -> None:
    """Turn one bit of a file over."""
    with path.open("r+b") as stream:
        stream.seek(at)
        byte = stream.read(1)[0]
        stream.seek(at)
        stream.write(bytes([byte ^ (1 << bit)]))


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
