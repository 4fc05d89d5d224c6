"""Stage 1: one pass over the images for any number of layers, written to the cache block by block.

A pass stops at the deepest layer asked for, leaves out what is complete, and carries on where a killed one stopped.
Where joblib's active backend is a Dask cluster, its workers make the files together, in shards.
"""

import contextlib
import dataclasses
import time
from collections.abc import Callable
from typing import Any

import torch

from extract.bench import Bench, Part
from extract.cluster import cluster_client, threads_each
from extract.cost import Cost, record_seconds
from extract.one_pass import Pass, Progress, run_pass
from extract.sharded import begun_divisions, join_complete, pass_in_shards
from extract.trunk import Recipe, Trunk, smaller
from features import store
from features.reading import missing
from features.request import Plan, Wanted


def extract(
    plan: Plan,
    *,
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
    todo = missing(plan)
    if not todo:
        return []
    with contextlib.ExitStack() as locks:
        for wanted in sorted(todo, key=lambda file: file.key.digest):
            locks.enter_context(store.lock(wanted.key, say=say))
        # Whoever held a lock may have made the file while this one waited.
        todo = missing(plan)
        _name_layers_made_again(todo, say)
        return _extract_locked(plan, todo, compiled, jobs, progress, say) if todo else []


def _name_layers_made_again(missing_files: list[Wanted], say: Callable[[str], None]) -> None:
    """Say which layers are in the cache under the key of version 0.1.0, which may have computed them wrongly."""
    layers = []
    for file in missing_files:
        with contextlib.suppress(store.CacheError):
            if file.key.revision and store.find(dataclasses.replace(file.key, revision=0)):
                layers.append(file.about.layer_name)
    if layers:
        names = ", ".join(dict.fromkeys(layers))
        say(f"{names}: version 0.1.0 may have cached what a later in-place operation left there; made again")


def _extract_locked(
    plan: Plan,
    todo: list[Wanted],
    compiled: str,
    jobs: int | None,
    progress: Progress | None,
    say: Callable[[str], None],
) -> list[Pass]:
    store.check_disk(Cost.of(todo).disk, [wanted.key for wanted in todo])
    client = cluster_client()
    if client is not None:
        jobs = threads_each(client, jobs)
    if jobs:
        torch.set_num_threads(jobs)
    cores = torch.get_num_threads()
    bench = Bench.of(plan.request)
    images = plan.request.views * sum({wanted.split: wanted.rows for wanted in todo}.values())
    trunk: Trunk | None = None
    passes = []
    for split in dict.fromkeys(wanted.split for wanted in todo):
        part = bench.part(split, [wanted for wanted in todo if wanted.split == split])
        # What a cluster began is carried on in shards without it too.
        in_shards = client is not None or begun_divisions(part.wanted) is not None
        if join_complete(part) if in_shards else _published(part):
            continue
        recipe = bench.recipe(part.wanted, images=images, compiled=compiled, grey=part.data.grey)
        recipe = _carried_on(recipe, _recipes_before(plan, part, in_shards), compiled)
        if in_shards:
            passes.append(pass_in_shards(plan.request, part, recipe, cores=cores, progress=progress))
            continue
        started = time.perf_counter()
        while True:
            if trunk is None or trunk.recipe != recipe:
                trunk = bench.trunk(part.wanted, recipe)
            if outcome := _passed(bench, part, trunk, cores, progress):
                break
            trunk = None  # its memory is given back before the next is laid out
            recipe = smaller(recipe, bench.device, say)
        made, computing = outcome
        seconds = time.perf_counter() - started
        record_seconds(part.wanted, made, seconds)
        passes.append(Pass(split, part.layers, made, seconds, computing / max(seconds, 1e-9)))
    return passes


def _passed(bench: Bench, part: Part, trunk: Trunk, cores: int, progress: Progress | None) -> tuple[int, float] | None:
    """What `run_pass` gives; None where memory ran out, which is free again once the frames that failed are left."""
    recipe = trunk.recipe.to_json()
    with contextlib.suppress(torch.OutOfMemoryError), contextlib.ExitStack() as stack:
        files = [stack.enter_context(contextlib.closing(part.open(file, recipe))) for file in part.wanted]
        return run_pass(part, files, bench.preprocessor, trunk, cores=cores, progress=progress)
    return None


def _carried_on(recipe: Recipe, before: list[dict[str, Any] | None], compiled: str) -> Recipe:
    """The recipe, or where it can follow the one of all that was made before, that one."""
    first = before[0]
    if first is None or any(other != first for other in before) or not recipe.can_follow(first):
        return recipe
    allowed = compiled in ("auto", {"compiled": "on", "winograd": "auto"}.get(first["engine"], "off"))
    return recipe.following(first) if allowed else recipe


def _recipes_before(plan: Plan, part: Part, in_shards: bool) -> list[dict[str, Any] | None]:
    """How the files were begun, or else the same layers of another split computed: a head should not meet features of
    two kinds.

    A kill may have come when only some of the files were laid out: those say how the others are computed too.
    """
    look = store.begun_division if in_shards else store.existing_partial
    begun = [file.recipe for wanted in part.wanted if (file := look(wanted.key))]
    return [*begun] or [_recipe_of_another_split(plan, wanted) for wanted in part.wanted]


def _recipe_of_another_split(plan: Plan, wanted: Wanted) -> dict[str, Any] | None:
    layer = (wanted.key.layer, wanted.key.pool)
    others = (other.key for other in plan.wanted if other.split != wanted.split)
    files = (store.find(key) for key in others if (key.layer, key.pool) == layer)
    return next((file.recipe for file in files if file), None)


def _published(part: Part) -> bool:
    """Whether the files lacked only their names, as after a kill between two layers' last steps; they have them then.

    Carrying them on would not do: the layers that have their names are no longer part of the pass.
    """
    begun = [store.existing_partial(wanted.key) for wanted in part.wanted]
    recipes = [record.recipe for record in begun if record is not None and record.rows_done >= len(part.rows)]
    if len(recipes) < len(begun):
        return False
    for wanted, recipe in zip(part.wanted, recipes, strict=True):
        with contextlib.closing(part.open(wanted, recipe)) as file:
            # Bytes are compared with their checksums on the way: fewer rows may be sound than were recorded.
            if file.rows_done < len(part.rows):
                return False
            file.publish()
    return True
