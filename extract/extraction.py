"""Stage 1: one pass over the images for any number of layers, written to the cache block by block.

A pass stops at the deepest layer asked for, leaves out what is complete, and carries on where a killed one stopped.
All layers advance together, a batch at a time; the last batch is padded, so that every image is computed alike.
"""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch

from extract.cost import Cost, record_seconds
from extract.preprocess import Preprocessor
from extract.trunk import Output, Recipe, Trunk, choose_recipe
from features import store
from features.backbones import Backbone, load_backbone
from features.cut import Cut
from features.datasets import ImageFiles, Split, open_dataset
from features.device import resolve_device
from features.digests import sha256_rows
from features.errors import UserError
from features.home import home
from features.reading import find_cached
from features.request import Plan, Wanted, selected_rows

_SECONDS_BETWEEN_COMMITS = 1.0


@dataclass(frozen=True)
class Pass:
    """What one pass over a split did: images newly computed, wall seconds, and the share spent inside the trunk."""

    split: str
    layers: tuple[str, ...]
    images: int
    seconds: float
    computing: float


Progress = Callable[[str, int, int], None]


def missing(answer: Plan, splits: Sequence[str] | None = None) -> list[Wanted]:
    """The files of a plan that neither stand in the cache nor are part of one that does, each once."""
    wanted = {w.key.digest: w for w in answer.wanted if splits is None or w.split in splits}
    return [w for w in wanted.values() if find_cached(w, answer.request) is None]


def extract(
    answer: Plan,
    *,
    splits: Sequence[str] | None = None,
    compiled: str = "auto",
    jobs: int | None = None,
    progress: Progress | None = None,
    say: Callable[[str], None] = print,
) -> list[Pass]:
    """Make every missing file of a plan, and say what was done; an empty list when nothing was missing.

    jobs: processor cores to compute and decode on (None: what torch takes, which is all). progress is called with the
    split, the rows done and the rows in all. Files already begun are carried on. UserError where data or weights are
    no longer those that the plan was made for.
    """
    todo = missing(answer, splits)
    if not todo:
        return []
    with contextlib.ExitStack() as locks:
        for wanted in sorted(todo, key=lambda w: w.key.digest):
            locks.enter_context(store.lock(wanted.key, say=say))
        # Whoever held a lock may have made the file while this one waited.
        todo = missing(answer, splits)
        return _extract_locked(answer, todo, compiled, jobs, progress) if todo else []


def _extract_locked(
    answer: Plan, todo: list[Wanted], compiled: str, jobs: int | None, progress: Progress | None
) -> list[Pass]:
    request = answer.request
    cost = Cost.of(todo)
    store.check_disk(cost.disk, [w.key for w in todo])
    if jobs:
        torch.set_num_threads(jobs)
    device = resolve_device(request.device)
    backbone = load_backbone(request.backbone, request.weights, request.seed)
    preprocessing = backbone.preprocessing.at(request.image_size)
    cut = Cut(backbone.model, preprocessing.crop, backbone.headless)
    dataset = open_dataset(request.dataset)
    preprocessor = Preprocessor(preprocessing, device)
    built: tuple[Recipe, Trunk] | None = None
    passes = []
    for split in dict.fromkeys(w.split for w in todo):
        data = dataset.load(split)
        rows = selected_rows(data.labels, request, split)
        _require_same(todo, split, backbone, dataset.fingerprint(), rows)
        mine = [w for w in todo if w.split == split]
        if _published(mine, data, rows):
            continue
        outputs = [Output(w.key.layer, w.key.pool) for w in mine]
        images = sum(wanted.rows for wanted in {w.split: w for w in todo}.values())
        recipe = choose_recipe(
            cut, outputs, images=images, precision=mine[0].key.precision, device=device, compiled=compiled
        )
        begun = [store.existing_recipe(w.key) for w in mine]
        if not any(begun):
            begun = _recipes_of_the_other_split(answer, mine)
        same = recipe.can_follow(begun[0]) and all(other == begun[0] for other in begun)
        if same and compiled in ("auto", {"compiled": "on", "eager": "off"}[begun[0]["engine"]]):
            recipe = recipe.following(begun[0])
        torch.set_num_threads(recipe.threads)
        if built is None or built[0] != recipe:
            built = recipe, Trunk(cut, outputs, recipe, device)
        passes.append(_run_pass(split, data, rows, mine, preprocessor, *built, jobs=jobs, progress=progress))
    return passes


def _require_same(todo: list[Wanted], split: str, backbone: Backbone, fingerprint: str, rows: np.ndarray) -> None:
    """UserError unless weights, data and rows are those in the keys: a plan may be remembered, or waited for long."""
    key = next(w.key for w in todo if w.split == split)
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


def _published(wanted: list[Wanted], data: Split, rows: np.ndarray) -> bool:
    """Whether the files lacked only their names, as after a kill between two layers' last steps; they have them then.

    Carrying them on would not do: the layers that have their names are no longer part of the pass.
    """
    begun = [store.existing_partial(one.key) for one in wanted]
    if any(record is None or record.rows_done < len(rows) for record in begun):
        return False
    for one, record in zip(wanted, begun, strict=True):
        with contextlib.closing(_open(one, data, rows, record.recipe)) as file:
            # Bytes are compared with their checksums on the way: fewer rows may be sound than were recorded.
            if file.rows_done < len(rows):
                return False
            file.publish()
    return True


def _open(wanted: Wanted, data: Split, rows: np.ndarray, recipe: dict) -> store.PartialFile:
    return store.PartialFile.open(
        wanted.key,
        wanted.about,
        shape=(len(rows), *wanted.shape),
        dtype=wanted.key.dtype,
        labels=data.labels[rows],
        index=rows,
        recipe=recipe,
    )


def _recipes_of_the_other_split(answer: Plan, mine: list[Wanted]) -> list[dict | None]:
    """How the same layers of another split were computed: a head should not meet features of two kinds."""
    recipes = []
    for one in mine:
        others = (
            w
            for w in answer.wanted
            if w.split != one.split and (w.key.layer, w.key.pool) == (one.key.layer, one.key.pool)
        )
        files = (store.find(w.key) for w in others)
        recipes.append(next((file.recipe for file in files if file), None))
    return recipes


def _run_pass(
    split: str,
    data: Split,
    rows: np.ndarray,
    wanted: list[Wanted],
    preprocessor: Preprocessor,
    recipe: Recipe,
    trunk: Trunk,
    *,
    jobs: int | None,
    progress: Progress | None,
) -> Pass:
    started, computing = time.perf_counter(), 0.0
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context(contextlib.closing(_open(w, data, rows, recipe.to_json()))) for w in wanted]
        first = min(file.rows_done for file in files)
        # A batch's images are computed together: a pass carries on at the start of one.
        first -= first % recipe.batch if first < len(rows) else 0
        writer = stack.enter_context(ThreadPoolExecutor(1, "write"))
        pending: Future | None = None
        committed = time.perf_counter()
        for start, images in _batches(data.images, rows, first, recipe.batch, jobs):
            count = len(images)
            ready = preprocessor(images)
            before = time.perf_counter()
            if count < recipe.batch:
                ready = torch.cat([ready, ready.new_zeros(recipe.batch - count, *ready.shape[1:])])
            blocks = [output[:count].to("cpu").numpy() for output in map(torch.Tensor.float, trunk(ready))]
            computing += time.perf_counter() - before
            if pending:
                pending.result()
            done = start + count
            due = time.perf_counter() - committed > _SECONDS_BETWEEN_COMMITS or done == len(rows)
            committed = time.perf_counter() if due else committed
            pending = writer.submit(_write, files, blocks, start, done if due else None)
            if progress:
                progress(split, done, len(rows))
        if pending:
            pending.result()
        for file in files:
            file.publish()
    seconds = time.perf_counter() - started
    record_seconds(wanted, len(rows) - first, seconds)
    return Pass(split, tuple(w.layer for w in wanted), len(rows) - first, seconds, computing / max(seconds, 1e-9))


def _write(files: list[store.PartialFile], blocks: list[np.ndarray], start: int, done: int | None) -> None:
    for file, block in zip(files, blocks, strict=True):
        if not np.isfinite(block).all():
            raise UserError(
                f"{file.layout.about.layer_name} gives numbers that are infinite or none (images {start} and on); take "
                "--precision float32 or bfloat16, or other --weights if it was that already"
            )
        file.write(start, block)
    if done is not None:
        for file in files:
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
