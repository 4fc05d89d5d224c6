"""Legal values as data: what a head or a training run may be given, and the complaint about anything else.

`--help` reads these, so nothing heavy is imported here.
"""

import math
import numbers
from dataclasses import dataclass
from typing import Any

from features.errors import UserError


class FitError(UserError, ValueError):
    """A head cannot be fitted with these arguments or samples."""


@dataclass(frozen=True)
class Number:
    """A legal range: numbers from `low` to `high`, `low` itself only where `closed`; whole numbers where `integer`."""

    low: float
    high: float = math.inf
    closed: bool = False
    integer: bool = False

    def admits(self, value: Any) -> bool:
        """Whether a value is of the right kind and inside the range."""
        kind = numbers.Integral if self.integer else numbers.Real
        if not isinstance(value, kind) or isinstance(value, bool):
            return False
        number = float(value)
        return math.isfinite(number) and (self.low < number <= self.high or (self.closed and number == self.low))

    def __str__(self) -> str:
        bound = f"{'of at least' if self.closed else 'above'} {self.low:g}"
        limit = f" and at most {self.high:g}" if math.isfinite(self.high) else ""
        return f"a {'whole ' if self.integer else ''}number {bound}{limit}"


@dataclass(frozen=True)
class OneOf:
    """A legal set of values."""

    values: tuple

    def admits(self, value: Any) -> bool:
        """Whether a value is one of them, True and 1 not being the same."""
        return any(type(value) is type(legal) and value == legal for legal in self.values)

    def __str__(self) -> str:
        return " or ".join(repr(value) for value in self.values)
