"""One pass of rows through a trunk into files: all layers advance together, a batch at a time, on one machine.

Which rows and files, and by which recipe, is settled by the caller; the last batch is padded, so that every image is
computed alike. What a killed pass has recorded is not computed again.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch

from extract.preprocess import Preprocessor
from extract.trunk import Recipe, Trunk
from features import store
from features.backbones import Backbone
from features.datasets import ImageFiles, Split
from features.digests import sha256_rows
from features.errors import UserError
from features.home import home
from features.request import Wanted

_SECONDS_BETWEEN_COMMITS = 1.0

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Pass:
    """What one pass over a split did: images newly computed, wall seconds, and the share spent inside the trunk."""

    split: str
    layers: tuple[str, ...]
    images: int
    seconds: float
    computing: float


def require_same(wanted: Sequence[Wanted], backbone: Backbone, fingerprint: str, rows: np.ndarray) -> None:
    """UserError unless weights, data and rows are those in the keys: a plan may be remembered, or waited for long."""
    key = wanted[0].key
    what = {
        "the weights": (key.weights, backbone.weights_sha256),
        "the data": (key.dataset, fingerprint),
        "the rows taken": (key.rows, sha256_rows(rows)),
    }
    for name, (planned, found) in what.items():
        if planned != found:
            raise UserError(
                f"{name} changed since this was planned (SHA-256 {planned[:8]} then, {found[:8]} now), and nothing was "
                f"written under the old name; run it again, after removing {home() / 'remembered'} if it says the same"
            )


def run_pass(
    name: str,
    data: Split,
    rows: np.ndarray,
    files: Sequence[store.PartialFile | None],
    preprocessor: Preprocessor,
    recipe: Recipe,
    trunk: Trunk,
    *,
    jobs: int | None = None,
    progress: Progress | None = None,
) -> tuple[int, float]:
    """Compute rows of a split into the files, one for each output of the trunk, and publish them.

    files: open, for these rows; None for an output that is kept already. name: what progress is told about. Returns
    the images newly computed and the seconds spent inside the trunk.
    """
    computing = 0.0
    kept = [(number, file) for number, file in enumerate(files) if file is not None]
    first = min(file.rows_done for _, file in kept)
    # A batch's images are computed together: a pass carries on at the start of one.
    first -= first % recipe.batch if first < len(rows) else 0
    with ThreadPoolExecutor(1, "write") as writer:
        pending: Future | None = None
        committed = time.perf_counter()
        for start, images in _batches(data.images, rows, first, recipe.batch, jobs):
            count = len(images)
            ready = preprocessor(images)
            before = time.perf_counter()
            if count < recipe.batch:
                ready = torch.cat([ready, ready.new_zeros(recipe.batch - count, *ready.shape[1:])])
            outputs = trunk(ready)
            blocks = [(file, outputs[number].float()[:count].to("cpu").numpy()) for number, file in kept]
            computing += time.perf_counter() - before
            if pending:
                pending.result()
            done = start + count
            due = time.perf_counter() - committed > _SECONDS_BETWEEN_COMMITS or done == len(rows)
            committed = time.perf_counter() if due else committed
            pending = writer.submit(_write, blocks, start, done if due else None)
            if progress:
                progress(name, done, len(rows))
        if pending:
            pending.result()
    for _, file in kept:
        file.publish()
    return len(rows) - first, computing


def _write(blocks: list[tuple[store.PartialFile, np.ndarray]], start: int, done: int | None) -> None:
    for file, block in blocks:
        if not np.isfinite(block).all():
            raise UserError(
                f"{file.layout.about.layer_name} gives numbers that are infinite or none (images {start} and on); take "
                "--precision float32 or bfloat16, or other --weights if it was that already"
            )
        file.write(start, block)
    if done is not None:
        for file, _ in blocks:
            file.commit(done)


def _batches(
    images: np.ndarray | ImageFiles, rows: np.ndarray, first: int, size: int, jobs: int | None
) -> Iterator[tuple[int, np.ndarray | list[np.ndarray]]]:
    """(start, images) from the row `first` on; files are read and decoded by `jobs` threads, a batch ahead."""
    starts = range(first, len(rows), size)
    if isinstance(images, np.ndarray):
        for start in starts:
            yield start, images[rows[start : start + size]]
        return
    with ThreadPoolExecutor(jobs or torch.get_num_threads(), "decode") as readers:

        def begin(start: int) -> list[Future]:
            return [readers.submit(images.read, int(row)) for row in rows[start : start + size]]

        ahead = begin(first) if first < len(rows) else []
        for start in starts:
            current, ahead = ahead, begin(start + size)
            yield start, [future.result() for future in current]
