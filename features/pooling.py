"""How a layer's output becomes one row of numbers: the spelling, and what it does to a shape.

The computation is in `extract.pooling`; the name is part of a cache's key.
"""

import re

from features.errors import UserError

POOLS = "avg, max, grid:N (N x N averages) or none"


def parse_pool(text: str) -> str:
    """The canonical spelling of a pooling: 'avg', 'max', 'none' or 'grid:N' with N of at least 1."""
    text = text.strip().lower()
    if text in ("avg", "max", "none") or (re.fullmatch(r"grid:[1-9]\d?", text)):
        return "avg" if text == "grid:1" else text
    raise UserError(f"--pool {text}: give {POOLS}, for instance grid:4")


def canonical_pool(pool: str, shape: tuple[int, ...], layout: str) -> str:
    """The pooling that gives the same numbers and is cached: all are one where there is one place, or none.

    A grid at least as fine as the map gives the map, and poolings of a flat output leave it alone.
    """
    places = {"map": shape[1:], "map last": shape[:2]}.get(layout)
    if pool != "none" and (layout in ("flat", "other") or (places and max(places) == 1)):
        return "avg"
    if pool.startswith("grid:"):
        if places is None:
            raise UserError(f"--pool {pool}: this layer gives tokens, not a map of {shape}; take avg or max")
        return f"grid:{min(int(pool[5:]), max(places))}"
    return pool


def pooled_shape(pool: str, shape: tuple[int, ...], layout: str) -> tuple[int, ...]:
    """The shape of one image's row in the cache; maps that are kept whole have their channels first."""
    if pool == "none":
        return (shape[2], *shape[:2]) if layout == "map last" else shape
    channels = {"map": shape[0], "map last": shape[-1], "flat": shape[0]}.get(layout, shape[-1])
    if pool.startswith("grid:"):
        side = int(pool[5:])
        rows, columns = shape[1:] if layout == "map" else shape[:2]
        return (channels * min(side, rows) * min(side, columns),)
    return (channels,)
