"""A pass made by the workers of a cluster: the rows divided into shards, each a file of its own, joined at the end.

The division depends on the rows and the recipe alone, not on the number of workers, and every shard but the last is
whole batches: so each image is computed in the batch that one machine would compute it in, to the same bytes. A shard
that is complete is never made again; one whose worker was lost is carried on by another from what was recorded.
"""

import contextlib
import dataclasses
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch

from extract import planning
from extract.bench import Bench, Part
from extract.cluster import spread
from extract.cost import record_seconds
from extract.one_pass import Pass, Progress, run_pass
from extract.preprocess import Preprocessor
from extract.trunk import Recipe, Trunk
from features import store
from features.errors import UserError
from features.request import Request, Wanted

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
    request: Request, part: Part, recipe: Recipe, *, cores: int, progress: Progress | None = None
) -> Pass:
    """Make the files of a part in shards, on the cluster if there is one. The caller holds the locks of their keys.

    A division that was begun by the same recipe is carried on, with its size of shards.
    """
    started = time.perf_counter()
    divisions = _divisions(part, recipe)
    made = _complete_shards(divisions, part.rows)
    share = Share(request, part.split, tuple(wanted.key.digest for wanted in part.wanted), recipe, cores)
    todo = [(share, number) for number in range(len(divisions[0])) if number not in made]
    done = sum(_count(divisions[0], number) for number in made)
    computed = []
    for shard in spread(make_shard, todo, threads=cores, ordered=False):
        made[shard.number] = shard.names
        computed.append(shard)
        done += _count(divisions[0], shard.number)
        if progress:
            progress(part.split, done, len(part.rows))
    _join(divisions, made)
    images, working = sum(shard.images for shard in computed), sum(shard.seconds for shard in computed)
    if images:
        # As long as one worker would have taken, so that tables compare costs and not clusters.
        record_seconds(part.wanted, images, working)
    share_of_trunk = sum(shard.computing for shard in computed) / max(working, 1e-9)
    return Pass(part.split, part.layers, images, time.perf_counter() - started, share_of_trunk)


def begun_divisions(wanted: Sequence[Wanted]) -> tuple[store.Division, ...] | None:
    """How files were divided; None unless all were begun in shards."""
    begun = [division for file in wanted if (division := store.begun_division(file.key))]
    return tuple(begun) if len(begun) == len(wanted) else None


def join_complete(part: Part) -> bool:
    """Join the files that lack only that, as after a kill between two layers' last steps; whether they all did."""
    divisions = begun_divisions(part.wanted)
    if divisions is None or not _alike(divisions, len(part.rows)):
        return False
    made = _complete_shards(divisions, part.rows)
    if len(made) < len(divisions[0]):
        return False
    _join(divisions, made)
    return True


def make_shard(share: Share, number: int) -> Made:
    """On a worker: make one shard of each of the files, unless it is there; UserError if this machine is no match."""
    started = time.perf_counter()
    place = _workplace(share)
    part = dataclasses.replace(place.part, rows=place.part.rows[place.divisions[0].rows_of(number)])
    pairs = list(zip(part.wanted, place.divisions, strict=True))
    keys = {division.key_of(part.rows): division for division in place.divisions}
    with contextlib.ExitStack() as stack:
        # Another command's worker may be at the same shard.
        for key in sorted(keys, key=lambda key: key.digest):
            stack.enter_context(store.lock(key, folder=keys[key].folder))
        files = [
            None
            if division.find(division.key_of(part.rows))
            else stack.enter_context(contextlib.closing(part.open(wanted, share.recipe.to_json(), division)))
            for wanted, division in pairs
        ]
        images, computing = 0, 0.0
        if any(files):
            try:
                images, computing = run_pass(part, files, place.preprocessor, place.trunk, cores=share.cores)
            except torch.OutOfMemoryError as error:
                raise UserError(
                    f"a batch of {share.recipe.batch} images does not fit into the memory of a worker's "
                    f"{place.trunk.device}; begin anew on one machine, where it is halved, or take a smaller "
                    "--image-size"
                ) from error
    names = _complete(place.divisions, place.part.rows, number)
    if names is None:
        name = place.divisions[0].path.name
        raise UserError(f"shard {number + 1} of {name} was made and cannot be read; run the same command again")
    return Made(number, names, images, time.perf_counter() - started, computing)


@dataclass(frozen=True, eq=False)
class _Workplace:
    """What a worker needs for every shard of a pass."""

    part: Part
    divisions: tuple[store.Division, ...]
    preprocessor: Preprocessor
    trunk: Trunk


@lru_cache(maxsize=1)
def _workplace(share: Share) -> _Workplace:
    """Set up once for each pass and worker."""
    plan = planning.plan(share.request)
    here = {wanted.key.digest: wanted for wanted in plan.wanted}
    if lacking := [key for key in share.keys if key not in here]:
        precisions = [wanted.key.precision for wanted in plan.wanted if wanted.split == share.split]
        raise UserError(
            f"a worker does not come to the same features as the client: it has no file {lacking[0][:16]} in its plan, "
            f"and computes in {[*precisions, 'no precision'][0]}; have the same data, weights, versions and kind of "
            "processor on all machines, and name --precision and --device"
        )
    wanted = [here[key] for key in share.keys]
    bench = Bench.of(plan.request)
    own = bench.recipe(wanted, images=1, compiled="off")
    if not own.can_follow(share.recipe.to_json()):
        setup, begun_with = (f"{recipe.device}, {', '.join(recipe.versions)}" for recipe in (own, share.recipe))
        raise UserError(
            f"a worker computes otherwise than the pass was begun: {setup} instead of {begun_with}; have the same "
            "processors and versions on all machines, so that features do not differ by who computed them"
        )
    part = bench.part(share.split, wanted)
    divisions = begun_divisions(wanted)
    if divisions is None or any(division.recipe != share.recipe.to_json() for division in divisions):
        raise UserError("the shards' folders are not those that the client made; is the home on shared storage?")
    return _Workplace(part, divisions, bench.preprocessor, bench.trunk(wanted, share.recipe))


def _divisions(part: Part, recipe: Recipe) -> tuple[store.Division, ...]:
    """How each file is divided: as it was begun by this recipe, else anew."""
    begun = begun_divisions(part.wanted)
    rows, by = len(part.rows), recipe.to_json()
    if begun and _alike(begun, rows) and all(division.recipe == by for division in begun):
        return begun
    size = rows_per_shard(rows, recipe.batch)
    return tuple(store.Division(file.key, file.about, rows, size, by).keep() for file in part.wanted)


def _alike(divisions: Sequence[store.Division], rows: int) -> bool:
    """Whether all divide so many rows, and in the same way."""
    return all((division.rows, division.size) == (rows, divisions[0].size) for division in divisions)


def _join(divisions: Sequence[store.Division], made: Mapping[int, tuple[str, ...]]) -> None:
    for place, division in enumerate(divisions):
        store.join(division, [made[number][place] for number in range(len(division))])


def _complete_shards(divisions: Sequence[store.Division], rows: np.ndarray) -> dict[int, tuple[str, ...]]:
    """The names of the files of every shard that is complete."""
    named = {number: _complete(divisions, rows, number) for number in range(len(divisions[0]))}
    return {number: names for number, names in named.items() if names is not None}


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
