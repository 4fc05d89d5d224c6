"""Heads that learn from a store that is larger than the memory their process may take (RLIMIT_DATA, as `ulimit -d`)."""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

CLASSES, TEST_ROWS = 10, 4000
# A thread's stack is memory as well.
_OUT_OF_MEMORY = ("MemoryError", "annot allocate memory", "can't allocate memory", "can't start new thread")


def make_store(gigabytes: float, width: int) -> None:
    """A training and a test file of features around the means of ten classes, in the home."""
    random = np.random.default_rng(0)
    # Two means are 5.4 standard deviations apart, whatever the width: a line between them errs on 0.3 % of the rows.
    means = random.normal(size=(CLASSES, width)).astype(np.float32) * np.float32(5.4 / np.sqrt(2 * width))
    for wanted in _plan(round(gigabytes * 1e9 / 4 / width), width).wanted:
        from features import store

        labels = np.arange(wanted.rows) % CLASSES
        shape = (wanted.rows, width)
        file = store.PartialFile.open(
            wanted.key, wanted.about, shape=shape, dtype="float32", labels=labels, index=labels, recipe={}
        )
        for start in range(0, wanted.rows, 4096):
            own = labels[start : start + 4096]
            file.write(start, random.standard_normal((len(own), width), dtype=np.float32) + means[own])
        file.commit(wanted.rows)
        file.publish()


def _plan(rows: int, width: int):
    from features import store
    from features.request import Plan, Request, Wanted
    from tests.features.store_cases import key

    about = store.About("synthetic", "layer4", tuple(map(str, range(CLASSES))), "none")
    wanted = []
    for split, count in (("train", rows), ("test", TEST_ROWS)):
        of = key(split=split, rows=f"{count:064d}")
        wanted.append(Wanted(split, "layer4", "avg", of, about, (width,), count, of))
    # The data set is a stand-in: nothing here asks for an image.
    return Plan(Request(dataset="digits", layers=("layer4",)), ("layer4",), tuple(wanted), ("train", "test"))


def learn(head: str, rows: int, width: int, blocks: str, limit: int) -> None:
    """In a process of its own: one row, the limit set after the libraries are there; prints what came of it as JSON."""
    from classify.experiments.evaluate import Settings, evaluate
    from classify.heads import HEADS
    from features.memory import memory_at_hand

    if head == "linear":
        import torch

        torch.set_num_threads(1)
    HEADS[head].build()
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    at_hand, started = memory_at_hand(), time.perf_counter()
    settings = Settings(jobs=1, refit=False, search=head == "ridge", blocks=blocks)
    saved = evaluate(_plan(rows, width), "layer4", HEADS[head], settings=settings, folder=f"results-{blocks}")
    told = {
        "accuracy": saved.result.metrics.accuracy,
        "seconds": time.perf_counter() - started,
        "processor_seconds": time.process_time(),
        "at_hand": at_hand,
        "peak": saved.result.extra["peak_host_bytes"],
        "read": saved.result.extra.get("read", "at once"),
    }
    print(json.dumps(told))


def attempt(home: Path, head: str, rows: int, width: int, limit: int, blocks: str = "auto") -> dict | None:
    """What a head under the limit came to; None where its process ran out of memory."""
    call = f"from tests.scale.memory import learn; learn({head!r}, {rows}, {width}, {blocks!r}, {limit})"
    environment = {**os.environ, "LAYERPROBE_HOME": str(home), "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path.cwd())}
    done = subprocess.run([sys.executable, "-c", call], cwd=home, env=environment, capture_output=True, text=True)
    if done.returncode:
        if any(told in done.stderr for told in _OUT_OF_MEMORY):
            return None
        raise RuntimeError(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def show(options: argparse.Namespace, folder: str) -> int:
    """Make the store, run each head in blocks and, as a control, in memory."""
    home = Path(folder) / "home"
    home.mkdir()
    os.environ["LAYERPROBE_HOME"] = str(home)
    started = time.perf_counter()
    make_store(options.gigabytes, options.width)
    size = sum(path.stat().st_size for path in (home / "features").glob("*.h5"))
    print(f"store: {size / 1e9:.2f} GB made in {time.perf_counter() - started:.0f} s; limit of memory ", end="")
    print(f"{options.limit_gigabytes:.2f} GB (RLIMIT_DATA)", flush=True)
    rows, limit, failed = round(options.gigabytes * 1e9 / 4 / options.width), int(options.limit_gigabytes * 1e9), 0
    for head in options.model:
        in_blocks = attempt(home, head, rows, options.width, limit)
        print(f"{head}: {in_blocks}", flush=True)
        in_memory = attempt(home, head, rows, options.width, limit, "off")
        print(f"{head}, in memory: {in_memory or 'out of memory, as it has to be'}", flush=True)
        failed += in_blocks is None or in_blocks["read"] != "in blocks" or in_memory is not None
    return 1 if failed else 0
