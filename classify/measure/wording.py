"""How a measured number is spelled, in results, tables and figures alike.

Each function turns a plain number into a short text and None into '-'. What stands in a file stays the full number.
"""

from collections.abc import Mapping
from typing import Any

MISSING = "-"


def percent(fraction: float | None, digits: int = 2) -> str:
    """A fraction as percent without the sign: 0.9842 is '98.42'."""
    return MISSING if fraction is None else f"{100 * fraction:.{digits}f}"


def percent_interval(estimate: tuple[float, float, float] | None, digits: int = 2) -> str:
    """(value, low, high) as '98.42 ±0.25': the value and half the width of its interval, in percent.

    A Wilson interval is not symmetric close to 0 and 100 %. Where ± would promise what is not possible, the distances
    to both ends are given: '99.50 +0.33/-0.95', '100.00 -6.02'. The ends themselves stand in the JSON and CSV forms.
    Without any width, as of one seed, the value alone.
    """
    if estimate is None:
        return MISSING
    value, low, high = estimate
    shown, half = percent(value, digits), percent((high - low) / 2, digits)
    if low >= high:
        return shown
    # What is read is what must be possible: 99.996 ±0.004 is printed as 100.00 ±0.00.
    if float(half) <= min(float(shown), 100 - float(shown)) + 1e-9:
        return f"{shown} ±{half}"
    # Student's interval of a mean over seeds may itself end beyond.
    ends = (("+", percent(min(high, 1.0) - value, digits)), ("-", percent(value - max(low, 0.0), digits)))
    return f"{shown} {'/'.join(sign + length for sign, length in ends if float(length))}".rstrip()


def decimal(value: float | None, digits: int = 4) -> str:
    """A number with a fixed count of decimals."""
    return MISSING if value is None else f"{value:.{digits}f}"


def count(value: int | None) -> str:
    """A whole number with its thousands apart: '60,000'."""
    return MISSING if value is None else f"{value:,}"


def counted(number: int, noun: str) -> str:
    """So many of something, with a regular plural: '1 test image', '10,000 test images'."""
    return f"{count(number)} {noun}{'' if number == 1 else 's'}"


def whole(value: float | None) -> str:
    """The nearest whole number, as `count` has it: a mean of several counts need not be one."""
    return MISSING if value is None else count(round(value))


def gigabytes(size: float | None) -> str:
    """Bytes as '1.25 GB', of 1e9 bytes."""
    return MISSING if size is None else f"{size / 1e9:.2f} GB"


def duration(seconds: float | None) -> str:
    """Seconds as people say them: '3.4 ms', '12.3 s', '1 min 15 s', '2 h 05 min'."""
    if seconds is None:
        return MISSING
    if seconds < 0.9995:
        return f"{1000 * seconds:.1f} ms" if seconds < 0.0995 else f"{1000 * seconds:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    if seconds < 3599.5:
        minutes, rest = divmod(round(seconds), 60)
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02d} min"


def settings(values: Mapping[str, Any]) -> str:
    """Hyper-parameters as 'C=10, gamma=scale'; floats to four significant digits."""
    spelled = (f"{value:.4g}" if isinstance(value, float) else str(value) for value in values.values())
    return ", ".join(f"{name}={text}" for name, text in zip(values, spelled, strict=True)) or MISSING


def one_line(text: Any) -> str:
    """A text that came from a file, fit for a terminal: whatever cannot be printed (escapes, line ends) becomes '?'."""
    return "".join(sign if sign.isprintable() else "?" for sign in str(text))
