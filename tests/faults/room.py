"""Disks that fill up while something is written, and folders that cannot be written at all."""

import contextlib
import os
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from tests.faults.bench import (
    EARLIER,
    EXTRACT,
    LATER,
    TRAIN_SMALL,
    Bench,
    differences,
    features_of,
    one_line,
    results_of,
)
from tests.faults.tally import Tally, fault

_SIZE = 256 << 20
_OF_ROOM = re.compile(r"is full|make room|No space")


@fault("the disk full in the middle of extract, and room made again", short=1, long=25)
def disk_full_extract(bench: Bench, tally: Tally, count: int) -> None:
    # A shallow layer first: that one file stands complete when the disk fills up under the others.
    before = (*EXTRACT[:-2], EARLIER)
    _fill_up(bench, tally, count, before, ("extract", EXTRACT, bench.extracted, features_of))


@fault("the disk full in the middle of network training, and room made again", short=1, long=15)
def disk_full_training(bench: Bench, tally: Tally, count: int) -> None:
    _fill_up(bench, tally, count, None, ("classify", TRAIN_SMALL, bench.trained_small, results_of))


def _fill_up(bench: Bench, tally: Tally, count: int, before: tuple[str, ...] | None, job: tuple) -> None:
    verb, arguments, unbroken, look = job
    with _own_disk(bench, tally) as disk:
        if disk is None:
            return
        refused = 0
        for number in range(count):
            place = disk / f"place-{number}"
            (place / "home").mkdir(parents=True)
            if before:
                bench.run(place, "extract", *before)
            complete = features_of(place)
            process = bench.start(place, verb, *arguments)
            time.sleep(bench.random.uniform(0, unbroken.seconds))
            _ballast(disk / "ballast")
            process.wait()
            losses = []
            if process.status:
                refused += 1
                losses.append("" if process.status == 2 else f"status {process.status}")
                losses.append(one_line(process, "error: "))
                losses.append("" if _OF_ROOM.search(process.complained) else "no word of it")
            for name in complete:
                verified = bench.run(place, "features", "verify", name)
                losses.append("" if verified.status == 0 else f"{name} cannot be read on a full disk")
            (disk / "ballast").unlink()
            again = bench.run(place, verb, *arguments)
            losses.append("" if again.status == 0 else f"not finished when there was room: {again.complained}")
            wanted = {**complete, **unbroken.content} if look is features_of else unbroken.content
            losses.append(differences(wanted, look(place)))
            tally.count([loss for loss in losses if loss][:3])
            subprocess.run(["rm", "-rf", str(place)], check=True)
        tally.remarks.append(f"{refused} of {count} runs met the full disk; the others had finished or needed no more")


@fault("folders that cannot be written", short=6, long=6)
def read_only(bench: Bench, tally: Tally, count: int) -> None:
    with _own_disk(bench, tally) as disk:
        if disk is None:
            return
        place = disk / "place"
        (place / "home").mkdir(parents=True)
        done = bench.run(place, "extract", *EXTRACT)
        elsewhere = bench.place("elsewhere")
        results = ("--results", str(elsewhere / "results"))
        head = (*EXTRACT, "--model", "ridge", *results)
        with _read_only(disk):
            # What is complete stays usable; plans that were never made before are made and not remembered.
            for verb, arguments in (("extract", EXTRACT), ("classify", head), ("features", ("verify",))):
                process = bench.run(place, verb, *arguments)
                tally.count("" if process.status == 0 else f"{verb}: {process.complained}")
            more = bench.run(place, "extract", *EXTRACT[:-2], LATER)
            tally.count(one_line(more, "error: ") or ("" if more.status == 2 else f"status {more.status}"))
            away = bench.run(place, "features", "remove", "--all")
            tally.count(one_line(away, "error: ") or ("" if away.status == 2 else f"status {away.status}"))
            here = bench.run(place, "classify", *EXTRACT, "--model", "ridge")
            tally.count(one_line(here, "error: ") or ("" if here.status == 2 else f"status {here.status}"))
        again = bench.run(place, "extract", *EXTRACT[:-2], LATER)
        lost = differences(bench.extracted.content, {k: v for k, v in features_of(place).items() if LATER not in k})
        tally.count([again.complained if again.status else "", lost, done.complained])


@contextlib.contextmanager
def _own_disk(bench: Bench, tally: Tally) -> Iterator[Path | None]:
    """A small file system of its own; None, with the reason in the tally, where none can be mounted."""
    disk = bench.place("disk")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={_SIZE}", "tmpfs", str(disk)], capture_output=True, text=True
    ) if os.geteuid() == 0 else None  # fmt: skip
    if mounted is None or mounted.returncode:
        reason = mounted.stderr.strip() if mounted else "only root mounts file systems"
        tally.skipped = f"needs a small file system of its own ({reason})"
        yield None
        return
    try:
        yield disk
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


@contextlib.contextmanager
def _read_only(disk: Path) -> Iterator[None]:
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    try:
        yield
    finally:
        subprocess.run(["mount", "-o", f"remount,rw,size={_SIZE}", str(disk)], check=True)


def _ballast(path: Path) -> None:
    """Fill a disk to the last block; what another process frees meanwhile is filled as well."""
    with path.open("ab") as stream:
        for size in (1 << 20, 4096, 4096):
            with contextlib.suppress(OSError):
                while True:
                    os.write(stream.fileno(), bytes(size))
