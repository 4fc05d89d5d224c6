"""Heads that learn from a store that is larger than the memory their process may take.

The limit is the process's own (RLIMIT_DATA, as `ulimit -d`: all that it reserves, libraries included, but not the pages
of files), or that of a control group, as a container has it: what it really takes, and the pages of files that the
system keeps for it, which therefore have to come from the disk again and again.
"""

import argparse
import contextlib
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

CLASSES, TEST_ROWS = 10, 4000
GROUPS = (  # of version 2, and of version 1
    (Path("/sys/fs/cgroup"), "memory.max", "memory.swap.max", "memory.events"),
    (Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes", "memory.memsw.limit_in_bytes", "memory.oom_control"),
)
_NAME = f"layerprobe-{os.getpid()}"
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
    from features.key import About
    from features.request import Plan, Request, Wanted
    from tests.features.store_cases import key

    about = About("synthetic", "layer4", tuple(map(str, range(CLASSES))), "none")
    wanted = []
    for split, count in (("train", rows), ("test", TEST_ROWS)):
        of = key(split=split, rows=f"{count:064d}")
        wanted.append(Wanted(split, "layer4", "avg", of, about, (width,), count, of))
    # The data set is a stand-in: nothing here asks for an image.
    return Plan(Request(dataset="digits", layers=("layer4",)), ("layer4",), tuple(wanted), ("train", "test"))


@contextlib.contextmanager
def memory_group(limit: int) -> Iterator[Path]:
    """A control group of processes that together may take `limit` bytes; PermissionError where none can be made."""
    made = next(((root / _NAME, most, swapped) for root, most, swapped, _ in GROUPS if _made(root / _NAME, most)), None)
    if made is None:
        raise PermissionError("this machine lets nobody here make a control group with a limit of memory")
    group, most, swapped = made
    try:
        (group / most).write_text(str(limit))
        with contextlib.suppress(OSError):
            (group / swapped).write_text("0" if most == "memory.max" else str(limit))
        yield group
    finally:
        for _ in range(100):
            # The last process may not have left it yet.
            with contextlib.suppress(OSError):
                group.rmdir()
                break
            time.sleep(0.05)


def _made(group: Path, most: str) -> bool:
    """Make a control group; whether it has a limit of memory."""
    with contextlib.suppress(OSError):
        group.mkdir()
        if (group / most).exists():
            return True
        group.rmdir()
    return False


def killed_for_memory(group: Path) -> bool:
    """Whether the system has killed a process of the group because it took more than the limit."""
    told = " ".join((group / name).read_text() for *_, name in GROUPS if (group / name).exists())
    return int(told.split("oom_kill ")[1].split()[0]) > 0


def learn(head: str, rows: int, width: int, blocks: str, limit: int | None) -> None:
    """In a process of its own: one row, a limit set after the libraries are there; prints what came of it as JSON."""
    from classify.experiments.kinds.classical import Classical
    from classify.experiments.making import make
    from classify.experiments.row import Row
    from classify.experiments.settings import How, Settings
    from classify.experiments.sources import CachedLayer
    from classify.heads import HEADS
    from features.memory import memory_at_hand

    if head == "linear":
        import torch

        torch.set_num_threads(1)
    HEADS[head].build()
    if limit is not None:
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    at_hand, started = memory_at_hand(), time.perf_counter()
    settings = Settings(jobs=1, refit=False, search=head == "ridge", blocks=blocks)
    source = CachedLayer(_plan(rows, width), "layer4", "avg")
    row = Row(source=source, head=Classical(head=HEADS[head]), settings=settings)
    saved = make(row, How(folder=Path(f"results-{blocks}")))
    told = {
        "accuracy": saved.result.metrics.accuracy,
        "seconds": time.perf_counter() - started,
        "processor_seconds": time.process_time(),
        "at_hand": at_hand,
        "peak": saved.result.extra.peak_host_bytes,
        "read": saved.result.extra.read or "at once",
    }
    print(json.dumps(told))


def attempt(
    home: Path, head: str, rows: int, width: int, limit: int, blocks: str = "auto", *, grouped: bool = False
) -> dict | None:
    """What a head under the limit came to; None where its process ran out of memory.

    grouped: the limit is that of a control group.
    """
    own = None if grouped else limit
    call = f"from tests.scale.memory import learn; learn({head!r}, {rows}, {width}, {blocks!r}, {own})"
    environment = {**os.environ, "LAYERPROBE_HOME": str(home), "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path.cwd())}
    command = [sys.executable, "-c", call]
    with memory_group(limit) if grouped else contextlib.nullcontext() as group:
        if group:
            _forget_pages(home)
            command = ["sh", "-c", 'echo $$ > "$0" && exec "$@"', str(group / "cgroup.procs"), *command]
        done = subprocess.run(command, cwd=home, env=environment, capture_output=True, text=True)
        if done.returncode and group and killed_for_memory(group):
            return None
    if done.returncode:
        if any(told in done.stderr for told in _OUT_OF_MEMORY):
            return None
        raise RuntimeError(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def _forget_pages(home: Path) -> None:
    """Have the system forget what it holds of the store's pages: nobody who reads them would be charged for them."""
    for path in (home / "features").glob("*.h5"):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)


def show(options: argparse.Namespace, folder: str) -> int:
    """Make the store, run each head in blocks and, as a control, in memory."""
    home = Path(folder) / "home"
    home.mkdir()
    os.environ["LAYERPROBE_HOME"] = str(home)
    started = time.perf_counter()
    make_store(options.gigabytes, options.width)
    size = sum(path.stat().st_size for path in (home / "features").glob("*.h5"))
    print(f"store: {size / 1e9:.2f} GB made in {time.perf_counter() - started:.0f} s; limit of memory ", end="")
    grouped = options.limit_by == "cgroup"
    print(f"{options.limit_gigabytes:.2f} GB ({'of a control group' if grouped else 'RLIMIT_DATA'})", flush=True)
    rows, limit, failed = round(options.gigabytes * 1e9 / 4 / options.width), int(options.limit_gigabytes * 1e9), 0
    for head in options.model:
        in_blocks = attempt(home, head, rows, options.width, limit, grouped=grouped)
        print(f"{head}: {in_blocks}", flush=True)
        in_memory = attempt(home, head, rows, options.width, limit, "off", grouped=grouped)
        print(f"{head}, in memory: {in_memory or 'out of memory, as it has to be'}", flush=True)
        failed += in_blocks is None or in_blocks["read"] != "in blocks" or in_memory is not None
    return 1 if failed else 0
