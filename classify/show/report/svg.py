"""SVG by hand: elements with everything in them escaped, and scales that turn numbers into places and ticks.

Colours and widths are the page's classes, so that a figure follows its theme; the page writes them into a figure that
is downloaded.
"""

import html
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from classify.show.scale import accuracy_ticks, errors_apart

MARKS = ("circle", "square", "triangle", "diamond", "down", "plus", "cross")
SERIES = 7


def element(name: str, *children: str, text: str | None = None, **attributes: Any) -> str:
    """One element: `class_` stands for class and `stroke_width` for stroke-width; None leaves an attribute out."""
    spelled = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(_plain(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    inside = (html.escape(text) if text is not None else "") + "".join(children)
    return f"<{name}{spelled}>{inside}</{name}>" if inside else f"<{name}{spelled}/>"


def _plain(value: Any) -> str:
    return f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else str(value)


def drawing(width: float, height: float, parts: Sequence[str], label: str, variant: str) -> str:
    """A figure that scales with the page. label: what is read out in its place. variant: 'wide' or 'narrow'."""
    return element(
        "svg",
        *parts,
        class_=f"chart {variant}",
        viewBox=f"0 0 {width:g} {height:g}",
        role="img",
        tabindex=0,
        aria_label=label,
        xmlns="http://www.w3.org/2000/svg",
    )


def words(x: float, y: float, text: str, class_: str = "label", anchor: str = "start", **more: Any) -> str:
    """A line of text."""
    return element("text", text=text, x=float(x), y=float(y), class_=class_, text_anchor=anchor, **more)


def mark(shape: str, x: float, y: float, class_: str, size: float = 4.5, **more: Any) -> str:
    """One data point."""
    if shape == "circle":
        return element("circle", cx=float(x), cy=float(y), r=size, class_=class_, **more)
    s = size * 1.15
    corners = {
        "square": [(-0.85, -0.85), (0.85, -0.85), (0.85, 0.85), (-0.85, 0.85)],
        "triangle": [(0, -1.1), (1.05, 0.8), (-1.05, 0.8)],
        "down": [(0, 1.1), (1.05, -0.8), (-1.05, -0.8)],
        "diamond": [(0, -1.2), (1.1, 0), (0, 1.2), (-1.1, 0)],
        "plus": [
            (-0.35, -1.1), (0.35, -1.1), (0.35, -0.35), (1.1, -0.35), (1.1, 0.35), (0.35, 0.35),
            (0.35, 1.1), (-0.35, 1.1), (-0.35, 0.35), (-1.1, 0.35), (-1.1, -0.35), (-0.35, -0.35),
        ],
        "cross": [
            (0, -0.5), (0.6, -1.1), (1.1, -0.6), (0.5, 0), (1.1, 0.6), (0.6, 1.1),
            (0, 0.5), (-0.6, 1.1), (-1.1, 0.6), (-0.5, 0), (-1.1, -0.6), (-0.6, -1.1),
        ],
    }[shape]  # fmt: skip
    points = " ".join(f"{x + s * dx:.1f},{y + s * dy:.1f}" for dx, dy in corners)
    return element("polygon", points=points, class_=class_, **more)


@dataclass(frozen=True)
class Scale:
    """A number's place between `start` and `end`: `bend` is applied first, `ticks` are where lines are drawn."""

    low: float
    high: float
    start: float
    end: float
    ticks: tuple[float, ...]
    bend: Callable[[float], float] = float

    def __call__(self, value: float) -> float:
        low, high = self.bend(self.low), self.bend(self.high)
        share = (self.bend(min(max(value, self.low), self.high)) - low) / ((high - low) or 1.0)
        return self.start + share * (self.end - self.start)


def linear(low: float, high: float, start: float, end: float, most: int = 6, whole: bool = False) -> Scale:
    """Even steps of 1, 2 or 5 times a power of ten, from a tick at or below `low` to one at or above `high`. whole:
    of counts, between which there are no ticks."""
    span = (high - low) or abs(high) or 1.0
    step = 10 ** math.floor(math.log10(span / most))
    step *= next(factor for factor in (1, 2, 5, 10) if span / (factor * step) <= most)
    step = max(step, 1.0) if whole else step
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    last = max(last, first + 1)
    ticks = tuple(round(number * step, 12) for number in range(first, last + 1))
    return Scale(ticks[0], ticks[-1], start, end, ticks)


def logarithmic(low: float, high: float, start: float, end: float, ticks: Sequence[float]) -> Scale:
    """A logarithmic scale a little wider than its numbers, with those of the ticks that lie on it."""
    low, high = low / 1.35, high * 1.35
    return Scale(low, high, start, end, tuple(tick for tick in ticks if low <= tick <= high), math.log10)


def accuracies(low: float, high: float, start: float, end: float, mostly_right: bool) -> Scale:
    """Percent. Where models are mostly right it is drawn by its errors: 99 is as far from 90 as 99.9 from 99."""
    if not mostly_right:
        return linear(max(0.0, low - 2), min(100.0, high + 2), start, end)
    bottom, top, ticks = accuracy_ticks(low, high)
    return Scale(bottom, top, start, end, ticks, lambda value: float(errors_apart(value)))
