"""Figures as values: panels of labelled lines with intervals, drawn with matplotlib or written as JSON.

What an experiment wants drawn is data like its tables; only `panels_figure` needs matplotlib.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any

from classify.show.figures import COLOURS, GREY, MARKERS, figure_class


@dataclass(frozen=True)
class Line:
    """One line. x, y: as many numbers; low, high: the ends of the intervals around y, or empty. dashed: a control."""

    label: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    dashed: bool = False


@dataclass(frozen=True)
class Panel:
    """One pair of axes. ticks: (place, text) pairs on the x axis, by default numbers. log: the x axis is logarithmic.

    levels: heights marked by a thin horizontal line each.
    """

    title: str
    x: str
    y: str
    lines: tuple[Line, ...]
    log: bool = False
    ticks: tuple[tuple[float, str], ...] = ()
    levels: tuple[float, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return dataclasses.asdict(self)


def panels_figure(title: str, panels: tuple[Panel, ...]) -> Any:
    """The panels side by side under one title, with one legend: a label has the same colour in each of them.

    UserError where matplotlib is not installed.
    """
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    figure = figure_class()(figsize=(1.8 + 4.2 * columns, 0.6 + 3.9 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    labels = list(dict.fromkeys(line.label for panel in panels for line in panel.lines))
    for place, panel in zip(axes, panels, strict=False):
        _draw(place, panel, labels)
    for place in axes[len(panels) :]:
        place.set_visible(False)
    handles = {label: line for place in axes for line, label in zip(*place.get_legend_handles_labels(), strict=True)}
    shown = [label for label in labels if label in handles]
    figure.legend([handles[label] for label in shown], shown, loc="outside right center", frameon=False, fontsize=9)
    figure.suptitle(title, fontsize=10, x=0.01, ha="left")
    return figure


def _draw(axes: Any, panel: Panel, labels: list[str]) -> None:
    for line in panel.lines:
        number = labels.index(line.label)
        style = {
            "color": COLOURS[number % len(COLOURS)],
            "marker": MARKERS[number % len(MARKERS)],
            "markersize": 4.5,
            "linewidth": 1.5,
            "linestyle": "--" if line.dashed else "-",
        }
        errors = None
        if line.low:
            errors = [
                [max(0.0, y - low) for y, low in zip(line.y, line.low, strict=True)],
                [max(0.0, high - y) for y, high in zip(line.y, line.high, strict=True)],
            ]
        axes.errorbar(line.x, line.y, yerr=errors, label=line.label, capsize=2, **style)
    for level in panel.levels:
        axes.axhline(level, color=GREY, linewidth=0.8, linestyle=(0, (1.5, 2)))
    if panel.log:
        axes.set_xscale("log")
    if panel.ticks:
        axes.set_xticks([place for place, _ in panel.ticks], [text for _, text in panel.ticks], fontsize=8)
        axes.minorticks_off()
    axes.set_title(panel.title, fontsize=10, loc="left")
    axes.set_xlabel(panel.x)
    axes.set_ylabel(panel.y)
    axes.grid(axis="y", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
