"""Folders and files that this user may not write, or not even read: one line says so, and nothing is lost by it."""

import contextlib
import ctypes
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

from tests.faults.bench import EXTRACT, LATER, Bench, Process, differences, features_of, one_line
from tests.faults.tally import Tally, fault

_CAPABILITIES_3 = 0x20080522
_READ_ONLY, _CLOSED = (0o555, 0o444), (0o000, 0o000)


@fault("folders that may not be written, or not read (permissions)", short=8, long=48)
def no_permission(bench: Bench, tally: Tally, count: int) -> None:
    if os.geteuid() == 0 and not hasattr(ctypes.CDLL(None), "capset"):
        tally.skipped = "root may write everywhere, and this system cannot have it otherwise"
        return
    while tally.tried < count:
        _one_round(bench, tally)


def _one_round(bench: Bench, tally: Tally) -> None:
    place = bench.place("forbidden")
    results = ("--results", str(bench.place("elsewhere") / "results"))
    process = bench.start(place, "extract", *EXTRACT)
    time.sleep(bench.random.uniform(0, bench.extracted.seconds))
    process.send(signal.SIGKILL)
    process.wait()
    partly = features_of(place)

    def run(verb: str, *arguments: str) -> Process:
        return bench.run(place, verb, *arguments, first=_powerless)

    def refused(process: Process) -> str:
        return one_line(process, "error: ") or ("" if process.status == 2 else f"status {process.status}")

    with _modes(place / "home", *_READ_ONLY):
        process = run("extract", *EXTRACT)
        done = partly == bench.extracted.content
        tally.count([process.complained if done else refused(process), differences(partly, features_of(place))])
    again = run("extract", *EXTRACT)
    tally.count([again.complained if again.status else "", differences(bench.extracted.content, features_of(place))])

    with _modes(place / "home", *_READ_ONLY):
        # What is complete stays usable.
        for verb, arguments in (("classify", (*EXTRACT, "--model", "ridge", *results)), ("features", ("verify",))):
            process = run(verb, *arguments)
            tally.count(f"{verb}: {process.complained}" if process.status else "")
        for verb, arguments in (("extract", (*EXTRACT[:-2], LATER)), ("features", ("remove", "--all"))):
            tally.count(refused(run(verb, *arguments)))
    with _modes(place, *_READ_ONLY):
        tally.count(refused(run("classify", *EXTRACT, "--model", "ridge")))
    for closed in (place / "home" / "features", place / "home"):
        with _modes(closed, *_CLOSED):
            tally.count(refused(run("classify", *EXTRACT, "--model", "ridge", *results)))
    lost = differences(bench.extracted.content, features_of(place))
    if lost:
        tally.count(lost)


def _powerless() -> None:
    """Give up what lets root write and read everywhere: it is then the owner of its files, and no more."""
    if os.geteuid() == 0:
        header, none = (ctypes.c_uint32 * 2)(_CAPABILITIES_3, 0), (ctypes.c_uint32 * 6)()
        if ctypes.CDLL(None, use_errno=True).capset(header, none):
            raise OSError(ctypes.get_errno(), "capset")


@contextlib.contextmanager
def _modes(folder: Path, folders: int, files: int) -> Iterator[None]:
    """Give everything in a folder, and itself, other permissions for a while."""
    before = {path: path.stat().st_mode for path in (folder, *folder.rglob("*"))}
    for path in reversed(before):
        path.chmod(folders if path.is_dir() else files)
    try:
        yield
    finally:
        for path, mode in before.items():
            path.chmod(mode)
