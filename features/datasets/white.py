"""How bright white is, where the type of the numbers does not say: 12 bits in a 16-bit file, masks of 0 and 1, floats.

White is settled once for a data set, by the largest number that all its images hold, and kept with what is trained on
it: the same image has to become the same pixels whatever stands beside it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

FULL = 255  # white of what networks are given
DEEPEST = 65535
_ALL_ONES = (FULL, 1023, 4095, 16383, DEEPEST)  # white of 8, 10, 12, 14 and 16 bits
DIM = 64  # below this, whole numbers are not on any of these scales: the largest of them is white
_NEARLY_BLACK = 16  # of 255
_FLAT = 3  # of 255: an image whose values lie no further apart is of one colour


@dataclass(frozen=True)
class White:
    """The value that stands for white in images of up to 8 bits, of more bits, and of floating-point numbers.

    None: there were none of them, and an image by itself says what is white in it. certain: False for what version
    0.1.0 trained, which took 65535 for white whatever the images held, and kept no note of it.
    """

    shallow: float = FULL
    deep: int | None = None
    real: float | None = None
    certain: bool = True

    @classmethod
    def of(cls, shallow: float = 0, deep: float | None = None, real: float | None = None) -> "White":
        """What is white where these are the largest numbers of each kind; None: there are none of the kind."""
        return cls(
            shallow=whole_white(shallow),
            deep=None if deep is None else int(whole_white(deep)),
            real=None if real is None else real_white(real),
        )

    @classmethod
    def from_json(cls, fields: Mapping[str, Any] | None) -> "White":
        """What `to_json` described; None: what a record of version 0.1.0 means. ValueError for what it cannot say."""
        if fields is None:
            return cls(deep=DEEPEST, certain=False)
        if not set(fields) <= {"shallow", "deep", "real"} or not all(0 < value <= DEEPEST for value in fields.values()):
            raise ValueError(f"{dict(fields)} does not say what is white")
        return cls(**fields)

    def to_json(self) -> dict[str, float]:
        """The values that are known, or are not the usual ones."""
        known = {"deep": self.deep, "real": self.real}
        usual = {} if self.shallow == FULL else {"shallow": self.shallow}
        return usual | {name: value for name, value in known.items() if value is not None}

    @property
    def unlike_0_1_0(self) -> dict[str, float]:
        """The values by which images become other pixels than in version 0.1.0; for fingerprints."""
        usual = {"deep": DEEPEST, "real": 1}
        return {name: value for name, value in self.to_json().items() if usual.get(name) != value}


def whole_white(highest: float) -> float:
    """What stands for white where this is the largest whole number: all ones, in the fewest bits that devices have.

    Numbers that stay below 64 are on no such scale, and the largest is white. ValueError beyond 16 bits.
    """
    if highest > DEEPEST:
        raise ValueError(f"its values reach to {highest:,.0f}, beyond 16 bits")
    if 0 < highest < DIM:
        return highest
    return next(white for white in _ALL_ONES if highest <= white)


def real_white(highest: float) -> float:
    """The same of floating-point numbers: 1 for those that reach beyond a quarter and not beyond 1."""
    return 1.0 if highest == 0 or 0.25 <= highest <= 1 else highest if highest < 1 else whole_white(highest)


def as_bytes(values: np.ndarray, white: float) -> np.ndarray:
    """Numbers from 0 to white as uint8, white as 255; ValueError for numbers beyond."""
    if reason := beyond(*extremes(values), white):
        raise ValueError(reason)
    return np.round(values.astype(np.float64) * FULL / white).clip(0, FULL).astype(np.uint8)


def beyond(low: float, high: float, white: float) -> str:
    """That numbers reach beyond black or white; ''. What rounds to these is no mistake."""
    if -white / 510 <= low and high <= white * (1 + 1 / 510):
        return ""
    return f"its values reach from {low:g} to {high:g}, where 0 is black and {white:g} white"


def extremes(values: np.ndarray) -> tuple[float, float]:
    """The least and the largest number, 0 and 0 of none; ValueError where there is a NaN or infinity."""
    low, high = (values.min(), values.max()) if values.size else (0, 0)
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ValueError("it holds NaN or infinity")
    return float(low), float(high)


def is_flat(spread: float, white: float) -> bool:
    """Whether an image whose values lie so far apart is all but of one colour."""
    return spread * FULL <= _FLAT * white


def is_nearly_black(high: float, white: float) -> bool:
    """Whether an image of at most this value is too dark for anything to be seen."""
    return high * FULL <= _NEARLY_BLACK * white
