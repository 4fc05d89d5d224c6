"""The scales of accuracies and of times, for files and for the page.

Where models are mostly right, accuracy is drawn by their errors: 99 % is then as far from 90 % as 99.9 % from 99 %.
"""

from typing import Any

import numpy as np

# From here on, as a fraction, differences are too small to be seen in percent.
MOSTLY_RIGHT = 0.9
# No error at all has no place on a scale of errors: it is drawn at its end.
_TICKS = (0.0, 50.0, 80.0, 90.0, 95.0, 97.0, 98.0, 99.0, 99.5, 99.8, 99.9, 99.95, 99.99)

_TIMES = (0.001, 0.01, 0.1, 1, 10, 60, 600, 3600, 36000, 360000)
_FINE_TIMES = (
    *(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30),
    *(60, 120, 300, 600, 1200, 3600, 7200, 18000, 36000, 86400),
)


def time_ticks(low: float, high: float) -> tuple[tuple[float, str], ...]:
    """Round times on a logarithmic scale that is a little wider than from low to high seconds, and how they read."""
    times = _FINE_TIMES if high < 60 * low else _TIMES
    return tuple((float(time), _time(time)) for time in times if low / 1.35 <= time <= high * 1.35)


def _time(seconds: float) -> str:
    if seconds < 1:
        return f"{1000 * seconds:g} ms"
    if seconds < 60:
        return f"{seconds:g} s"
    return f"{seconds / 60:g} min" if seconds < 3600 else f"{seconds / 3600:g} h"


def accuracy_ticks(low: float, high: float) -> tuple[float, float, tuple[float, ...]]:
    """The lower end, the upper end and the ticks of a scale of errors for percent between low and high."""
    bottom = max((tick for tick in _TICKS[:-1] if tick <= low), default=0.0)
    top = min((tick for tick in _TICKS if tick >= high and tick > bottom), default=_TICKS[-1])
    return bottom, top, tuple(tick for tick in _TICKS if bottom <= tick <= top)


def errors_apart(percent: Any) -> Any:
    """The height of percent (numbers or arrays): minus the logarithm of the share of errors."""
    return -np.log10(1.0 - np.minimum(np.asarray(percent, dtype=float), 99.995) / 100)


def percent_again(height: Any) -> Any:
    """The percent that are drawn at a height."""
    return 100 * (1 - 10.0 ** -np.asarray(height, dtype=float))
