"""`kill -9`, SIGINT and SIGTERM at random moments: the same bytes in the end, and one line where one can be said."""

import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import torch

from classify.use.exporting import SUFFIXES, sidecar_of
from features.digests import sha256_file
from features.notes import read_json
from tests.faults.bench import (
    EXTRACT,
    NETWORK,
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


@fault("kill -9 at random moments of export, over an earlier file", short=3, long=100)
def export_killed(bench: Bench, tally: Tally, count: int) -> None:
    place = bench.place("exported")
    small = (*NETWORK[:6], "--limit", "60", "--limit-test", "20", "--layer", "avgpool", "--model")
    for head in ("ridge", "centroid"):
        bench.run(place, "classify", *small, head, "--results", head)
    seconds, made = {}, {}
    # Programs take torch's exporter seconds: they are one in four, and none of a few.
    forms = ("state-dict", "torch") if count >= 10 else ("state-dict",)
    for form in forms:
        path = place / f"network{SUFFIXES[form][0]}"
        for head in ("ridge", "centroid"):
            started = time.monotonic()
            if (process := bench.run(place, "classify", *_exporting(head, form, path))).status:
                raise RuntimeError(process.complained)
            seconds[form] = time.monotonic() - started
            made[form, head] = read_json(sidecar_of(path))["sha256"]
    for number in range(count):
        form, head = forms[-1 if number % 4 == 0 else 0], ("ridge", "centroid")[number // 4 % 2]
        path = place / f"network{SUFFIXES[form][0]}"
        process = bench.start(place, "classify", *_exporting(head, form, path))
        time.sleep(bench.random.uniform(0, 1.1 * seconds[form]))
        process.send(signal.SIGKILL)
        process.wait()
        digest = sha256_file(path, fresh=True)
        known = form == "torch" or digest in (made[form, "ridge"], made[form, "centroid"])
        losses = ["" if known else "the file is neither the old nor the new one"]
        if (sidecar := sidecar_of(path)).exists() and read_json(sidecar)["sha256"] != digest:
            losses.append("the sidecar is that of another file")
        if form == "torch" and (unread := bench.call(place, lambda path=path: _unread(path))):
            losses.append(unread)
        tally.count(losses)
    for form in forms:
        bench.run(place, "classify", *_exporting("ridge", form, place / f"network{SUFFIXES[form][0]}"))
    left = sorted(path.name for path in place.glob(".*"))
    tally.count(f"left behind: {left}" if left else "")


def _exporting(head: str, form: str, path: Path) -> tuple[str, ...]:
    return ("export", "--from", head, "--format", form, "--output", str(path), "--overwrite")


def _unread(path: Path) -> str:
    """Why an exported program cannot be read; '' where it can."""
    try:
        torch.export.load(path)
    except Exception as error:
        return f"the file in place cannot be read: {type(error).__name__}: {error}"
    return ""


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
