"""What the page's figures are made of: a frame to draw in, axes, lines of points with intervals, and a legend."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from classify.measure.wording import one_line
from classify.show.report import svg
from classify.show.report.svg import MARKS, SERIES, Scale, element, mark, words

_LINE = 16  # between two lines of text


@dataclass(frozen=True)
class Figure:
    """A figure of the page: `drawings` are SVG texts, `table` its numbers as (header, rows) for who cannot see it."""

    name: str
    title: str
    caption: str
    drawings: tuple[str, ...]
    table: tuple[tuple[str, ...], tuple[tuple[str, ...], ...]] | None = None


@dataclass(frozen=True)
class Point:
    """A number with the ends of its interval, in the units of the axes, and what is told of it on hover."""

    x: float
    value: float
    low: float
    high: float
    tip: str


@dataclass(frozen=True)
class Line:
    """Points of one kind. series: its number among the colours and marks; None is grey. level: a line across all.

    connected: its points are joined.
    """

    name: str
    points: tuple[Point, ...]
    series: int | None
    dashed: bool = False
    level: bool = False
    connected: bool = True


@dataclass(frozen=True)
class Frame:
    """The area that is drawn in, and how big the drawing is."""

    width: int
    height: int
    variant: str
    left: int = 52
    right: int = 18
    top: int = 30
    bottom: int = 52
    parts: list[str] = field(default_factory=list)

    @property
    def x0(self) -> float:
        """The left end."""
        return float(self.left)

    @property
    def x1(self) -> float:
        """The right end."""
        return float(self.width - self.right)

    @property
    def y0(self) -> float:
        """The foot, where the x axis is."""
        return float(self.height - self.bottom)

    @property
    def y1(self) -> float:
        """The top."""
        return float(self.top)


def frames(height: int) -> tuple[Frame, Frame]:
    """A frame for a wide page and one for a phone."""
    return Frame(860, height, "wide"), Frame(380, height, "narrow", left=44, right=10)


def one_line_each(text: str) -> str:
    """Every line of a text fit to be shown."""
    return "\n".join(one_line(line) for line in text.split("\n"))


def ends_of(points: Sequence[Point]) -> tuple[float, float]:
    """From the lowest end of an interval to the highest."""
    return min(point.low for point in points), max(point.high for point in points)


def shortened(text: str, most: int) -> str:
    """A text of at most so many letters."""
    text = one_line(text)
    return text if len(text) <= most else f"{text[: most - 1]}…"


def y_axis(frame: Frame, y: Scale, title: str) -> None:
    """Lines across at the ticks of a scale, their numbers, and what they count."""
    frame.parts.append(words(frame.x0 - 40, frame.y1 - 16, title, "label strong"))
    for tick in y.ticks:
        at = y(tick)
        frame.parts.append(element("line", x1=frame.x0, x2=frame.x1, y1=at, y2=at, class_="grid"))
        frame.parts.append(words(frame.x0 - 7, at + 4, f"{tick:g}", anchor="end"))
    frame.parts.append(element("line", x1=frame.x0, x2=frame.x1, y1=frame.y0, y2=frame.y0, class_="axis"))


def finish(frame: Frame, lines: Sequence[Line], x: Scale, y: Scale, label: str) -> str:
    """Draw the lines and their legend; the finished SVG."""
    for line in lines:
        _draw(frame, line, x, y)
    at_x, at_y = 14.0, float(frame.height + 4)
    named: dict[str, Line] = {}
    for line in lines:
        named.setdefault(line.name, line)
    for line in named.values():
        name = shortened(line.name, 44)
        wide = 34 + svg.text_width(name)
        if at_x + wide > frame.width and at_x > 14:
            at_x, at_y = 14.0, at_y + _LINE + 4
        frame.parts.append(_key(line, at_x, at_y))
        frame.parts.append(words(at_x + 27, at_y + 4, name))
        at_x += wide + 14
    return svg.drawing(frame.width, at_y + 14, [_shifted(frame.parts)], label, frame.variant)


def _shifted(parts: Sequence[str]) -> str:
    return element("g", *parts, transform="translate(0 8)")


def _style(line: Line) -> str:
    return "grey" if line.series is None else f"s{line.series % SERIES}"


def _shape(line: Line) -> str:
    return MARKS[(line.series or 0) % len(MARKS)]


def _key(line: Line, x: float, y: float) -> str:
    style = _style(line)
    parts = []
    if line.connected or line.level:
        dash = " dashed" if line.dashed else " dotted" if line.level else ""
        parts.append(element("line", x1=x, x2=x + 22, y1=y, y2=y, class_=f"line {style}{dash}"))
    if not line.level:
        hollow = " hollow" if line.dashed else ""
        parts.append(mark(_shape(line), x + 11, y, f"point {style}{hollow}"))
    return "".join(parts)


def _draw(frame: Frame, line: Line, x: Scale, y: Scale) -> None:
    style, dash = _style(line), " dashed" if line.dashed else ""
    if line.level:
        at, point = y(line.points[0].value), line.points[0]
        dash = dash or " dotted"
        for class_, tip in ((f"line {style}{dash}", None), ("catch", point.tip)):
            frame.parts.append(element("line", x1=frame.x0, x2=frame.x1, y1=at, y2=at, class_=class_, data_tip=tip))
        return
    places = [(x(point.x), y(point.value), point) for point in line.points]
    if line.connected and len(places) > 1:
        path = " ".join(f"{at_x:.1f},{at_y:.1f}" for at_x, at_y, _ in places)
        frame.parts.append(element("polyline", points=path, class_=f"line {style}{dash}"))
    for at_x, _, point in places:
        low, high = y(point.low), y(point.high)
        frame.parts.append(element("line", x1=at_x, x2=at_x, y1=low, y2=high, class_=f"whisker {style}"))
    hollow = " hollow" if line.dashed else ""
    for at_x, at_y, point in places:
        frame.parts.append(mark(_shape(line), at_x, at_y, f"point {style}{hollow}", data_tip=point.tip))
