"""Stage 1: one pass over the images for any number of layers, written to the cache block by block.

A pass stops at the deepest layer asked for, leaves out what is complete, and carries on where a killed one stopped.
Where joblib's active backend is a Dask cluster, its workers make the files together, in shards.
"""

import contextlib
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch

from extract.cluster import cluster_client, threads_each
from extract.cost import Cost, record_seconds
from extract.one_pass import Pass, Progress, require_same, run_pass
from extract.preprocess import Preprocessor
from extract.sharded import join_complete, pass_in_shards
from extract.trunk import Output, Recipe, Trunk, choose_recipe, torch_threads
from features import store
from features.backbones import load_backbone
from features.datasets import Split, open_dataset
from features.device import resolve_device
from features.reading import find_cached
from features.request import Plan, Wanted, selected_rows


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

    jobs: processor cores to compute and decode on (None: what torch takes, which is all; on a cluster those that each
    task takes, see `extract.cluster.threads_each`). progress is called with the split, the rows done and the rows in
    all. Files already begun are carried on. UserError where data or weights are no longer those that the plan was made
    for.
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
    client = cluster_client()
    if client is not None:
        jobs = threads_each(client, jobs)
    if jobs:
        torch.set_num_threads(jobs)
    cores = torch.get_num_threads()
    device = resolve_device(request.device)
    backbone = load_backbone(request.backbone, request.weights, request.seed)
    preprocessing = backbone.preprocessing.at(request.image_size)
    cut = backbone.cut(request.image_size)
    dataset = open_dataset(request.dataset)
    preprocessor = Preprocessor(preprocessing, device)
    built: tuple[Recipe, Trunk] | None = None
    passes = []
    for split in dict.fromkeys(w.split for w in todo):
        data = dataset.load(split)
        rows = selected_rows(data.labels, request, split)
        mine = [w for w in todo if w.split == split]
        require_same(mine, backbone, dataset.fingerprint(), rows)
        # What a cluster began is carried on in shards without it too.
        in_shards = client is not None or all(store.begun_division(w.key) for w in mine)
        if join_complete(mine, rows) if in_shards else _published(mine, data, rows):
            continue
        outputs = [Output(w.key.layer, w.key.pool) for w in mine]
        images = sum(wanted.rows for wanted in {w.split: w for w in todo}.values())
        recipe = choose_recipe(
            cut,
            outputs,
            images=images,
            precision=mine[0].key.precision,
            device=device,
            compiled=compiled,
            grey=data.grey,
        )
        # A kill may have come when only some of the files were laid out: those say how the others are computed too.
        begun = [known for w in mine if (known := _begun_recipe(w, in_shards))]
        if not begun:
            begun = _recipes_of_the_other_split(answer, mine)
        same = recipe.can_follow(begun[0]) and all(other == begun[0] for other in begun)
        if same and compiled in ("auto", {"compiled": "on"}.get(begun[0]["engine"], "off")):
            recipe = recipe.following(begun[0])
        if in_shards:
            passes.append(pass_in_shards(request, split, rows, mine, recipe, cores=cores, progress=progress))
            continue
        if built is None or built[0] != recipe:
            with torch_threads(recipe.threads):
                built = recipe, Trunk(cut, outputs, recipe, device, preprocessing)
        started = time.perf_counter()
        with contextlib.ExitStack() as stack:
            files = [stack.enter_context(contextlib.closing(_open(w, data, rows, recipe.to_json()))) for w in mine]
            images, computing = run_pass(split, data, rows, files, preprocessor, *built, cores=cores, progress=progress)
        seconds = time.perf_counter() - started
        record_seconds(mine, images, seconds)
        passes.append(Pass(split, tuple(w.layer for w in mine), images, seconds, computing / max(seconds, 1e-9)))
    return passes


def _begun_recipe(wanted: Wanted, in_shards: bool) -> dict | None:
    """How a file that is not complete was begun, alone or in shards."""
    if not in_shards:
        return store.existing_recipe(wanted.key)
    division = store.begun_division(wanted.key)
    return division.recipe if division else None


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
