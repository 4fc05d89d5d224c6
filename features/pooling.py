"""How a layer's output becomes one row of numbers: the spelling, and what it does to a shape.

The computation is in `extract.pooling`; the name is part of a cache's key. Tokens that stand for no place of the image
(class, register and distillation tokens) come first, and a layout says how many there are: 'tokens', 'class tokens',
'class and 4 more tokens', '4 more tokens'.
"""

import math
import re

from features.errors import UserError

POOLS = "avg, max, cls (the class token), cls+avg, grid:N (N x N averages) or none"


def parse_pool(text: str) -> str:
    """The canonical spelling of a pooling: 'avg', 'max', 'cls', 'cls+avg', 'none' or 'grid:N' with N of at least 1."""
    text = text.strip().lower()
    if text in ("avg", "max", "cls", "cls+avg", "none") or (re.fullmatch(r"grid:[1-9]\d?", text)):
        return "avg" if text == "grid:1" else text
    raise UserError(f"--pool {text}: give {POOLS}, for instance grid:4")


def tokens_layout(prefix: int, has_class_token: bool) -> str:
    """The layout of tokens of which so many come before those of the places."""
    more = prefix - has_class_token
    words = ["class"] * has_class_token + [f"{more} more"] * bool(more)
    return " and ".join(words) + " tokens" if words else "tokens"


def prefix_tokens(layout: str) -> int:
    """How many tokens come before those of the places."""
    more = re.search(r"(\d+) more", layout)
    return layout.startswith("class") + (int(more[1]) if more else 0)


def canonical_pool(pool: str, shape: tuple[int, ...], layout: str) -> str:
    """The pooling that gives the same numbers and is cached: all are one where there is one place, or none.

    A grid at least as fine as the map gives the map, and poolings of a flat output leave it alone. UserError for a
    class token where there is none, and for a grid of tokens that fill no square.
    """
    is_token = layout.endswith("tokens")
    places = {"map": shape[1:], "map last": shape[:2]}.get(layout, (shape[0],) if is_token else None)
    if pool != "none" and (layout in ("flat", "other") or (places and max(places) == 1)):
        return "avg"
    if pool.startswith("cls") and not layout.startswith("class"):
        raise UserError(f"--pool {pool}: this layer gives {shape} without a class token; take avg, max or grid:4")
    if pool.startswith("grid:"):
        if is_token:
            side = math.isqrt(count := shape[0] - prefix_tokens(layout))
            if side * side != count:
                raise UserError(f"--pool {pool}: {count} tokens of this layer fill no square; take avg or max")
            places = (side, side)
        assert places is not None  # all other layouts are flat
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
        if layout.endswith("tokens"):
            rows = columns = math.isqrt(shape[0] - prefix_tokens(layout))
        return (channels * min(side, rows) * min(side, columns),)
    return (2 * channels if pool == "cls+avg" else channels,)
