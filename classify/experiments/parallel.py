"""Many independent tasks on a few cores: joblib's processes, and in each of them its share of threads.

What a task returns has to be small. Features are never sent to a process: it opens the cache's files itself and maps
them into memory, where the system keeps one copy for all.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from extract.cluster import cluster_client, modules_as_here, spread, threads_each
from features.commands.speaking import decoders_unheard, heard, tell_once
from features.home import home


def in_parallel(function: Callable[..., Any], tasks: Sequence[tuple], jobs: int | None) -> Iterator[Any]:
    """`function(*task)` of every task, in their order, as they are done; `jobs` cores in all (None: those at hand).

    Where joblib's backend is a cluster its workers do them, `jobs` being the threads of each task. Here, with one core,
    or one task, everything runs in this process. Otherwise each of the processes may use cores / processes threads:
    BLAS and torch threads of several processes on the same cores slow each other down.
    """
    import joblib
    from threadpoolctl import threadpool_limits

    if (client := cluster_client()) is not None:
        yield from spread(function, tasks, threads=threads_each(client, jobs))
        return
    cores = jobs or joblib.cpu_count()
    workers = min(cores, len(tasks))
    if workers <= 1:
        with threadpool_limits(cores):
            yield from (function(*task) for task in tasks)
        return
    here = str(home()), str(Path.cwd())
    inner = threads_of(jobs, len(tasks))
    with modules_as_here(), joblib.parallel_config("loky", n_jobs=workers, inner_max_num_threads=inner):
        calls = (joblib.delayed(_called)(here, function, task) for task in tasks)
        for result, lines in joblib.Parallel(return_as="generator", batch_size=1)(calls):
            for line in lines:
                tell_once(line)
            yield result


def threads_of(jobs: int | None, tasks: int) -> int:
    """The threads that each of so many tasks may use on `jobs` cores, or on a worker of the cluster."""
    import joblib

    if (client := cluster_client()) is not None:
        return threads_each(client, jobs)
    cores = jobs or joblib.cpu_count()
    return max(1, cores // max(1, min(cores, tasks)))


def _called(here: tuple[str, str], function: Callable[..., Any], task: tuple) -> tuple[Any, list[str]]:
    """What a process does, and what it told. joblib keeps its processes, and one that was started for another home
    would read there."""
    from joblib.externals.loky import process_executor

    os.environ["LAYERPROBE_HOME"], folder = here
    # What a task leaves in memory, torch above all, is no leak: joblib would end the process for it (where psutil is
    # installed), with a warning, and the next one would import everything again.
    process_executor._MAX_MEMORY_LEAK_SIZE = float("inf")
    os.chdir(folder)
    with decoders_unheard(), heard() as lines:
        result = function(*task)
    return result, lines
