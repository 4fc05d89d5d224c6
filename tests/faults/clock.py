"""Clocks that jump, and files whose times say that nothing changed."""

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from tests.faults.bench import EXTRACT, NETWORK, TRAIN_SMALL, Bench, differences, features_of, results_of
from tests.faults.damage import npz_of_digits
from tests.faults.tally import Tally, fault

_YEAR = 365 * 86400


@fault("a clock that jumps back and forth while extract and training run", short=1, long=20)
def jumping_clock(bench: Bench, tally: Tally, count: int) -> None:
    jobs = [("extract", EXTRACT, bench.extracted, features_of)]
    if count > 1:
        jobs.append(("classify", TRAIN_SMALL, bench.trained_small, results_of))
    for number in range(count):
        verb, arguments, unbroken, look = jobs[number % 2]
        place = bench.place("clock")
        process = bench.run(place, verb, *arguments, first=_jumping(bench.random.random()))
        tally.count([process.complained if process.status else "", differences(unbroken.content, look(place))])
        shutil.rmtree(place)


@fault("files with times of the past, the future and of before they changed", short=3, long=30)
def misleading_times(bench: Bench, tally: Tally, count: int) -> None:
    place = bench.place("times")
    data = place / "data.npz"
    images = npz_of_digits(data)
    command = ("--dataset", f"npz:{data}", *NETWORK[2:])
    first = bench.run(place, "extract", *command)
    made = features_of(place)
    whole = data.read_bytes()
    for number in range(count):
        before = data.stat()
        if number % 3 == 2:
            # Changed in place, with the old size, and the old times put back: only the values tell.
            at = whole.index(images.tobytes()) + bench.random.randrange(images.nbytes)
            data.write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
            os.utime(data, ns=(before.st_atime_ns, before.st_mtime_ns))
            process = bench.run(place, "extract", *command)
            found = process.status == 2 and str(data) in process.complained
            tally.count(
                [
                    first.complained if first.status else "",
                    "" if found else "the change was not seen",
                    _same(made, place),
                ]
            )
            data.write_bytes(whole)
            os.utime(data, ns=(before.st_atime_ns, before.st_mtime_ns))
            continue
        for path in (data, *(place / "home").rglob("*")):
            if path.is_file():
                away = time.time() + (_YEAR if number % 3 else -_YEAR) * bench.random.random()
                os.utime(path, (away, away))
        process = bench.run(place, "extract", *command)
        again = "computed again" if " images in " in process.said else ""
        tally.count([process.complained if process.status else "", again, _same(made, place)])


def _same(made: dict[str, str], place: Path) -> str:
    return differences(made, features_of(place))


def _jumping(start: float) -> Callable[[], None]:
    """Have the process see a clock that leaps by up to a year at each look."""

    def first() -> None:
        leap = [start]
        real, real_ns = time.time, time.time_ns

        def offset() -> float:
            leap[0] = leap[0] * 16807 % 1 if leap[0] else 0.5
            return (2 * leap[0] - 1) * _YEAR

        time.time = lambda: real() + offset()
        time.time_ns = lambda: real_ns() + int(offset() * 1e9)

    return first
