"""Extraction by several processes of a Dask cluster: the bytes of one, a worker killed on the way, and the speed-up."""

import argparse
import contextlib
import importlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any


@contextlib.contextmanager
def one_killed(folder: Path) -> Iterator[list[int]]:
    """SIGKILL to the first process that is seen with a shard under `folder` open for writing; yields whom."""
    import psutil

    killed: list[int] = []
    over = threading.Event()

    def watch() -> None:
        while not killed and not over.is_set():
            for child in psutil.Process().children(recursive=True):
                with contextlib.suppress(OSError, psutil.Error):
                    opened = [str(link.readlink()) for link in Path(f"/proc/{child.pid}/fd").iterdir()]
                    if any(name.startswith(str(folder)) and ".partial" in name for name in opened):
                        os.kill(child.pid, signal.SIGKILL)
                        killed.append(child.pid)
                        return
            time.sleep(0.002)

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        yield killed
    finally:
        over.set()
        watching.join()


def features_of(home: Path) -> dict[str, bytes]:
    """The bytes of every complete file, by name."""
    return {path.name: path.read_bytes() for path in (home / "features").glob("*.h5")}


def show(options: argparse.Namespace, folder: str) -> int:
    """One process without a cluster, then clusters of several, and the largest again with a worker killed."""
    from extract.cluster import on_cluster
    from extract.extraction import extract
    from features.commands.cache import main as cache
    from features.request import Request, plan

    request = Request(
        dataset=options.dataset,
        weights="random",
        image_size=options.image_size,
        layers=(options.layer,),
        precision="float32",
        limit=options.limit,
        limit_test=100,
    )
    expected, alone, wrong = None, 0.0, 0
    runs = [(count, False) for count in (0, *options.workers)] + [(max(options.workers), True)]
    for number, (count, kill) in enumerate(runs):
        home = Path(folder) / str(number)
        os.environ["LAYERPROBE_HOME"] = str(home)
        answer = plan(request)
        with on_cluster(f"local:{count}" if count else None) as client:
            if client:
                # A cluster stands already when it is given work; loading torch is no part of that.
                client.run(importlib.import_module, "extract.sharded")
            started = time.perf_counter()
            with one_killed(home / "features") if kill else contextlib.nullcontext([]) as killed:
                passes = extract(answer, compiled="off", jobs=1)
            seconds = time.perf_counter() - started
        images = sum(one.images for one in passes)
        rate = answer_rows(answer) / seconds
        if not count:
            expected, alone = features_of(home), rate
        else:
            cache(["compact"])
            wrong += features_of(home) != expected
        told = f"{count} processes" if count else "no cluster"
        told += f", {len(killed)} killed" if kill else ""
        same = "" if not count else ", the same bytes" if features_of(home) == expected else ", OTHER BYTES"
        print(f"{told}: {images:,} images computed by those that lived in {seconds:.1f} s, ", end="")
        print(f"{rate:.0f}/s, {rate / alone:.2f} times{same}", flush=True)
        wrong += kill and not killed
    return 1 if wrong else 0


def answer_rows(answer: Any) -> int:
    """Images of a plan, each once."""
    return sum({wanted.split: wanted.rows for wanted in answer.wanted}.values())
