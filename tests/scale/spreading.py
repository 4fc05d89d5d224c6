"""Extraction by several processes of a Dask cluster: the bytes of one, a worker killed on the way, and the speed-up."""

import argparse
import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path


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
    """One process without a cluster, then clusters of several, the largest with a worker killed."""
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
    for count in (0, *options.workers):
        home = Path(folder) / str(count)
        os.environ["LAYERPROBE_HOME"] = str(home)
        answer = plan(request)
        last = count == max(options.workers) and count > 1
        with on_cluster(f"local:{count}" if count else None):
            started = time.perf_counter()
            with one_killed(home / "features") if last else contextlib.nullcontext([]) as killed:
                passes = extract(answer, compiled="off", jobs=1)
            seconds = time.perf_counter() - started
        images = sum(one.images for one in passes)
        rate = images / seconds
        if not count:
            expected, alone = features_of(home), rate
        else:
            cache(["compact"])
            wrong += features_of(home) != expected
        told = f"{count} processes" if count else "no cluster"
        told += f", {len(killed)} killed" if last else ""
        same = "" if not count else ", the same bytes" if features_of(home) == expected else ", OTHER BYTES"
        print(f"{told}: {images:,} images in {seconds:.1f} s, {rate:.0f}/s, {rate / alone:.2f} times{same}", flush=True)
        wrong += last and not killed
    return 1 if wrong else 0
