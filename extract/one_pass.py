"""One pass of rows through a trunk into files: all layers advance together, batch after batch, on one machine.

Each core computes batches of its own, so that none waits for the others at the end of every layer; they are written in
their order.

Which rows and files, and by which recipe, is settled by the caller; the last batch is padded, so that every image is
computed alike. What a killed pass has recorded is not computed again.
"""

import contextlib
import itertools
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch.nn.functional import pad

from extract.bench import Part
from extract.preprocess import Preprocessor
from extract.trunk import Trunk, torch_threads
from extract.views import seen
from features import store
from features.commands.speaking import decoders_unheard
from features.datasets.pixels import pixels_held
from features.errors import UserError
from features.memory import give_back_freed_memory

_SECONDS_BETWEEN_COMMITS = 1.0

Progress = Callable[[str, int, int], None]
_Computed = TypeVar("_Computed")


@dataclass(frozen=True)
class Pass:
    """What one pass over a split did: images newly computed, wall seconds, and the share of them that its cores spent
    inside the trunk."""

    split: str
    layers: tuple[str, ...]
    images: int
    seconds: float
    computing: float


def run_pass(
    part: Part,
    files: Sequence[store.PartialFile | None],
    preprocessor: Preprocessor,
    trunk: Trunk,
    *,
    cores: int,
    progress: Progress | None = None,
) -> tuple[int, float]:
    """Compute rows of a split into the files, one for each output of the trunk, and publish them.

    files: open, for these rows; None for an output that is kept already. Returns the images newly computed and the
    seconds that each of the cores spent inside the trunk, on average.
    """
    rows, recipe, computing = part.rows, trunk.recipe, 0.0
    kept = [(number, file) for number, file in enumerate(files) if file is not None]
    first = min(file.rows_done for _, file in kept)
    # A batch's images are computed together: a pass carries on at the start of one.
    first -= first % recipe.batch if first < len(rows) else 0
    streams = recipe.streams(cores)
    views = part.views.count
    ready_made = _prepared(part, rows[first:], recipe.batch, preprocessor, trunk, cores)

    def compute(count: int, ready: torch.Tensor) -> tuple[list[tuple[store.PartialFile, np.ndarray]], int, float]:
        before = time.perf_counter()
        outputs = trunk(ready)
        blocks = [(file, outputs[number].float()[:count].to("cpu").numpy()) for number, file in kept]
        return blocks, count, time.perf_counter() - before

    with (
        decoders_unheard(),
        torch_threads(recipe.threads),
        ThreadPoolExecutor(1, "write") as writer,
        contextlib.closing(ready_made) as prepared,
        contextlib.closing(_in_streams(compute, prepared, streams=streams, threads=recipe.threads)) as computed,
    ):
        pending: Future | None = None
        done, committed = first, time.perf_counter()
        for blocks, count, seconds in _of_all_views(computed, views):
            computing += seconds / streams
            if pending:
                pending.result()
            start, done = done, done + count
            due = time.perf_counter() - committed > _SECONDS_BETWEEN_COMMITS or done == len(rows)
            committed = time.perf_counter() if due else committed
            pending = writer.submit(_write, blocks, start, done if due else None)
            if progress:
                progress(part.split, done, len(rows))
        if pending:
            pending.result()
    for _, file in kept:
        file.publish()
    give_back_freed_memory()
    return len(rows) - first, computing


def _in_streams(
    compute: Callable[[int, torch.Tensor], _Computed],
    batches: Iterator[tuple[int, torch.Tensor]],
    *,
    streams: int,
    threads: int,
) -> Generator[_Computed, None, None]:
    """`compute(*batch)` of every batch in their order, by so many streams beside each other of so many threads each."""
    if streams == 1:
        yield from (compute(*batch) for batch in batches)
        return
    with ThreadPoolExecutor(streams, "compute", torch.set_num_threads, (threads,)) as pool:
        begun: deque[Future] = deque()
        try:
            for batch in batches:
                begun.append(pool.submit(compute, *batch))
                # As many again wait, so that a stream that is done early finds its next batch.
                if len(begun) == 2 * streams:
                    yield begun.popleft().result()
            while begun:
                yield begun.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def _of_all_views(
    computed: Iterator[tuple[list[tuple[store.PartialFile, np.ndarray]], int, float]], views: int
) -> Iterator[tuple[list[tuple[store.PartialFile, np.ndarray]], int, float]]:
    """What was computed of batches whose views come one after the other, with those of an image together."""
    if views == 1:
        yield from computed
        return
    while passes := list(itertools.islice(computed, views)):
        blocks = [
            (view[0][0], np.stack([block for _, block in view], axis=1))
            for view in zip(*(blocks for blocks, _, _ in passes), strict=True)
        ]
        yield blocks, passes[0][1], sum(seconds for *_, seconds in passes)


def _write(blocks: list[tuple[store.PartialFile, np.ndarray]], start: int, done: int | None) -> None:
    for file, block in blocks:
        if not np.isfinite(block).all():
            raise UserError(
                f"{file.layout.about.layer_name} gives NaN or infinite values (images {start} and on); take "
                "--precision float32 or bfloat16, or other --weights if it was that already"
            )
        file.write(start, block)
    if done is not None:
        for file, _ in blocks:
            file.commit(done)


def _prepared(
    part: Part,
    rows: np.ndarray,
    size: int,
    preprocessor: Preprocessor,
    trunk: Trunk,
    cores: int,
) -> Generator[tuple[int, torch.Tensor], None, None]:
    """For each batch the number of its images and the network's input, one view after the other, the last batch filled
    up with zeros.

    While the network computes, the next batch is made ready: read, decoded and resized by a thread for each core, then
    normalised by one. Of what is ahead only small uint8 images and one batch are kept.
    """
    images, views = preprocessor.decoded(part.data.images), part.views
    with ThreadPoolExecutor(cores, "resize") as readers, ThreadPoolExecutor(1, "prepare") as preparer:

        def resized(row: int) -> torch.Tensor:
            with pixels_held():
                return preprocessor.resized(images.read(row)[None])

        def begin(start: int) -> list[Future]:
            own = rows[start : start + size]
            if isinstance(images, np.ndarray):
                some = np.array_split(own, min(cores, len(own)) or 1)
                return [readers.submit(preprocessor.resized, images[places]) for places in some if len(places)]
            return [readers.submit(resized, int(row)) for row in own]

        def join(begun: list[Future]) -> torch.Tensor:
            parts = [future.result() for future in begun]
            channels = max(images.shape[1] for images in parts)
            return torch.cat([images.expand(-1, channels, -1, -1) for images in parts])

        def finish(batch: Future, own: np.ndarray, view: int) -> tuple[int, torch.Tensor]:
            changed = seen(batch.result(), views, view, own if part.split == "train" else None)
            ready = preprocessor.network_input(changed, trunk.dtype, levels=trunk.levels, grey=trunk.grey)
            missing = size - len(changed)
            return len(changed), pad(ready, (0, 0, 0, 0, 0, 0, 0, missing)) if missing else ready

        def inputs() -> Iterator[Future]:
            begun = begin(0)
            for start in range(0, len(rows), size):
                batch, begun = preparer.submit(join, begun), begin(start + size)
                for view in range(views.count):
                    yield preparer.submit(finish, batch, rows[start : start + size], view)

        ahead: deque[Future] = deque()
        for submitted in inputs():
            ahead.append(submitted)
            if len(ahead) > 1:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
