"""Figures as values: panels of labelled lines with intervals, drawn with matplotlib or written as JSON.

What an experiment wants drawn is data like its tables; only `panels_figure` needs matplotlib.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np

from classify.show.figures import COLOURS, GREY, MARKERS, figure_class
from classify.show.scale import MOSTLY_RIGHT, accuracy_ticks, errors_apart, percent_again


@dataclass(frozen=True)
class Line:
    """One line. x, y: as many numbers; low, high: the ends of the intervals around y, or empty.

    dashed: a control. series: lines of one series have one colour and mark, by default those of one label.
    connected: its points are joined.
    """

    label: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    dashed: bool = False
    series: str = ""
    connected: bool = True


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
    share: how wide it is beside the others.
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

    def to_json(self) -> dict[str, Any]:
        """Plain values; what is as usual is left out, as it was before there was anything else."""
        fields = dataclasses.asdict(self)
        usual = {field.name: field.default for kind in (Panel, Line) for field in dataclasses.fields(kind)}
        for part in (fields, *fields["lines"]):
            for name in ("errors", "share", "series", "connected"):
                if part.get(name) == usual[name]:
                    part.pop(name, None)
        return fields


def panels_figure(title: str, panels: tuple[Panel, ...]) -> Any:
    """The panels side by side under one title, with one legend: a series has the same colour in each of them.

    UserError where matplotlib is not installed.
    """
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    shares = [panel.share for panel in panels]
    if all(shares) and rows == 1:
        figure = figure_class()(figsize=(2.6 + 0.95 * sum(shares), 4.8), layout="constrained")
        axes = figure.subplots(1, columns, sharey=True, squeeze=False, width_ratios=shares).ravel()
    else:
        figure = figure_class()(figsize=(1.8 + 4.2 * columns, 0.6 + 3.9 * rows), layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False).ravel()
    lines = [line for panel in panels for line in panel.lines]
    series = list(dict.fromkeys(line.series or line.label for line in lines))
    for place, panel in zip(axes, panels, strict=False):
        _draw(place, panel, series)
    if all(shares) and rows == 1:
        # They share the scale, which stands at the first of them.
        _spread_errors(axes[0], panels)
        for place in axes[1:]:
            place.set_ylabel("")
    for place in axes[len(panels) :]:
        place.set_visible(False)
    handles = {label: line for place in axes for line, label in zip(*place.get_legend_handles_labels(), strict=True)}
    order = list(
        dict.fromkeys(line.label for line in sorted(lines, key=lambda line: line.dashed and bool(line.series)))
    )
    shown = sorted(handles, key=lambda label: order.index(label) if label in order else len(order))
    figure.legend([handles[label] for label in shown], shown, loc="outside right center", frameon=False, fontsize=9)
    figure.suptitle(title, fontsize=10, x=0.01, ha="left")
    return figure


def _draw(axes: Any, panel: Panel, series: list[str]) -> None:
    joined = {line.label for line in panel.lines if line.connected}
    for line in panel.lines:
        number = series.index(line.series or line.label)
        faint = line.dashed and bool(line.series)
        style: dict[str, Any] = {
            "color": COLOURS[number % len(COLOURS)],
            "marker": MARKERS[number % len(MARKERS)],
            "markersize": 4 if faint else 5 if line.series else 4.5,
            "linewidth": 1.2 if faint else 1.6 if line.series else 1.5,
            "linestyle": "none" if not line.connected else "--" if line.dashed else "-",
            "label": line.label if line.connected or line.label not in joined else None,
        }
        if faint:
            style["markerfacecolor"] = "white"
        # No error at all has no place on a scale of errors.
        heights = np.minimum(line.y, 99.99) if panel.errors else line.y
        errors = None
        if line.low:
            errors = np.maximum(0.0, [np.subtract(line.y, line.low), np.subtract(line.high, line.y)])
        axes.errorbar(line.x, heights, yerr=errors, capsize=2, **style)
    for level in panel.levels:
        if isinstance(level, Level):
            dotted = (0, (1.5, 2))
            style = {"linewidth": 1.2, "linestyle": "--" if level.dashed else dotted, "label": level.label}
            axes.axhline(level.y, color=GREY, **style)
        else:
            axes.axhline(level, color=GREY, linewidth=0.8, linestyle=(0, (1.5, 2)))
    if panel.log:
        axes.set_xscale("log")
    if panel.ticks:
        places, texts = zip(*panel.ticks, strict=True)
        slanted = {"rotation": 35, "ha": "right", "fontsize": 9} if panel.share else {"fontsize": 8}
        axes.set_xticks(places, texts, **slanted)
        axes.minorticks_off()
    if panel.share:
        axes.set_xlim(-0.5, len(panel.ticks) - 0.5)
    axes.set_title(panel.title, fontsize=10, loc="left")
    axes.set_xlabel(panel.x)
    axes.set_ylabel(panel.y)
    axes.grid(axis="y", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _spread_errors(axes: Any, panels: tuple[Panel, ...]) -> None:
    """Percent as they are, or spread towards 100 where the best is mostly right and differences are small."""
    lines = [line for panel in panels for line in panel.lines]
    levels = [level.y for panel in panels for level in panel.levels if isinstance(level, Level)]
    if max([*levels, *(height for line in lines for height in line.y)]) < 100 * MOSTLY_RIGHT:
        axes.set_ylim(0, 100)
        return
    low = min([*levels, *(end for line in lines for end in line.low)])
    high = max([*levels, *(end for line in lines for end in line.high)])
    bottom, top, ticks = accuracy_ticks(low, high)
    axes.set_yscale("function", functions=(errors_apart, percent_again))
    axes.set_yticks(ticks)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.minorticks_off()
    axes.set_ylim(bottom, top)
