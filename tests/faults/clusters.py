"""Clusters whose scheduler is killed, and workers that are not what they should be: a line, and nothing lost."""

import asyncio
import contextlib
import importlib.util
import json
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.faults.bench import EXTRACT, Bench, Process, differences, features_of, one_line
from tests.faults.tally import Tally, fault

# What a worker says of packages that are others than here.
_OTHERS = ({"layerprobe": "0.0.9"}, {"layerprobe": None}, {"torch": "1.0.0"}, {"scikit-learn": "0.1"}, {"numpy": "1.0"})
_LONGEST = 300.0


@fault("the scheduler of a cluster killed while its workers extract", short=2, long=15)
def scheduler_killed(bench: Bench, tally: Tally, count: int) -> None:
    if not _have_dask(tally):
        return
    seconds = 0.0
    for number in range(count):
        with _cluster(bench) as (place, scheduler):
            started = time.monotonic()
            process = bench.start(place, "extract", *EXTRACT, "--cluster", str(place / "scheduler.json"))
            if number:
                time.sleep(bench.random.uniform(0, seconds))
                scheduler.send(signal.SIGKILL)
            status = process.wait(_LONGEST)
            # The first run shows how long one takes.
            seconds = seconds or time.monotonic() - started
            lost = [] if number else [process.complained if status else ""]
            if status:
                lost.append(one_line(process, "error: ") or ("" if status == 2 else f"status {status}"))
        again = bench.run(place, "extract", *EXTRACT)
        compacted = bench.run(place, "features", "compact")
        lost += [other.complained for other in (again, compacted) if other.status]
        tally.count([*lost, differences(bench.extracted.content, features_of(place))])


@fault("a worker of another version, or with other packages", short=1, long=10)
def other_worker(bench: Bench, tally: Tally, count: int) -> None:
    if not _have_dask(tally):
        return
    for number in range(count):
        others = _OTHERS[number % len(_OTHERS)]
        with _cluster(bench, lambda others=others: _pretend(others)) as (place, _):
            process = bench.run(place, "extract", *EXTRACT, "--cluster", str(place / "scheduler.json"))
            lost = one_line(process, "error: ") or ("" if process.status == 2 else f"status {process.status}")
            made = "features were made all the same" if features_of(place) else ""
            named = "" if next(iter(others)) in process.complained else f"not named: {process.complained}"
            tally.count([lost, made, named])


def _have_dask(tally: Tally) -> bool:
    if importlib.util.find_spec("distributed") is None:
        tally.skipped = "needs pip install 'layerprobe[cluster]'"
    return not tally.skipped


@contextlib.contextmanager
def _cluster(bench: Bench, first: Callable[[], None] = lambda: None) -> Iterator[tuple[Path, Process]]:
    """A place with a cluster of two workers, the second of which calls `first` before anything else, and the process
    of its scheduler."""
    place = bench.place("cluster")
    processes = [bench._fork(place, lambda: asyncio.run(_schedule(place / "scheduler.json")))]
    address = _written(place / "scheduler.json")["address"]
    for number in range(2):

        def work(number: int = number) -> None:
            if number:
                first()
            asyncio.run(_work(address, place / f"worker-{number}"))

        processes.append(bench._fork(place, lambda work=work: work() or 0))
    for number in range(2):
        _written(place / f"worker-{number}")
    try:
        yield place, processes[0]
    finally:
        for process in processes:
            process.send(signal.SIGKILL)
            process.wait()


async def _schedule(path: Path) -> int:
    from distributed import Scheduler

    async with Scheduler(host="127.0.0.1", port=0, protocol="tcp", dashboard=False) as scheduler:
        _write(path, {"address": scheduler.address})
        await scheduler.finished()
    return 0


async def _work(address: str, path: Path) -> None:
    from distributed import Worker

    async with Worker(address, nthreads=1, dashboard=False, local_directory=str(path.parent)) as worker:
        _write(path, {})
        await worker.finished()


def _write(path: Path, fields: dict) -> None:
    aside = path.with_suffix(".aside")
    aside.write_text(json.dumps(fields))
    aside.replace(path)


def _written(path: Path) -> dict:
    ends = time.monotonic() + _LONGEST
    while not path.exists():
        if time.monotonic() > ends:
            raise RuntimeError(f"the cluster does not come up: no {path.name}")
        time.sleep(0.01)
    return json.loads(path.read_text())


def _pretend(others: dict[str, str | None]) -> None:
    from features import versions

    real = versions.version_of
    versions.version_of = lambda package: others[package] if package in others else real(package)
