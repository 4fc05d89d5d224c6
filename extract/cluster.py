"""Work spread over a Dask cluster, through joblib's own backend: where it is, what a task runs on, and its results.

Inside `on_cluster(...)` joblib's active backend is the cluster, and extraction, `run` and `probe` use its workers. All
of them, and this process, see the same home and results folders, under the same paths, and have the same versions of
what computes. A worker that is lost costs the task it was at: Dask gives that task to another one; a scheduler that is
lost costs the tasks begun, and the command ends. What a task is, is left to others.
"""

import contextlib
import importlib.util
import os
import platform
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

from features.commands.speaking import decoders_unheard, heard, tell_once
from features.errors import UserError
from features.home import home, user_path
from features.notes import read_json
from features.versions import version_of

_MISSING = "--cluster needs Dask, and {name} is not installed; install it with `pip install 'layerprobe[cluster]'`"
_SECONDS_TO_CONNECT = 30
_SAFE_PATH = "PYTHONSAFEPATH"
# What numbers come from, or is sent to workers by its name.
_THE_SAME = ("layerprobe", "torch", "torchvision", "numpy", "scipy", "scikit-learn")


@contextlib.contextmanager
def on_cluster(address: str | None) -> Iterator[Any]:
    """Make a cluster joblib's backend for the block inside; yields Dask's client, or None without an address.

    address: 'tcp://HOST:PORT' or 'tls://HOST:PORT' of a scheduler, the path of a scheduler file, or 'local:N' for N
    processes here, which end with the block. UserError for anything else, and where nobody answers.
    """
    if address is None:
        yield None
        return
    start = _opening(address)
    for name in ("dask", "distributed"):
        if importlib.util.find_spec(name) is None:
            raise UserError(_MISSING.format(name=name))
    import joblib

    with start() as client, joblib.parallel_config("dask", client=client):
        yield client


@contextlib.contextmanager
def modules_as_here() -> Iterator[None]:
    """Meanwhile Python processes that are started look for modules where this one does, and not in the working folder
    besides: what lies there may be anybody's."""
    before = os.environ.get(_SAFE_PATH)
    os.environ[_SAFE_PATH] = "1"
    try:
        yield
    finally:
        os.environ.pop(_SAFE_PATH)
        if before is not None:
            os.environ[_SAFE_PATH] = before


def cluster_client() -> Any:
    """Dask's client where joblib's active backend is a cluster, else None."""
    if "distributed" not in sys.modules:
        return None
    from joblib.parallel import get_active_backend

    return getattr(get_active_backend()[0], "client", None)


def threads_each(client: Any, jobs: int | None) -> int:
    """Threads that a task takes: `jobs`, or its share of the cores where the workers are processes here, or one."""
    if jobs:
        return jobs
    workers = client.nthreads()
    if not all("//127.0.0.1:" in address for address in workers):
        return 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // max(1, sum(workers.values())))


def spread(function: Callable[..., Any], tasks: Sequence[tuple], *, threads: int = 1, ordered: bool = True) -> Iterator:
    """`function(*task)` of every task on the cluster that is joblib's backend (here, without one), as they are done.

    ordered: in the order of the tasks, else in that of their ends. What is sent and comes back has to be small: paths
    are absolute, and features stay in the cache. What a task says is told here, each line once. UserError where a task
    has cost several workers their lives.
    """
    if cluster_client() is None:
        yield from (function(*task) for task in tasks)
        return
    import joblib
    from distributed import KilledWorker

    order = "generator" if ordered else "generator_unordered"
    versions = _versions()
    calls = (joblib.delayed(_run_there)(str(home()), threads, function, task, versions) for task in tasks)
    try:
        for result, lines in joblib.Parallel(return_as=order, batch_size=1, pre_dispatch="all")(calls):
            for line in lines:
                tell_once(line)
            yield result
    except KilledWorker as error:
        raise UserError(
            f"a task was lost with every worker that took it, the last {error.last_worker.address}: most likely they "
            "have too little memory; what is complete is saved, and the same command carries on from there"
        ) from error


def where_this_runs() -> dict[str, Any] | None:
    """For the record of something timed: how many workers its cluster had; None where this is no worker."""
    if "distributed" not in sys.modules:
        return None
    from distributed import get_client, get_worker

    try:
        get_worker()
    except ValueError:
        return None
    workers = get_client().nthreads()
    return {"scheduler": "dask", "workers": len(workers), "tasks_at_once": sum(workers.values())}


def _versions() -> dict[str, str | None]:
    return {"Python": platform.python_version(), **{package: version_of(package) for package in _THE_SAME}}


def _require_same_versions(client: Any, typed: str) -> None:
    """UserError for a worker whose numbers would be those of other versions, or that cannot do a task at all."""

    def versions(packages: tuple[str, ...]) -> dict[str, str | None]:
        # Sent by what it does and not by its name: it must run where this package is another one, or is not there.
        import importlib
        import platform

        try:
            of = importlib.import_module("features.versions").version_of
        except (ImportError, AttributeError):
            return {"layerprobe": None}
        return {"Python": platform.python_version(), **{package: of(package) for package in packages}}

    for worker, there in client.run(versions, _THE_SAME).items():
        _require_same(f"--cluster {typed}: the worker {worker}", there, _versions())


def _require_same(who: str, there: dict[str, str | None], here: dict[str, str | None]) -> None:
    for name, version in there.items():
        # What names a build, as in 2.9.0+cpu, is of the machine.
        if str(version).partition("+")[0] != str(here.get(name)).partition("+")[0]:
            has = f"has {name} {version}" if version else f"has no {name}"
            raise UserError(f"{who} {has}, and here it is {here.get(name)}; install the same on all machines")


def _run_there(
    folder: str, threads: int, function: Callable[..., Any], task: tuple, versions: dict[str, str | None]
) -> tuple[Any, list[str]]:
    """What a worker runs: the task, in the client's home, on its share of the threads; and what it told.

    versions: those of the client. A worker may have come after the others had been asked for theirs.
    """
    import joblib
    from threadpoolctl import threadpool_limits

    _require_same(f"the worker on {platform.node()}", _versions(), versions)
    os.environ["LAYERPROBE_HOME"] = folder
    # A task's own parallel steps stay in its process: joblib would spread them over the cluster again.
    with joblib.parallel_config("threading", n_jobs=1), threadpool_limits(threads), decoders_unheard():
        with heard() as lines:
            result = function(*task)
        return result, lines


def _opening(address: str) -> Callable[[], contextlib.AbstractContextManager]:
    """How to come to a client for an address; UserError for what is none."""
    kind, _, rest = address.partition(":")
    if kind == "local":
        if not (rest.isdecimal() and 1 <= int(rest) <= 1024):
            raise UserError(f"--cluster {address}: give local:N with the number of processes, as in local:4")
        return lambda: _local(int(rest))
    if kind in ("tcp", "tls") and rest.startswith("//"):
        return lambda: _remote(address, address)
    path = user_path(address)
    if path.is_file():
        fields = read_json(path)
        scheduler = fields.get("address") if isinstance(fields, dict) else None
        if not isinstance(scheduler, str):
            raise UserError(f"--cluster {address}: that is no file that `dask scheduler --scheduler-file` wrote")
        return lambda: _remote(address, scheduler)
    raise UserError(
        f"--cluster {address}: there is no such scheduler file; give tcp://HOST:PORT, the path of the file that "
        "`dask scheduler --scheduler-file` wrote, or local:N for N processes here"
    )


@contextlib.contextmanager
def _remote(typed: str, address: str) -> Iterator[Any]:
    from distributed import Client
    from distributed.comm import CommClosedError
    from distributed.utils import silence_logging_cmgr

    try:
        client = Client(address, timeout=_SECONDS_TO_CONNECT, set_as_default=False)
    except (OSError, ValueError, TimeoutError) as error:
        raise UserError(
            f"--cluster {typed}: no scheduler answers there ({' '.join(str(error).split())}); start one with "
            "`dask scheduler`, and workers with `dask worker`"
        ) from error
    try:
        # What Dask logs of a scheduler that is gone is told below, in a line.
        with silence_logging_cmgr("critical"), client:
            if not client.nthreads():
                raise UserError(
                    f"--cluster {typed}: the scheduler has no workers; start some with `dask worker {typed}`"
                )
            _require_same_versions(client, typed)
            yield client
    except (CancelledError, OSError) as error:
        # While it connects, Dask says by its words alone that nobody answers; other failures are not the scheduler's.
        if not isinstance(error, CancelledError | CommClosedError) and "trying to connect" not in str(error):
            raise
        raise UserError(
            f"--cluster {typed}: the scheduler is gone, and with it what its workers had begun; what is complete is "
            "saved: start it again, and the same command carries on from there"
        ) from error


@contextlib.contextmanager
def _local(count: int) -> Iterator[Any]:
    """Processes of this machine: nothing listens but on the loopback, encrypted and for this user alone."""
    import logging

    import dask
    from distributed import Client, LocalCluster, Security

    if importlib.util.find_spec("cryptography") is None:
        # Without it any user of this machine could hand the workers code to run.
        raise UserError(_MISSING.format(name="cryptography"))
    routes: dict[str, list[str]] = {"distributed.scheduler.http.routes": [], "distributed.worker.http.routes": []}
    logs = logging.getLogger("distributed")
    before = logs.level
    with dask.config.set(routes), modules_as_here():
        cluster = LocalCluster(
            n_workers=count,
            threads_per_worker=1,
            host="127.0.0.1",
            protocol="tls",
            security=Security.temporary(),
            dashboard_address="127.0.0.1:0",
            scheduler_kwargs={"dashboard": False},
            memory_limit=None,
            silence_logs=logging.CRITICAL,
        )
        cluster.scheduler.http_server.stop()
        logs.setLevel(logging.CRITICAL)
        try:
            with cluster, Client(cluster, set_as_default=False) as client:
                devices = visible_gpus()
                if len(devices) > 1:
                    client.register_plugin(_one_gpu_each(devices))
                yield client
        finally:
            logs.setLevel(before)


def visible_gpus() -> list[str]:
    """The NVIDIA GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them; torch is not asked."""
    listed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if listed is not None:
        return [name.strip() for name in listed.split(",") if name.strip()]
    cards = Path("/proc/driver/nvidia/gpus")
    return [str(number) for number in range(len(list(cards.iterdir())))] if cards.is_dir() else []


def gpu_of(worker: Any, devices: Sequence[str]) -> str:
    """The GPU of the worker with this name (0, 1, ...); several workers share one where there are more of them."""
    return devices[int(worker) % len(devices)]


def _one_gpu_each(devices: list[str]) -> Any:
    from distributed import WorkerPlugin

    class OneGPU(WorkerPlugin):
        """Shows a worker one GPU, before it loads torch; a worker that is started again gets the same."""

        name = "one gpu each"

        def setup(self, worker: Any) -> None:
            os.environ["CUDA_VISIBLE_DEVICES"] = gpu_of(worker.name, devices)

    return OneGPU()
