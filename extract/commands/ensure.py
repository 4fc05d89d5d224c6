"""Make what a request needs, with its cost said first, a progress bar, and a line on what was done."""

import contextlib
import dataclasses
from collections.abc import Sequence

from extract import planning
from features.request import Plan, Request, Wanted

_SOME = 20  # images, below which nothing is worth a remark


def ensure_features(
    request: Request, *, compiled: str = "auto", jobs: int | None = None, dry_run: bool = False, quiet: bool = False
) -> Plan:
    """The plan for a request, all of whose files are in the cache afterwards (unless it is a `dry_run`).

    quiet leaves out what was in the cache already. Neither torch nor the network is loaded when nothing is missing.
    """
    return ensure_plan(planning.plan(request), compiled=compiled, jobs=jobs, dry_run=dry_run, quiet=quiet)


def ensure_plan(
    plan: Plan, *, compiled: str = "auto", jobs: int | None = None, dry_run: bool = False, quiet: bool = False
) -> Plan:
    """The same for what is planned already."""
    from extract.cost import Cost, memory_needed
    from features.commands.speaking import detail, is_verbose, say, tell_once
    from features.reading import missing, used_of_others
    from features.store.disk import as_bytes

    for line in _decided(plan):
        detail(line)
    todo = missing(plan)
    for wanted in {file.key.digest: file for file in plan.wanted}.values():
        if wanted not in todo and (is_verbose() or not quiet):
            say(f"in the cache: {wanted.split} {wanted.about.layer_name} ({wanted.key.pool}), {wanted.rows:,} rows")
    if line := used_of_others(plan):
        tell_once(line)
    if not todo:
        return plan
    if stale := _superseded(plan, todo):
        say(
            f"{', '.join(stale)}: made again; the cache has them of images that version 0.1.0 prepared, which was not "
            "right for these"
        )
    cost = Cost.of(todo)
    views = plan.request.views
    seen = f" x {views} views" if views > 1 else ""
    for layer, split, rows, numbers, size in cost.files:
        say(f"to extract: {split} {layer}, {rows:,}{seen} x {numbers // views:,} numbers, {as_bytes(size)}")
    if seen:
        say(f"each image goes through the network {views} times: {views} times the cost of one view")
    say(f"this takes {as_bytes(cost.disk)} of disk and about {as_bytes(memory_needed(cost))} of memory")
    if dry_run:
        return plan

    from extract.extraction import extract
    from features.commands.progress import row_progress

    with row_progress() as progress:
        passes = extract(plan, compiled=compiled, jobs=jobs, progress=progress, say=say)
    for done in passes:
        rate = views * done.images / done.seconds if done.seconds else 0
        say(
            f"{done.split}: {done.images:,} images{seen} in {done.seconds:.1f} s ({rate:,.0f} images/s, "
            f"{done.computing:.0%} of the time in the network): {', '.join(dict.fromkeys(done.layers))}"
        )
    if any(done.images >= _SOME and done.computing < 0.5 for done in passes) and _would_be_drafted(plan):
        say("most of the time went into decoding; --decode draft reads large JPEGs several times as fast")
    return plan


def _would_be_drafted(plan: Plan) -> bool:
    from features.datasets import open_dataset
    from features.preprocessing import Preprocessing
    from features.sizes import would_be_drafted

    steps = Preprocessing.parse(plan.wanted[0].key.preprocessing, "center")
    return steps.decode == "full" and would_be_drafted(open_dataset(plan.request.dataset), steps)


def _superseded(plan: Plan, todo: Sequence[Wanted]) -> list[str]:
    """The layers among those to be made that the cache holds as version 0.1.0 prepared the images for them."""
    from features import store

    stale: list[str] = []
    for wanted in todo if plan.superseded else ():
        with contextlib.suppress(store.CacheError):
            if store.find(dataclasses.replace(wanted.key, preprocessing=plan.superseded, revision=0, architecture="")):
                stale.append(wanted.about.layer_name)
    return list(dict.fromkeys(stale))


def _decided(plan: Plan) -> list[str]:
    """What a plan settled on: the network and its weights, how it computes, and the file of every layer."""
    key, about = plan.wanted[0].key, plan.wanted[0].about
    lines = [
        f"network: {key.backbone}, {about.weights_name} (SHA-256 {key.weights[:8]}), {key.image_size} pixels, "
        f"{key.precision} on {plan.request.device}"
    ]
    return lines + [
        f"{file.split} {file.about.layer_name} ({file.key.pool}): key {file.key.digest}" for file in plan.wanted
    ]
