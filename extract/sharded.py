"""A pass made by the workers of a cluster: the rows divided into shards, each a file of its own, joined at the end.

The division depends on the rows and the recipe alone, not on the number of workers, and every shard but the last is
whole batches: so each image is computed in the batch that one machine would compute it in, to the same bytes. A shard
that is complete is never made again; one whose worker was lost is carried on by another from what was recorded.
"""

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from extract.cluster import spread
from extract.cost import record_seconds
from extract.one_pass import Pass, Progress, require_same, run_pass
from extract.planning import plan
from extract.preprocess import Preprocessor
from extract.trunk import Output, Recipe, Trunk, choose_recipe, torch_threads
from features import store
from features.backbones import load_backbone
from features.datasets import Split, open_dataset
from features.device import resolve_device
from features.errors import UserError
from features.request import Request, Wanted, selected_rows

# Few enough that the list of them stays small and a virtual data set opens fast, small enough that a lost one hardly
# counts: a small data set is cut into 64, and a shard holds more than 4096 rows only where there would be more shards.
_FEWEST, _ROWS, _MOST = 64, 4096, 4096


def rows_per_shard(rows: int, batch: int) -> int:
    """Rows of a shard, whole batches of them."""
    size = max(min(_ROWS, -(-rows // _FEWEST)), -(-rows // _MOST))
    return batch * -(-size // batch)


@dataclass(frozen=True)
class Share:
    """What a worker is told, the same for all shards of a pass; everything else it finds in the home.

    keys: digests of the whole files' keys, in the order of the outputs. cores: that a worker computes on.
    """

    request: Request
    split: str
    keys: tuple[str, ...]
    recipe: Recipe
    cores: int


@dataclass(frozen=True)
class Made:
    """What came of a shard: its files' names, images newly computed, seconds in all and in the trunk."""

    number: int
    names: tuple[str, ...]
    images: int
    seconds: float
    computing: float


def pass_in_shards(
    request: Request,
    split: str,
    rows: np.ndarray,
    wanted: Sequence[Wanted],
    recipe: Recipe,
    *,
    cores: int,
    progress: Progress | None = None,
) -> Pass:
    """Make these files of a split in shards, on the cluster if there is one. The caller holds the locks of their keys.

    rows: of the split, in order. A division that was begun by the same recipe is carried on, with its size of shards.
    """
    started = time.perf_counter()
    divisions = _divisions(wanted, rows, recipe)
    made = {number: found for number in range(len(divisions[0])) if (found := _complete(divisions, rows, number))}
    share = Share(request, split, tuple(w.key.digest for w in wanted), recipe, cores)
    todo = [(share, number) for number in range(len(divisions[0])) if number not in made]
    done = sum(_count(divisions[0], number) for number in made)
    computed = []
    for one in spread(make_shard, todo, threads=cores, ordered=False):
        made[one.number] = one.names
        computed.append(one)
        done += _count(divisions[0], one.number)
        if progress:
            progress(split, done, len(rows))
    _join(divisions, made)
    images, working = sum(one.images for one in computed), sum(one.seconds for one in computed)
    if images:
        # As long as one worker would have taken, so that tables compare costs and not clusters.
        record_seconds(wanted, images, working)
    share_of_trunk = sum(one.computing for one in computed) / max(working, 1e-9)
    return Pass(split, tuple(w.layer for w in wanted), images, time.perf_counter() - started, share_of_trunk)


def join_complete(wanted: Sequence[Wanted], rows: np.ndarray) -> bool:
    """Join the files that lack only that, as after a kill between two layers' last steps; whether they all did."""
    divisions = [store.begun_division(w.key) for w in wanted]
    if not all(division and division.rows == len(rows) for division in divisions):
        return False
    if len({division.size for division in divisions}) > 1:
        return False
    made = {number: _complete(divisions, rows, number) for number in range(len(divisions[0]))}
    if not all(made.values()):
        return False
    _join(divisions, made)
    return True


def make_shard(share: Share, number: int) -> Made:
    """On a worker: make one shard of each of the files, unless it is there; UserError if this machine is no match."""
    started = time.perf_counter()
    bench = _bench(share)
    here = bench.divisions[0].rows_of(number)
    rows = bench.rows[here]
    keys = [division.key_of(rows) for division in bench.divisions]
    with contextlib.ExitStack() as stack:
        # Another command's worker may be at the same shard.
        for key, division in sorted(zip(keys, bench.divisions, strict=True), key=lambda pair: pair[0].digest):
            stack.enter_context(store.lock(key, folder=division.folder))
        files = [
            None
            if division.find(key)
            else stack.enter_context(contextlib.closing(_open(one, division, key, bench.data, rows, share.recipe)))
            for one, division, key in zip(bench.wanted, bench.divisions, keys, strict=True)
        ]
        images, computing = 0, 0.0
        if any(files):
            images, computing = run_pass(
                share.split,
                bench.data,
                rows,
                files,
                bench.preprocessor,
                share.recipe,
                bench.trunk,
                cores=share.cores,
            )
    return Made(
        number, _complete(bench.divisions, bench.rows, number), images, time.perf_counter() - started, computing
    )


@dataclass(frozen=True, eq=False)
class _Bench:
    """What a worker needs for every shard of a pass."""

    data: Split
    rows: np.ndarray
    wanted: tuple[Wanted, ...]
    divisions: tuple[store.Division, ...]
    preprocessor: Preprocessor
    trunk: Trunk


@lru_cache(maxsize=1)
def _bench(share: Share) -> _Bench:
    """Set up once for each pass and worker."""
    answer = plan(share.request)
    here = {wanted.key.digest: wanted for wanted in answer.wanted}
    if lacking := [key for key in share.keys if key not in here]:
        mine = next((wanted.key for wanted in answer.wanted if wanted.split == share.split), None)
        raise UserError(
            f"a worker does not come to the same features as the client: it has no file {lacking[0][:16]} in its plan, "
            f"and computes in {mine.precision if mine else 'no precision'}; have the same data, weights, versions and "
            "kind of processor on all machines, and name --precision and --device"
        )
    wanted = tuple(here[key] for key in share.keys)
    request = answer.request
    device = resolve_device(request.device)
    backbone = load_backbone(request.backbone, request.weights, request.seed)
    preprocessing = backbone.preprocessing.at(request.image_size)
    cut = backbone.cut(request.image_size)
    outputs = [Output(w.key.layer, w.key.pool) for w in wanted]
    own = choose_recipe(cut, outputs, images=1, precision=wanted[0].key.precision, device=device, compiled="off")
    if not own.can_follow(share.recipe.to_json()):
        told = [
            f"{own.device}, {', '.join(own.versions)}",
            f"{share.recipe.device}, {', '.join(share.recipe.versions)}",
        ]
        raise UserError(
            f"a worker computes otherwise than the pass was begun: {told[0]} instead of {told[1]}; have the same "
            "processors and versions on all machines, so that features do not differ by who computed them"
        )
    dataset = open_dataset(request.dataset)
    data = dataset.load(share.split)
    rows = selected_rows(data.labels, request, share.split)
    require_same(wanted, backbone, dataset.fingerprint(), rows)
    divisions = tuple(store.begun_division(w.key) for w in wanted)
    if any(division is None or division.recipe != share.recipe.to_json() for division in divisions):
        raise UserError("the shards' folders are not those that the client made; is the home on shared storage?")
    with torch_threads(share.recipe.threads):
        trunk = Trunk(cut, outputs, share.recipe, device, preprocessing)
    return _Bench(data, rows, wanted, divisions, Preprocessor(preprocessing, device), trunk)


def _divisions(wanted: Sequence[Wanted], rows: np.ndarray, recipe: Recipe) -> list[store.Division]:
    """How each file is divided: as it was begun by this recipe, else anew."""
    begun = [store.begun_division(w.key) for w in wanted]
    asked = (len(rows), recipe.to_json())
    if all(b and (b.rows, b.recipe) == asked for b in begun) and len({b.size for b in begun}) == 1:
        return begun
    size = rows_per_shard(len(rows), recipe.batch)
    return [store.Division(w.key, w.about, len(rows), size, recipe.to_json()).keep() for w in wanted]


def _join(divisions: Sequence[store.Division], made: dict[int, tuple[str, ...]]) -> None:
    for each, division in enumerate(divisions):
        store.join(division, [made[number][each] for number in range(len(division))])


def _open(
    wanted: Wanted, division: store.Division, key: Any, data: Split, rows: np.ndarray, recipe: Recipe
) -> store.PartialFile:
    return store.PartialFile.open(
        key,
        division.about,
        shape=(len(rows), *wanted.shape),
        dtype=key.dtype,
        labels=data.labels[rows],
        index=rows,
        recipe=recipe.to_json(),
        folder=division.folder,
    )


def _complete(divisions: Sequence[store.Division], rows: np.ndarray, number: int) -> tuple[str, ...] | None:
    """The names of a shard's files, one of each division, if all are complete."""
    names = []
    for division in divisions:
        with contextlib.suppress(store.CacheError):
            if file := division.find(division.key_of(rows[division.rows_of(number)])):
                names.append(file.path.name)
    return tuple(names) if len(names) == len(divisions) else None


def _count(division: store.Division, number: int) -> int:
    here = division.rows_of(number)
    return here.stop - here.start
