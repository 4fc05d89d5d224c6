"""The page's charts: panels painted as SVG, with their numbers as a table for who cannot see them.

Each is drawn twice, for a wide page and for a phone, where letters would otherwise become too small to read.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from classify.measure.wording import one_line
from classify.show.panels import Level, Line, Panel, drawn_by_errors, families, reach, twins, twins_along
from classify.show.placing import place_names, text_width
from classify.show.report import svg
from classify.show.report.svg import MARKS, SERIES, Scale, element, mark, words

_ROW = 20  # between two rows of the legend
_TICK_LETTERS, _NAME_LETTERS, _LEGEND_LETTERS = 22, 30, 44
_BOLD = 1.08  # how much wider


@dataclass(frozen=True)
class Figure:
    """A figure of the page: `drawings` are SVG texts, `table` its numbers as (header, rows), where it has any."""

    name: str
    title: str
    caption: str
    drawings: tuple[str, ...]
    table: tuple[tuple[str, ...], tuple[tuple[str, ...], ...]] | None = None


@dataclass(frozen=True)
class Area:
    """Where a panel's axes are, in pixels of its drawing; foot: of the x axis, downwards."""

    left: float
    right: float
    top: float
    foot: float

    @property
    def middle(self) -> float:
        """Halfway along x."""
        return (self.left + self.right) / 2


def chart_figure(
    panels: Sequence[Panel], name: str, title: str, caption: str = "", beside: Sequence[Panel] = ()
) -> Figure | None:
    """Panels beside each other (below each other on a phone) as one figure; None where they have no point.

    beside: panels of other figures, whose scales these have where both show the same.
    """
    panels = [panel for panel in panels if panel.drawn]
    if not panels:
        return None
    title = one_line(title)
    beside = (*panels, *beside)
    if any(drawn_by_errors(twins(panel, beside)) for panel in panels):
        caption = f"{caption} The scale is stretched towards 100 %, by the share of errors.".strip()
    label = f"{title}. {_summary(panels)}"
    drawings = tuple(_drawing(panels, label, wide, beside) for wide in (True, False))
    return Figure(name, title, caption, drawings, _numbers(panels))


def _summary(panels: Sequence[Panel]) -> str:
    if names := [name for panel in panels for line in panel.frontier for name in line.names]:
        return f"Best for their time: {', '.join(names)}."
    if len(panels) > 1:
        return f"{', '.join(families(panels))}."
    tops = [(line.label, max(line.y)) for line in panels[0].drawn] + [(lv.label, lv.y) for lv in panels[0].heights]
    return "Highest: " + ", ".join(f"{one_line(label)} {top:.2f}".strip() for label, top in tops) + "."


def _drawing(panels: Sequence[Panel], label: str, wide: bool, beside: Sequence[Panel]) -> str:
    width = 860 if wide else 380
    colours = families(panels)
    parts, foot = [], 0.0
    for panel, area in zip(panels, _areas(len(panels), width, wide), strict=True):
        below, painted = _axes(panel, area, colours, beside)
        parts += painted
        foot = max(foot, area.foot + below)
    key, foot = _legend(panels, colours, foot + 4, width)
    return svg.drawing(
        width, foot + 14, [element("g", *parts, *key, transform="translate(0 8)")], label, "wide" if wide else "narrow"
    )


def _areas(number: int, width: float, wide: bool) -> list[Area]:
    if not wide:
        height = 318 if number == 1 else 168
        return [Area(44, width - 10, 30 + 250 * place, 30 + 250 * place + height) for place in range(number)]
    part, foot = width / number, 348 if number == 1 else 278
    return [Area(52 + part * place, part * (place + 1) - 18, 30, foot) for place in range(number)]


def _axes(panel: Panel, area: Area, colours: list[str], beside: Sequence[Panel]) -> tuple[float, list[str]]:
    """How much room is taken below the x axis, and a panel's parts."""
    alike = twins(panel, beside)
    low, high = reach(alike)
    if panel.errors:
        y = svg.accuracies(low, high, area.foot, area.top, drawn_by_errors(alike))
    else:
        y = svg.linear(low, high, area.foot, area.top)
    x, texts = _scale_along(panel, area, twins_along(panel, beside))
    parts = [words(area.left - 40, area.top - 16, panel.y, "label strong")]
    for tick in y.ticks:
        parts.append(_across(area, y(tick), "grid"))
        parts.append(words(area.left - 7, y(tick) + 4, f"{tick:g}", anchor="end"))
    parts.append(_across(area, area.foot, "axis"))
    if panel.log:
        parts += [element("line", x1=x(at), x2=x(at), y1=area.foot, y2=area.top, class_="grid") for at, _ in texts]
    below, written = _written_below(panel, area, x, texts)
    parts += written
    for line in panel.drawn:
        parts += _painted(panel, line, colours, x, y)
    for level in panel.heights:
        tip = _tip(level.label, _spelled_y(panel, level.y))
        parts += [_across(area, y(level.y), _level_class(level)), _across(area, y(level.y), "catch", tip)]
    for line in panel.frontier:
        parts += _names(panel, line, area, x, y)
    return below, parts


def _across(area: Area, y: float, class_: str, tip: str | None = None) -> str:
    return element("line", x1=area.left, x2=area.right, y1=y, y2=y, class_=class_, data_tip=tip)


def _scale_along(panel: Panel, area: Area, alike: Sequence[Panel]) -> tuple[Scale, list[tuple[float, str]]]:
    """The scale along x, and the text at each of its ticks. alike: the panels that have the same scale."""
    points = [place for other in alike for line in other.drawn for place in line.x]
    ticks = tuple(place for place, _ in panel.ticks)
    low, high = min((*points, *ticks)), max((*points, *ticks))
    if panel.log:
        x = svg.logarithmic(low, high, area.left, area.right, ticks or _decades(low, high))
    elif ticks:
        # Points of several lines stand a little beside their tick.
        x = Scale(round(low) - 0.5, round(high) + 0.5, area.left, area.right, ticks)
    else:
        x = svg.linear(low, high, area.left, area.right, whole=all(float(point).is_integer() for point in points))
    texts = {place: shortened(text, _TICK_LETTERS) for place, text in panel.ticks}
    return x, [(tick, texts.get(tick, f"{tick:g}")) for tick in x.ticks]


def _decades(low: float, high: float) -> tuple[float, ...]:
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    return tuple(digit * 10.0**power for power in range(first, last + 1) for digit in (1, 2, 5))


def _written_below(panel: Panel, area: Area, x: Scale, texts: Sequence[tuple[float, str]]) -> tuple[float, list[str]]:
    """The room for the texts at the ticks, slanted where they are long, and these with what stands along x."""
    longest = max((text_width(text) for _, text in texts), default=0.0)
    if not panel.log and longest > (area.right - area.left) / len(texts) - 4:
        foot = area.foot + 16
        turns = [(x(at), text, f"rotate(-35 {x(at):.1f} {foot:.1f})") for at, text in texts]
        slanted = [words(at, foot + 2, text, anchor="end", transform=turn) for at, text, turn in turns]
        return 50 + int(0.6 * longest), slanted
    parts, free = [], -math.inf
    for at, text in texts:
        # On a logarithmic scale ticks come close to each other: a text that would touch the one before is left out.
        if x(at) - text_width(text) / 2 >= free:
            parts.append(words(x(at), area.foot + 18, text, anchor="middle"))
            free = x(at) + text_width(text) / 2 + 4
    return 52, [*parts, words(area.middle, area.foot + 36, one_line(panel.x), anchor="middle")]


def _style(line: Line, colours: list[str]) -> tuple[str, str]:
    """A line's colour as a class, and the shape of its points."""
    number = colours.index(line.family)
    return f"s{number % SERIES}", MARKS[number % len(MARKS)]


def _level_class(level: Level) -> str:
    return f"line grey {'dashed' if level.dashed else 'dotted'}"


def _painted(panel: Panel, line: Line, colours: list[str], x: Scale, y: Scale) -> list[str]:
    places = [(x(at), y(height)) for at, height in zip(line.x, line.y, strict=True)]
    path = " ".join(f"{at:.1f},{height:.1f}" for at, height in places)
    if line.frontier:
        return [element("polyline", points=path, class_="frontier")] if len(places) > 1 else []
    colour, shape = _style(line, colours)
    dash, hollow = (" dashed", " hollow") if line.dashed else ("", "")
    parts = []
    if line.connected and len(places) > 1:
        parts.append(element("polyline", points=path, class_=f"line {colour}{dash}"))
    for (at, _), low, high in zip(places, line.low, line.high, strict=False):
        parts.append(element("line", x1=at, x2=at, y1=y(low), y2=y(high), class_=f"whisker {colour}"))
    if line.ring in line.x:
        at, height = places[line.x.index(line.ring)]
        parts.append(element("circle", cx=at, cy=height, r=8.5, class_=f"ring {colour}"))
    for number, (at, height) in enumerate(places):
        parts.append(mark(shape, at, height, f"point {colour}{hollow}", data_tip=_point_tip(panel, line, number)))
    return parts


def _names(panel: Panel, frontier: Line, area: Area, x: Scale, y: Scale) -> list[str]:
    """The names of the best, beside their points."""
    points = [(x(at), y(height)) for line in panel.drawn for at, height in zip(line.x, line.y, strict=True)]
    places = [(x(at), y(height)) for at, height in zip(frontier.x, frontier.y, strict=True)]
    texts = [shortened(name, _NAME_LETTERS) for name in frontier.names]
    names = [(text, _BOLD * text_width(text)) for text in texts]
    placed = place_names(names, places, points, (area.left, area.top - 12, area.right + 8, area.foot))
    return [words(name.x, name.y, name.text, "label strong halo", name.anchor) for name in placed]


def _point_tip(panel: Panel, line: Line, number: int) -> str:
    x, y = line.x[number], line.y[number]
    interval = f" ({line.low[number]:.4g} to {line.high[number]:.4g})" if line.low else ""
    best = [best.label for best in panel.frontier if (x, y) in zip(best.x, best.y, strict=True)]
    name = line.names[number] if line.names else line.label
    return _tip(name, f"{_spelled_y(panel, y)}{interval}", f"{panel.x_name}: {panel.spelled_x(x)}", *best)


def _spelled_y(panel: Panel, y: float) -> str:
    return f"{y:.4g} %" if panel.y.endswith("%") else f"{y:.4g}"


def _tip(*lines: str) -> str:
    return "\n".join(one_line(line) for line in lines if line)


def _legend(panels: Sequence[Panel], colours: list[str], foot: float, width: float) -> tuple[list[str], float]:
    """What each colour and mark means, and where its last row stands."""
    keys: dict[str, str] = {}
    for panel in panels:
        for line in filter(lambda line: line.is_seen, panel.drawn):
            colour, shape = ("frontier", "") if line.frontier else _style(line, colours)
            dash, hollow = (" dashed", " hollow") if line.dashed else ("", "")
            stroke = f"line {colour}{dash}" if line.connected else ""
            keys.setdefault(line.label, _key(stroke, shape, f"point {colour}{hollow}"))
        for level in panel.heights:
            keys.setdefault(level.label, _key(_level_class(level)))
    parts, at = [], 14.0
    for label, key in keys.items():
        if not label:
            continue
        text = shortened(label, _LEGEND_LETTERS)
        room = 34 + text_width(text)
        if at + room > width and at > 14:
            at, foot = 14.0, foot + _ROW
        parts.append(element("g", key, transform=f"translate({at:.1f} {foot:.1f})"))
        parts.append(words(at + 27, foot + 4, text))
        at += room + 14
    return parts, foot


def _key(stroke: str, shape: str = "", point: str = "") -> str:
    line = element("line", x1=0, x2=22, y1=0, y2=0, class_=stroke) if stroke else ""
    return line + (mark(shape, 11, 0, point) if shape else "")


def shortened(text: str, most: int) -> str:
    """A text of at most so many letters."""
    text = one_line(text)
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _numbers(panels: Sequence[Panel]) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    """A row for each place of each line, with its height in every panel; header and rows."""
    best = [line for panel in panels for line in panel.frontier]
    lines = [(number, line) for number, panel in enumerate(panels) for line in panel.drawn if not line.frontier]
    named, measured = (any(getattr(line, field) for _, line in lines) for field in ("names", "low"))
    rows: dict[tuple[float, str, str], list[str]] = {}
    for number, line in lines:
        panel = panels[number]
        for place, (x, y) in enumerate(zip(line.x, line.y, strict=True)):
            name = line.names[place] if line.names else ""
            # Where it is, which line, then a height for each panel, and what only some charts have.
            row = rows.setdefault(
                (x, line.label, name), [panel.spelled_x(x), one_line(line.label), *[""] * len(panels)]
            )
            row[2 + number] = f"{y:.2f}" if panel.y.endswith("%") else f"{y:.4g}"
            if number == 0:
                row += [name] if named else []
                row += [f"{line.low[place]:.2f} to {line.high[place]:.2f}" if line.low else ""] if measured else []
                row += ["yes" if (x, y) in zip(joined.x, joined.y, strict=True) else "" for joined in best]
    levels = [level for panel in panels for level in panel.heights if level.label]
    header = [panels[0].x_name, "", *(panel.y for panel in panels)]
    header += ["model"] * named + ["interval"] * measured + [line.label for line in best]
    spare = [""] * (len(header) - 3)
    cells = [*rows.values(), *(["", one_line(level.label), f"{level.y:.2f}", *spare] for level in levels)]
    return tuple(header), tuple(map(tuple, cells))
