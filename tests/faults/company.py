"""Several processes that want the same at once: one works, the others wait and use its result."""

import os
import re
import shutil
import signal
import time

from tests.faults.bench import EXTRACT, Bench, Process, differences, features_of
from tests.faults.tally import Tally, fault

_IMAGES = re.compile(r"^(train|test): ([\d,]+) images in", re.MULTILINE)
_WANTED = {"train": 90, "test": 40}


@fault("two processes that extract the same at once", short=1, long=20)
def two_at_once(bench: Bench, tally: Tally, count: int) -> None:
    _together(bench, tally, count, 2)


@fault("eight processes that extract the same at once", short=1, long=10)
def eight_at_once(bench: Bench, tally: Tally, count: int) -> None:
    _together(bench, tally, count, 8)


def _together(bench: Bench, tally: Tally, count: int, many: int) -> None:
    for _ in range(count):
        place = bench.place("together")
        processes = [bench.start(place, "extract", *EXTRACT) for _ in range(many)]
        losses = [each.complained for each in processes if each.wait() != 0]
        losses.append(differences(bench.extracted.content, features_of(place)))
        losses.append(_double_work(processes))
        left = [path.name for path in (place / "home" / "features").iterdir() if path.suffix not in (".h5", ".json")]
        tally.count([*losses, f"left behind: {left}" if left else ""])
        shutil.rmtree(place)


@fault("the process that works is killed, and one that waits takes over", short=1, long=25)
def holder_killed(bench: Bench, tally: Tally, count: int) -> None:
    carried = 0
    for _ in range(count):
        place = bench.place("holder")
        holder = bench.start(place, "extract", *EXTRACT)
        while not list((place / "home" / "features").glob("*.partial")) and _alive(holder):
            time.sleep(0.002)
        others = [bench.start(place, "extract", *EXTRACT) for _ in range(2)]
        time.sleep(bench.random.uniform(0, bench.extracted.seconds / 2))
        holder.send(signal.SIGKILL)
        holder.wait()
        losses = [each.complained for each in others if each.wait() != 0]
        losses.append(differences(bench.extracted.content, features_of(place)))
        losses.append(_double_work(others, most=True))
        carried += sum(images for images in _images(others).values()) < sum(_WANTED.values())
        tally.count(losses)
        shutil.rmtree(place)
    tally.remarks.append(f"in {carried} the one that took over had less to compute than everything")


def _alive(process: Process) -> bool:
    if process.status is None:
        pid, raw = os.waitpid(process.pid, os.WNOHANG)
        process.status = os.waitstatus_to_exitcode(raw) if pid else None
    return process.status is None


def _images(processes: list[Process]) -> dict[str, int]:
    """For each split the images that the processes computed, all together."""
    computed = dict.fromkeys(_WANTED, 0)
    for process in processes:
        for split, images in _IMAGES.findall(process.said):
            computed[split] += int(images.replace(",", ""))
    return computed


def _double_work(processes: list[Process], most: bool = False) -> str:
    computed = _images(processes)
    fits = all(computed[split] <= wanted if most else computed[split] == wanted for split, wanted in _WANTED.items())
    return "" if fits else f"computed {computed} images in place of {_WANTED}"
