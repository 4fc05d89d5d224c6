"""The ranges that int8 computes in: fixed before the first image, known by their digest, and kept in the home.

A set of ranges says between which values each quantised map of one network lies: {node: (lowest, highest)}. Its
precision is `int8:` and the first sixteen hex digits of its SHA-256, which is what cache keys hold; so features of
other ranges are other features, and a set can be looked up, or brought along by a record, without trusting whoever
wrote it. Where weights have seven bits instead of eight, the set says that as well. How ranges are found is not known
here: who computes hands the function that does.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

from features.digests import sha256_json
from features.errors import UserError
from features.home import home
from features.notes import if_there_is_place, read_json, remembered_answer, write_json

Ranges = dict[str, tuple[float, float]]

# So many training images they are found on, whatever limit a run has: what some rows are computed in, all rows are.
RANGE_ROWS = 256
_VERSION = 1  # of how they are found

# Levels of a weight on each side of zero: of eight bits, and of seven. Without VNNI, two products with a byte are added
# in 16 bits, into which those of seven bits fit: 2 * 255 * 63 < 2 ** 15.
EIGHT_BITS, SEVEN_BITS = 127, 63
_WEIGHTS = "all weights"  # No node has a space in its name.

_SPELLED = re.compile(r"int8:[0-9a-f]{16}")
# What this process has met in a home that nothing can be written into.
_unwritten: dict[str, Ranges] = {}


def is_int8(precision: str) -> bool:
    """Whether a key's precision is that of a set of ranges."""
    return _SPELLED.fullmatch(precision) is not None


def asks_int8(precision: str) -> bool:
    """Whether it is int8 as it is asked for, before its ranges are known, or that of a set of ranges."""
    return precision == "int8" or is_int8(precision)


def with_levels(ranges: Ranges, levels: int) -> Ranges:
    """The set for weights of so many levels, EIGHT_BITS or SEVEN_BITS."""
    return ranges if levels == EIGHT_BITS else {**ranges, _WEIGHTS: (-float(levels), float(levels))}


def weight_levels(ranges: Ranges) -> int:
    """How many levels the weights of a set have on each side of zero."""
    return round(ranges[_WEIGHTS][1]) if _WEIGHTS in ranges else EIGHT_BITS


def keep_ranges(ranges: Mapping[str, Any]) -> str:
    """Keep a set of ranges where `ranges_of` finds it; the precision that it gives. ValueError for what is none."""
    sound = _sound(ranges)
    precision = f"int8:{sha256_json(sound)[:16]}"
    as_written = {name: list(bounds) for name, bounds in sound.items()}
    if read_json(_place(precision)) != as_written:
        with if_there_is_place():
            write_json(_place(precision), sound)
        if read_json(_place(precision)) != as_written:
            _unwritten[precision] = sound
    return precision


def ranges_of(precision: str) -> Ranges | None:
    """The set of ranges of a precision; None where it is not kept here."""
    kept = read_json(_place(precision))
    try:
        sound = _sound(kept)
        if f"int8:{sha256_json(sound)[:16]}" == precision:
            return sound
    except (AttributeError, TypeError, ValueError):
        pass  # Damaged, or not there.
    return _unwritten.get(precision)


def require_ranges(precision: str) -> Ranges:
    """The same, or a UserError that says how to have them again."""
    ranges = ranges_of(precision)
    if ranges is None:
        raise UserError(
            f"the ranges of {precision} are not saved in {home() / 'ranges'}; the same `python -m extract --precision "
            "int8` on the same training images finds them again"
        )
    return ranges


def settle_precision(precision: str, question: Mapping[str, Any], find: Callable[[], Ranges] | None) -> str:
    """`int8:...` for what int8 comes to, found the first time and then remembered; other precisions as they are.

    question: all that the ranges depend on. find: finds them; None where nothing is to be computed. UserError where
    they would have to be found then, and where a precision asked for by its digits is not kept here and other ranges
    are found.
    """
    if precision != "int8" and (not is_int8(precision) or ranges_of(precision)):
        return precision

    def kept_anew() -> str:
        if find is None:
            raise UserError(
                "--precision int8: its ranges have not been found yet for this network and these data; "
                "`python -m extract --precision int8` with the same options finds them"
            )
        return keep_ranges(find())

    asked = f"ranges of int8 {sha256_json([_VERSION, RANGE_ROWS, dict(question)])}"
    settled = remembered_answer(asked, kept_anew)
    if ranges_of(settled) is None:
        settled = kept_anew()
    if precision not in ("int8", settled):
        raise UserError(
            f"the ranges of {precision} are not saved here, and these training images give {settled}; take the home, "
            "or the record of the result, in which they stand"
        )
    return settled


def _place(precision: str) -> Any:
    return home() / "ranges" / f"{precision.removeprefix('int8:')}.json"


def _sound(ranges: Mapping[str, Any]) -> Ranges:
    sound = {str(name): _bounds(bounds) for name, bounds in ranges.items()}
    if weight_levels(sound) not in (EIGHT_BITS, SEVEN_BITS):
        raise ValueError(f"weights of {weight_levels(sound)} levels are not computed")
    return sound


def _bounds(bounds: Any) -> tuple[float, float]:
    low, high = bounds
    if not (type(low) is type(high) is float and -float("inf") < low <= 0 <= high < float("inf") and low < high):
        raise ValueError(f"{bounds} is no range around zero")
    return low, high
