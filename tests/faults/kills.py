"""`kill -9`, SIGINT and SIGTERM at random moments: the same bytes in the end, and one line where one can be said."""

import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

from tests.faults.bench import (
    EXTRACT,
    TRAIN,
    TRAIN_SMALL,
    Bench,
    Unbroken,
    differences,
    features_of,
    one_line,
    results_of,
)
from tests.faults.tally import Tally, fault


@fault("kill -9 at random moments of extract", short=3, long=100)
def extract_killed(bench: Bench, tally: Tally, count: int) -> None:
    _struck(bench, tally, count, signal.SIGKILL, ("extract", EXTRACT, bench.extracted, features_of))


@fault("kill -9 at random moments of network training (a small network)", short=1, long=100)
def training_killed(bench: Bench, tally: Tally, count: int) -> None:
    _struck(bench, tally, count, signal.SIGKILL, ("classify", TRAIN_SMALL, bench.trained_small, results_of))


@fault("kill -9 at random moments of fine-tuning layer4 of ResNet18", short=0, long=10)
def finetuning_killed(bench: Bench, tally: Tally, count: int) -> None:
    _struck(bench, tally, count, signal.SIGKILL, ("classify", TRAIN, bench.trained, results_of))


@fault("SIGINT (Ctrl-C) at random moments of extract", short=1, long=40)
def extract_interrupted(bench: Bench, tally: Tally, count: int) -> None:
    _struck(bench, tally, count, signal.SIGINT, ("extract", EXTRACT, bench.extracted, features_of))


@fault("SIGTERM at random moments of extract", short=1, long=40)
def extract_terminated(bench: Bench, tally: Tally, count: int) -> None:
    _struck(bench, tally, count, signal.SIGTERM, ("extract", EXTRACT, bench.extracted, features_of))


@fault("SIGINT and SIGTERM at random moments of network training", short=2, long=30)
def training_interrupted(bench: Bench, tally: Tally, count: int) -> None:
    job = ("classify", TRAIN_SMALL, bench.trained_small, results_of)
    _struck(bench, tally, count // 2, signal.SIGINT, job)
    _struck(bench, tally, count - count // 2, signal.SIGTERM, job)


Job = tuple[str, tuple[str, ...], Unbroken, Callable[[Path], dict[str, str]]]


def _struck(bench: Bench, tally: Tally, count: int, number: int, job: Job) -> None:
    """Strike `count` runs; each place is carried on, struck again and again, until it is finished, and compared."""
    if not count:
        return
    count += tally.tried
    verb, arguments, unbroken, look = job
    place, struck = bench.place("struck"), []
    carried = missed = 0
    while True:
        enough = tally.tried + len(struck) >= count and struck
        if missed > 20:
            tally.count("twenty runs ended before they were struck")
            break
        process = bench.start(place, verb, *arguments)
        if not enough:
            time.sleep(bench.random.uniform(0, unbroken.seconds))
            process.send(number)
        process.wait()
        if process.status == -number:
            struck.append("")
        elif process.status == 128 + number and number != signal.SIGKILL:
            struck.append(one_line(process, "stopped"))
        elif process.status == 0:
            lost = differences(unbroken.content, look(place))
            for complaint in struck:
                tally.count([complaint, lost])
            carried += len(struck) > 1
            missed = 0 if struck else missed + 1
            shutil.rmtree(place)
            place, struck = bench.place("struck"), []
            if tally.tried >= count:
                break
        else:
            struck.append(f"status {process.status}: {process.complained.strip()[-600:]!r}")
            if len([complaint for complaint in struck if complaint]) > 3:
                for complaint in struck:
                    tally.count([complaint or "never finished"])
                break
    tally.remarks.append(f"{carried} runs were struck more than once before they finished")
