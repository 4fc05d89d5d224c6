"""Charts as values: panels of labelled lines with intervals, painted for files (`figures`) and for the page (`report`).

What an experiment wants drawn is data like its tables. What both painters must agree on stands here: the colours'
order, the reach of a scale, and how a place along x is read.
"""

import dataclasses
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from classify.measure.wording import duration, one_line
from classify.show.scale import MOSTLY_RIGHT


@dataclass(frozen=True)
class Line:
    """One line. x, y: as many numbers; low, high: the ends of the intervals around y, or empty.

    dashed: a control. series: lines of one series have one colour and mark, by default those of one label; a line
    without points takes its colour and is not drawn. connected: its points are joined. names: what each point is
    called, where that is not the label. frontier: it joins points of other lines that no other point beats; their
    names are written beside them. ring: the x of a point that is marked by a ring.
    """

    label: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    dashed: bool = False
    series: str = ""
    connected: bool = True
    names: tuple[str, ...] = ()
    frontier: bool = False
    ring: float | None = None

    @property
    def is_seen(self) -> bool:
        """Whether anything is painted of it: what joins the best needs two of them."""
        return len(self.x) > 1 if self.frontier else bool(self.x)

    @property
    def family(self) -> str:
        """What its colour and mark belong to."""
        return self.series or self.label


@dataclass(frozen=True)
class Level:
    """A height that belongs to no place along x. dashed: a control of its own, beside dotted ones."""

    label: str
    y: float
    dashed: bool = False


@dataclass(frozen=True)
class Panel:
    """One pair of axes. ticks: (place, text) pairs on the x axis, by default numbers. log: the x axis is logarithmic.

    levels: heights marked by a thin horizontal line each, named in the legend if they are a `Level`. errors: y is
    percent right, and where the highest of all is mostly right it is drawn by its errors (see `scale`).
    share: how wide it is beside the others. seconds: x is a time, of which ticks are round ones.
    """

    title: str
    x: str
    y: str
    lines: tuple[Line, ...]
    log: bool = False
    ticks: tuple[tuple[float, str], ...] = ()
    levels: tuple[float | Level, ...] = ()
    errors: bool = False
    share: float = 0.0
    seconds: bool = False

    @property
    def heights(self) -> tuple[Level, ...]:
        """The levels, those without a name under an empty one."""
        return tuple(level if isinstance(level, Level) else Level("", level) for level in self.levels)

    @property
    def drawn(self) -> tuple[Line, ...]:
        """The lines that have points."""
        return tuple(line for line in self.lines if line.x)

    @property
    def frontier(self) -> tuple[Line, ...]:
        """The lines that join the best."""
        return tuple(line for line in self.drawn if line.frontier)

    def spelled_x(self, x: float) -> str:
        """A place along x as it is read: a time, the text of the nearest tick, or a number."""
        if self.seconds:
            return duration(x)
        return one_line(min(self.ticks, key=lambda tick: abs(tick[0] - x))[1]) if self.ticks else f"{x:.4g}"

    @property
    def x_name(self) -> str:
        """What stands along x, without what explains it."""
        return re.split("[,:]", self.x)[0]

    def to_json(self) -> dict[str, Any]:
        """Plain values; what is as usual is left out, as it was before there was anything else."""
        fields = dataclasses.asdict(self)
        usual = {field.name: field.default for kind in (Panel, Line) for field in dataclasses.fields(kind)}
        for part in (fields, *fields["lines"]):
            for name in ("errors", "share", "seconds", "series", "connected", "names", "frontier", "ring"):
                if part.get(name) == usual[name]:
                    part.pop(name, None)
        return fields


def families(panels: Iterable[Panel]) -> list[str]:
    """What has a colour and a mark of its own, in their order; the same in all panels of a chart."""
    return list(dict.fromkeys(line.family for panel in panels for line in panel.lines if not line.frontier))


def twins(panel: Panel, panels: Iterable[Panel]) -> tuple[Panel, ...]:
    """The panels shown with this one that measure the same, and so have the same scale upwards; itself among them."""
    alike = [other for other in panels if (other.y, other.errors) == (panel.y, panel.errors) and other.drawn]
    return tuple(alike) if panel in alike else (panel, *alike)


def twins_along(panel: Panel, panels: Iterable[Panel]) -> tuple[Panel, ...]:
    """The panels shown with this one that have the same scale along x; itself among them."""
    alike = [other for other in panels if (other.x, other.log, other.ticks) == (panel.x, panel.log, panel.ticks)]
    return tuple(other for other in alike if other.drawn) or (panel,)


def reach(panels: Iterable[Panel]) -> tuple[float, float]:
    """From the lowest to the highest of what panels draw: points, ends of intervals, levels."""
    ends = [
        end
        for panel in panels
        for part in (*((line.y, line.low, line.high) for line in panel.lines), [[level.y for level in panel.heights]])
        for numbers in part
        for end in numbers
    ]
    return min(ends), max(ends)


def drawn_by_errors(panels: Iterable[Panel]) -> bool:
    """Whether panels that share a scale show percent right, of which the highest is mostly right."""
    panels = tuple(panels)
    heights = [height for panel in panels for line in panel.lines for height in line.y]
    heights += [level.y for panel in panels for level in panel.heights]
    return all(panel.errors for panel in panels) and max(heights, default=0.0) >= 100 * MOSTLY_RIGHT
