"""Panels drawn with matplotlib (the extra `figures`) without a display. Results are read, never computed.

Colours are Okabe and Ito's, which people with any colour vision tell apart, and every line has a marker of its own.
"""

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from classify.show.panels import Line, Panel, drawn_by_errors, families, reach, twins, twins_along
from classify.show.placing import place_names
from classify.show.scale import accuracy_ticks, errors_apart, percent_again
from features.errors import UserError

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
GREY, INK = "#666666", "#333333"
_DOTTED = (0, (1.5, 2))
_ANCHORS = {"start": "left", "middle": "center", "end": "right"}
_PIXEL = 0.75  # points in a pixel of a page


@contextlib.contextmanager
def _without_tex() -> Iterator[None]:
    """Meanwhile no text is handed to LaTeX, whatever a matplotlibrc says that stands in the working folder.

    UserError with the way out where matplotlib is not installed.
    """
    try:
        import matplotlib.figure
    except ImportError as error:
        raise UserError("figures need one more package: pip install 'layerprobe[figures]'") from error
    with matplotlib.rc_context({"text.usetex": False}):
        yield


@_without_tex()
def panels_figure(title: str, panels: tuple[Panel, ...]) -> Any:
    """The panels side by side under one title, with one legend: a series has the same colour in each of them.

    UserError where matplotlib is not installed.
    """
    from matplotlib.figure import Figure  # which needs no display

    panels = tuple(panel for panel in panels if panel.drawn)
    if not panels:
        raise UserError(f"{title}: there is nothing to draw")
    title, panels = _literal(title), _literal(panels)
    columns = 2 if len(panels) == 4 else min(3, len(panels))
    rows = -(-len(panels) // columns)
    shares = [panel.share for panel in panels]
    # Panels of stated widths share the scale, which stands at the first of them.
    joined = all(shares) and rows == 1
    size = (2.6 + 0.95 * sum(shares), 4.8) if joined else (1.8 + 4.2 * max(columns, 1.5), 0.6 + 3.9 * rows)
    figure = Figure(figsize=size, layout="constrained")
    widths: dict[str, Any] = {"sharey": True, "width_ratios": shares} if joined else {}
    axes = figure.subplots(rows, columns, squeeze=False, **widths).ravel()
    colours = families(panels)
    for place, panel in zip(axes, panels, strict=False):
        _draw(place, panel, colours)
        if panel.errors:
            _accuracy_axis(place, twins(panel, panels))
        if joined and place is not axes[0]:
            place.set_ylabel("")
    _scale_alike(dict(zip(axes, panels, strict=False)))
    for place in axes[len(panels) :]:
        place.set_visible(False)
    _legend(figure, axes, [line for panel in panels for line in panel.lines])
    figure.suptitle(title, fontsize=10, x=0.01, ha="left")
    _turn_long_ticks(figure, axes[: len(panels)])
    for place, panel in zip(axes, panels, strict=False):
        for line in panel.frontier:
            _write_names(figure, place, panel, line)
    return figure


@_without_tex()
def draw_into(ax: Any, title: str, panels: tuple[Panel, ...]) -> Any:
    """Draw panels into Axes of the caller's, which are returned: one for each, or the first into the one there is."""
    places = list(np.ravel(ax)) if isinstance(ax, np.ndarray | list | tuple) else [ax]
    if not panels:
        raise UserError(f"{title}: there is nothing to draw")
    if len(places) not in (1, len(panels)):
        raise UserError(f"there are {len(panels)} panels to draw, and {len(places)} axes; give one, or one for each")
    title, shown = _literal(title), _literal(panels[: len(places)])
    colours = families(shown)
    for place, panel in zip(places, shown, strict=True):
        _draw(place, panel, colours)
        if panel.errors:
            _accuracy_axis(place, twins(panel, shown))
        if not panel.title:
            place.set_title(title, fontsize=10, loc="left")
    _scale_alike(dict(zip(places, shown, strict=True)))
    for place, panel in zip(places, shown, strict=True):
        if place.get_legend_handles_labels()[0]:
            place.legend(frameon=False, fontsize=8)
        for line in panel.frontier:
            _write_names(place.figure, place, panel, line)
    return ax


@_without_tex()
def save_figure(figure: Any, path: Path | str) -> list[Path]:
    """Write a figure and say where; a path without .png, .svg or .pdf gets both a PNG and an SVG file beside it."""
    path = Path(path)
    has_ending = path.suffix.lower() in (".png", ".svg", ".pdf")
    paths = [path] if has_ending else [path.with_name(f"{path.name}{ending}") for ending in (".png", ".svg")]
    for target in paths:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            # Without a date the same figure is the same file.
            metadata = {} if target.suffix.lower() == ".png" else {"Date": None} if target.suffix == ".svg" else None
            figure.savefig(target, dpi=160, metadata=metadata)
        except OSError as error:
            raise UserError(
                f"{target}: the figure cannot be written there ({error.strerror}); name another place"
            ) from error
    return paths


def _literal(value: Any) -> Any:
    """A text, or panels with all texts in them, such that a '$' is drawn as one: names come from anybody, and what
    stands between two of them would be read as a formula."""
    if isinstance(value, str):
        return value.replace("$", r"\$")
    if isinstance(value, tuple):
        return tuple(map(_literal, value))
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        return value
    fields = {field.name: _literal(getattr(value, field.name)) for field in dataclasses.fields(value)}
    return dataclasses.replace(value, **fields)


def _draw(axes: Any, panel: Panel, colours: list[str]) -> None:
    joined = {line.label for line in panel.lines if line.connected}
    for line in panel.drawn:
        # No error at all has no place on a scale of errors.
        heights = np.minimum(line.y, 99.99) if panel.errors else np.asarray(line.y)
        if line.frontier:
            axes.plot(
                line.x,
                heights,
                color=INK,
                linewidth=1.2,
                alpha=0.65,
                zorder=1.5,
                label=line.label if line.is_seen else None,
            )
            continue
        number = colours.index(line.family)
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
        errors = None
        # Of one seed alone there is no width, and nothing to show of it in the legend.
        if line.low != line.high:
            errors = np.maximum(0.0, [np.subtract(line.y, line.low), np.subtract(line.high, line.y)])
        axes.errorbar(line.x, heights, yerr=errors, capsize=2, elinewidth=0.9, **style)
        if line.ring in line.x:
            ring = {"markersize": 10, "markerfacecolor": "none", "markeredgecolor": style["color"]}
            axes.plot(line.ring, heights[line.x.index(line.ring)], "o", **ring)
    for level in panel.heights:
        dash = "--" if level.dashed else _DOTTED
        axes.axhline(
            level.y, color=GREY, linewidth=1.2 if level.label else 0.8, linestyle=dash, label=level.label or None
        )
    if panel.log:
        axes.set_xscale("log")
    if panel.ticks:
        places, texts = zip(*panel.ticks, strict=True)
        slanted = {"rotation": 35, "ha": "right", "fontsize": 9} if panel.share else {"fontsize": 8}
        axes.set_xticks(places, texts, **slanted)
        axes.minorticks_off()
    elif not panel.log and all(float(x).is_integer() for line in panel.drawn for x in line.x):
        axes.xaxis.get_major_locator().set_params(integer=True)
    if panel.share:
        axes.set_xlim(-0.5, len(panel.ticks) - 0.5)
    axes.set_title(panel.title, fontsize=10, loc="left")
    axes.set_xlabel(panel.x)
    axes.set_ylabel(panel.y)
    axes.grid(axis="y", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _scale_alike(panels: dict[Any, Panel]) -> None:
    """Axes that measure the same get the same limits; those of accuracies have them already."""
    for axes, panel in panels.items():
        across = [other for other in panels if panels[other] in twins_along(panel, panels.values())]
        ends = [other.get_xlim() for other in across]
        axes.set_xlim(min(low for low, _ in ends), max(high for _, high in ends))
        if not panel.errors:
            ends = [other.get_ylim() for other in panels if panels[other] in twins(panel, panels.values())]
            axes.set_ylim(min(low for low, _ in ends), max(high for _, high in ends))


def _turn_long_ticks(figure: Any, axes: Sequence[Any]) -> None:
    """The texts along x slanted where they would touch each other."""
    figure.draw_without_rendering()
    for place in axes:
        shown = [text.get_window_extent() for text in place.get_xticklabels() if text.get_text() and text.get_visible()]
        boxes = sorted(shown, key=lambda box: box.x0)
        if any(after.x0 < before.x1 + 2 for before, after in zip(boxes, boxes[1:], strict=False)):
            place.tick_params(axis="x", labelrotation=35)
            for text in place.get_xticklabels():
                text.set_horizontalalignment("right")


def _legend(figure: Any, axes: Sequence[Any], lines: Sequence[Line]) -> None:
    """One for all panels: heads first, then their controls, then levels."""
    handles = {label: line for place in axes for line, label in zip(*place.get_legend_handles_labels(), strict=True)}
    order = [line.label for line in sorted(lines, key=lambda line: line.dashed and bool(line.series))]
    shown = sorted(handles, key=lambda label: order.index(label) if label in order else len(order))
    figure.legend([handles[label] for label in shown], shown, loc="outside right center", frameon=False, fontsize=9)


def _accuracy_axis(axes: Any, panels: tuple[Panel, ...]) -> None:
    """Percent as they are, or spread towards 100 where the best is mostly right and differences are small."""
    if not drawn_by_errors(panels):
        axes.set_ylim(0, 100)
        return
    bottom, top, ticks = accuracy_ticks(*reach(panels))
    axes.set_yscale("function", functions=(errors_apart, percent_again))
    axes.set_yticks(ticks)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.minorticks_off()
    axes.set_ylim(bottom, top)


def _write_names(figure: Any, axes: Any, panel: Panel, frontier: Line) -> None:
    """The names of the best beside their points, once the layout says where these are."""
    from matplotlib.patheffects import withStroke

    figure.draw_without_rendering()
    scale = _PIXEL * figure.dpi / 72

    def pixels(line: Line) -> list[tuple[float, float]]:
        heights = np.minimum(line.y, 99.99) if panel.errors else line.y
        return [(x / scale, -y / scale) for x, y in axes.transData.transform(np.column_stack([line.x, heights]))]

    points = [point for line in panel.drawn if not line.frontier for point in pixels(line)]
    (left, foot), (right, top) = axes.bbox.min / scale, axes.bbox.max / scale
    style: dict[str, Any] = {"fontsize": 9, "fontweight": "bold", "color": INK}
    names = []
    for name in frontier.names:
        measured = axes.text(0, 0, name, transform=axes.transAxes, **style)
        names.append((name, measured.get_window_extent().width / scale))
        measured.remove()
    halo = [withStroke(linewidth=2.5, foreground="white")]
    for placed in place_names(names, pixels(frontier), points, (left, -top, right, -foot)):
        x, y = axes.transData.inverted().transform((placed.x * scale, -placed.y * scale))
        axes.text(x, y, placed.text, ha=_ANCHORS[placed.anchor], in_layout=False, path_effects=halo, **style)
