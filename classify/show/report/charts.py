"""The page's drawn figures: panels of lines (accuracy by layer, what studies found), accuracy against time, training.

Each is drawn twice, for a wide page and for a phone, where letters would otherwise become too small to read.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from classify.measure.record import EpochRecord
from classify.measure.standing import frontier
from classify.measure.wording import count, decimal, duration, one_line, percent
from classify.show.panels import Level, Panel
from classify.show.report import svg
from classify.show.report.plot import (
    Figure,
    Frame,
    Line,
    Point,
    ends_of,
    finish,
    frames,
    one_line_each,
    shortened,
    y_axis,
)
from classify.show.report.svg import MARKS, SERIES, Scale, element, mark, words
from classify.show.scale import MOSTLY_RIGHT

_TIMES = (0.001, 0.01, 0.1, 1, 10, 60, 600, 3600, 36000, 360000)
_FINE_TIMES = (
    *(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30),
    *(60, 120, 300, 600, 1200, 3600, 7200, 18000, 36000, 86400),
)
_TICK_LETTERS = 22


def panel_figure(panel: Panel, name: str, title: str, caption: str = "") -> Figure | None:
    """A panel as the page draws it, with its numbers; None where it has no point."""
    lines = _lines(panel)
    shown = [point for line in lines for point in line.points]
    if not any(line.points for line in lines if not line.level):
        return None
    right = panel.errors and max(point.value for point in shown) >= 100 * MOSTLY_RIGHT
    if right:
        caption = f"{caption} The scale is stretched towards 100 %, by the share of errors.".strip()
    ticks = tuple((place, one_line(text)) for place, text in panel.ticks)
    drawings = []
    for frame in frames(400):
        frame, x = _x_axis(frame, panel, [point.x for line in lines if not line.level for point in line.points], ticks)
        low, high = ends_of(shown)
        if panel.errors:
            y = svg.accuracies(low, high, frame.y0, frame.y1, right)
        else:
            y = svg.linear(low, high, frame.y0, frame.y1)
        y_axis(frame, y, panel.y)
        drawings.append(finish(frame, lines, x, y, f"{title}. {_summary(lines)}"))
    return Figure(name, title, caption, tuple(drawings), _numbers(panel, dict(ticks)))


def _lines(panel: Panel) -> list[Line]:
    series = list(dict.fromkeys(line.series or line.label for line in panel.lines))
    texts = [(place, one_line(text)) for place, text in panel.ticks]
    lines = []
    for line in panel.lines:
        points = []
        ends = zip(line.low, line.high, strict=True) if line.low else zip(line.y, line.y, strict=True)
        for x, y, (low, high) in zip(line.x, line.y, ends, strict=True):
            where = min(texts, key=lambda tick: abs(tick[0] - x))[1] if texts else f"{x:.4g}"
            interval = f" ({low:.4g} to {high:.4g})" if line.low else ""
            unit = " %" if panel.y.endswith("%") else ""
            points.append(Point(x, y, low, high, one_line_each(f"{where}, {line.label}\n{y:.4g}{unit}{interval}")))
        number = series.index(line.series or line.label)
        lines.append(Line(one_line(line.label), tuple(points), number, line.dashed, connected=line.connected))
    for level in panel.levels:
        named = level if isinstance(level, Level) else Level("", level)
        tip = one_line_each(f"{named.label}\n{named.y:.4g}".strip())
        lines.append(
            Line(one_line(named.label), (Point(0.0, named.y, named.y, named.y, tip),), None, named.dashed, True)
        )
    return lines


def _x_axis(
    frame: Frame, panel: Panel, places: Sequence[float], ticks: Sequence[tuple[float, str]]
) -> tuple[Frame, Scale]:
    """The scale along x, drawn; the frame, higher where names stand slanted below it."""
    low, high = min(places), max(places)
    if not ticks:
        x = svg.logarithmic(low, high, frame.x0, frame.x1, _decades(low, high)) if panel.log else None
        x = x or svg.linear(low, high, frame.x0, frame.x1)
        texts = [(tick, f"{tick:g}") for tick in x.ticks]
    else:
        ends = [place for place, _ in ticks]
        if panel.log:
            x = svg.logarithmic(min(ends), max(ends), frame.x0, frame.x1, tuple(ends))
        else:
            x = Scale(min(ends) - 0.5, max(ends) + 0.5, frame.x0, frame.x1, tuple(ends))
        texts = [(place, shortened(text, _TICK_LETTERS)) for place, text in ticks]
    room = (frame.x1 - frame.x0) / len(texts)
    slanted = any(svg.text_width(text) > room - 4 for _, text in texts)
    if slanted:
        longest = int(0.6 * max(svg.text_width(text) for _, text in texts))
        frame = replace(frame, bottom=50 + longest, height=376 + longest)
    for place, text in texts:
        at = x(place)
        turn = f"rotate(-35 {at:.1f} {frame.y0 + 16:.1f})" if slanted else None
        frame.parts.append(words(at, frame.y0 + 18, text, anchor="end" if slanted else "middle", transform=turn))
    if not slanted:
        frame.parts.append(words((frame.x0 + frame.x1) / 2, frame.y0 + 36, one_line(panel.x), anchor="middle"))
    return frame, x


def _decades(low: float, high: float) -> tuple[float, ...]:
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    return tuple(digit * 10.0**power for power in range(first, last + 1) for digit in (1, 2, 5))


def _numbers(panel: Panel, texts: dict[float, str]) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    header = (one_line(panel.x), "", one_line(panel.y), "interval")
    rows = []
    for line in panel.lines:
        ends = line.low and list(zip(line.low, line.high, strict=True))
        for place, (x, y) in enumerate(zip(line.x, line.y, strict=True)):
            where = min(texts, key=lambda tick: abs(tick - x)) if texts else x
            interval = f"{ends[place][0]:.2f} to {ends[place][1]:.2f}" if ends else ""
            rows.append((texts.get(where, f"{x:.4g}"), one_line(line.label), f"{y:.2f}", interval))
    rows += [("", one_line(level.label), f"{level.y:.2f}", "") for level in panel.levels if isinstance(level, Level)]
    return header, tuple(rows)


@dataclass(frozen=True)
class Priced:
    """A model in the figure of accuracy against time. kind: what it is drawn as; accuracy, low, high: fractions."""

    name: str
    kind: str
    seconds: float
    accuracy: float
    low: float
    high: float

    @property
    def estimate(self) -> tuple[float, float, float]:
        """Accuracy and the ends of its interval."""
        return self.accuracy, self.low, self.high


KINDS = ("head on features", "fine-tuned network", "network from scratch", "untouched network")


def trade_off(priced: Sequence[Priced], name: str, title: str) -> Figure | None:
    """Test accuracy against the seconds until a model can predict; the frontier is marked. None for fewer than two."""
    priced = [model for model in priced if model.seconds > 0]
    if len(priced) < 2:
        return None
    best = frontier(priced, lambda model: model.seconds, lambda model: model.accuracy)
    lines = []
    for number, kind in enumerate(KINDS):
        points = tuple(
            Point(
                model.seconds,
                100 * model.accuracy,
                100 * model.low,
                100 * model.high,
                _priced_tip(model, model in best),
            )
            for model in priced
            if model.kind == kind
        )
        if points:
            lines.append(Line(kind, points, number, connected=False))
    shown = [point for line in lines for point in line.points]
    right = max(point.value for point in shown) >= 100 * MOSTLY_RIGHT
    drawings = []
    for frame in frames(430):
        seconds = [model.seconds for model in priced]
        ticks = _FINE_TIMES if max(seconds) < 60 * min(seconds) else _TIMES
        x = svg.logarithmic(min(seconds), max(seconds), frame.x0, frame.x1, ticks)
        y = svg.accuracies(*ends_of(shown), frame.y0, frame.y1, right)
        y_axis(frame, y, "test accuracy, %")
        for tick in x.ticks:
            at = x(tick)
            frame.parts.append(element("line", x1=at, x2=at, y1=frame.y0, y2=frame.y1, class_="grid"))
            frame.parts.append(words(at, frame.y0 + 18, _time(tick), anchor="middle"))
        middle = (frame.x0 + frame.x1) / 2
        frame.parts.append(
            words(middle, frame.y0 + 36, "seconds until it can predict: extract, search, train", anchor="middle")
            if frame.variant == "wide"
            else words(middle, frame.y0 + 36, "time until it can predict", anchor="middle")
        )
        corners = [(x(model.seconds), y(100 * model.accuracy)) for model in best]
        steps = " ".join(f"{at_x:.1f},{at_y:.1f}" for at_x, at_y in corners)
        if len(best) > 1:
            frame.parts.append(element("polyline", points=steps, class_="frontier"))
        taken = [(x(model.seconds) - 5, y(100 * model.accuracy) - 5, 10.0, 10.0) for model in priced]
        taken += _along(corners)
        _labels(frame, [(*corner, model.name) for corner, model in zip(corners, best, strict=True)], taken)
        drawings.append(finish(frame, lines, x, y, f"{title}. {_best_words(best)}"))
    caption = "The line joins the models that no other beats in both. Whiskers are 95 % intervals over the test images."
    if right:
        caption += " The scale is stretched towards 100 %, by the share of errors."
    header = ("model", "kind", "seconds", "test accuracy, %", "on the frontier")
    table = tuple(
        (model.name, model.kind, f"{model.seconds:.3g}", percent(model.accuracy), "yes" if model in best else "")
        for model in sorted(priced, key=lambda model: model.seconds)
    )
    return Figure(name, title, caption, tuple(drawings), (header, table))


def _best_words(best: Sequence[Priced]) -> str:
    named = [f"{model.name} ({percent(model.accuracy)} %, {duration(model.seconds)})" for model in best]
    return f"Best for their time: {', '.join(named)}."


def _priced_tip(model: Priced, best: bool) -> str:
    reached = f"{percent(model.accuracy)} % ({percent(model.low)} to {percent(model.high)})"
    more = "\nno other is both sooner ready and more accurate" if best else ""
    return one_line_each(f"{model.name}\n{reached}\nready in {duration(model.seconds)}{more}")


_BESIDE = ((0, -11, "middle"), (9, 4, "start"), (-9, 4, "end"), (0, 20, "middle"), (9, 18, "start"), (-9, -8, "end"))


def _along(corners: list[tuple[float, float]]) -> list[tuple[float, float, float, float]]:
    """Small boxes along a line, every few pixels."""
    boxes = []
    for (x0, y0), (x1, y1) in zip(corners, corners[1:], strict=False):
        steps = int(max(abs(x1 - x0), abs(y1 - y0)) // 6) + 1
        for step in range(1, steps):
            share = step / steps
            boxes.append((x0 + share * (x1 - x0) - 1, y0 + share * (y1 - y0) - 1, 2.0, 2.0))
    return boxes


def _labels(frame: Frame, wanted: list[tuple[float, float, str]], taken: list[tuple]) -> None:
    """Names beside the marked points, where they hide neither a point, nor the line, nor another name."""
    for at_x, at_y, name in reversed(wanted):
        name = shortened(name, 30)
        wide = svg.text_width(name) * 1.08  # they are bold
        near = (at_x - 8, at_y - 8, 16.0, 16.0)
        for dx, dy, anchor in _BESIDE:
            left = at_x + dx - {"start": 0, "end": wide, "middle": wide / 2}[anchor]
            box = (left, at_y + dy - 10, wide, 12.0)
            inside = frame.x0 <= left and left + wide <= frame.width - 2 and frame.y1 - 12 <= box[1] <= frame.y0 - 12
            if inside and not any(_overlap(box, other) for other in taken if not _overlap(near, other)):
                taken.append(box)
                frame.parts.append(words(at_x + dx, at_y + dy, name, "label strong halo", anchor))
                break


def _overlap(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return (
        one[0] < other[0] + other[2]
        and other[0] < one[0] + one[2]
        and one[1] < other[1] + other[3]
        and other[1] < one[1] + one[3]
    )


@dataclass(frozen=True)
class Run:
    """A network's training: `epochs` are the dictionaries of its history, `kept` the epoch whose weights were kept."""

    name: str
    epochs: tuple[EpochRecord, ...]
    kept: int | None


def training_curves(runs: Sequence[Run], name: str, title: str) -> Figure | None:
    """Two figures beside each other (below each other on a phone): training loss and validation accuracy by epoch."""
    runs = [run for run in runs if run.epochs][:SERIES]
    if not runs:
        return None
    drawings = []
    for frame in frames(330):
        halves = _halves(frame)
        frame = replace(frame, height=max(half.height for half in halves))
        for half, (of_epoch, scale, what) in zip(halves, _TRAINING, strict=True):
            x, y = _draw_half(half, runs, of_epoch, scale, what)
        lines = [Line(run.name, (), number) for number, run in enumerate(runs)]
        drawings.append(finish(frame, lines, x, y, f"{title}: {', '.join(run.name for run in runs)}."))
    caption = "A ring marks the epoch whose weights were kept: the best on validation. The test set takes no part."
    header = ("network", "epoch", "training loss", "validation accuracy, %", "seconds")
    table = tuple(
        (
            run.name,
            count(epoch["epoch"]),
            decimal(_loss(epoch)),
            percent(_validation(epoch)),
            duration(epoch.get("seconds")),
        )
        for run in runs
        for epoch in run.epochs
    )
    return Figure(name, title, caption, tuple(drawings), (header, table))


def _loss(epoch: EpochRecord) -> float | None:
    return epoch.get("loss")


def _validation(epoch: EpochRecord) -> float | None:
    return epoch.get("validation_accuracy")


# What is drawn of each epoch, in which units, and what it is called.
_TRAINING = ((_loss, 1.0, "training loss"), (_validation, 100.0, "validation accuracy, %"))


def _halves(frame: Frame) -> tuple[Frame, Frame]:
    """Two panels in one drawing, which share its parts: beside each other, on a phone below each other."""
    if frame.variant == "wide":
        half = frame.width // 2
        return replace(frame, right=half + 16), replace(frame, left=half + 48)
    return replace(frame, height=250), replace(frame, height=500, top=296)


def _draw_half(
    frame: Frame, runs: Sequence[Run], of_epoch: Callable[[EpochRecord], float | None], scale: float, what: str
) -> tuple[Scale, Scale]:
    drawn = [[(e, scale * value) for e in run.epochs if (value := of_epoch(e)) is not None] for run in runs]
    values = [value for epochs in drawn for _, value in epochs]
    last = max(epoch["epoch"] for run in runs for epoch in run.epochs)
    x = Scale(0.5, last + 0.5, frame.x0, frame.x1, _whole_ticks(last))
    if scale > 1:
        right = max(values, default=0.0) >= 100 * MOSTLY_RIGHT
        y = svg.accuracies(min(values, default=0.0), max(values, default=1.0), frame.y0, frame.y1, right)
    else:
        y = svg.linear(0.0, max(values, default=1.0), frame.y0, frame.y1, 5)
    y_axis(frame, y, what)
    for tick in x.ticks:
        frame.parts.append(words(x(tick), frame.y0 + 18, f"{tick:g}", anchor="middle"))
    frame.parts.append(words((frame.x0 + frame.x1) / 2, frame.y0 + 36, "epoch", anchor="middle"))
    for number, (run, epochs) in enumerate(zip(runs, drawn, strict=True)):
        points = [(x(epoch["epoch"]), y(value), epoch["epoch"], value) for epoch, value in epochs]
        path = " ".join(f"{at_x:.1f},{at_y:.1f}" for at_x, at_y, *_ in points)
        frame.parts.append(element("polyline", points=path, class_=f"line s{number % SERIES}"))
        for at_x, at_y, epoch, value in points:
            spelled = f"{value:.2f} % on validation" if scale > 1 else f"loss {decimal(value)}"
            tip = one_line_each(f"{run.name}\nepoch {epoch}: {spelled}")
            if epoch == run.kept:
                frame.parts.append(element("circle", cx=at_x, cy=at_y, r=8.5, class_=f"ring s{number % SERIES}"))
            shape = MARKS[number % len(MARKS)]
            frame.parts.append(mark(shape, at_x, at_y, f"point s{number % SERIES}", 3.6, data_tip=tip))
    return x, y


def _whole_ticks(last: int) -> tuple[float, ...]:
    step = max(1, -(-last // 8))
    return tuple(float(tick) for tick in range(step if step > 1 else 1, last + 1, step))


def _summary(lines: Sequence[Line]) -> str:
    tops = [(max(point.value for point in line.points), line.name) for line in lines if line.points]
    return "Highest: " + ", ".join(f"{name} {top:.2f}".strip() for top, name in tops) + "."


def _time(seconds: float) -> str:
    if seconds < 1:
        return f"{1000 * seconds:g} ms"
    if seconds < 60:
        return f"{seconds:g} s"
    return f"{seconds / 60:g} min" if seconds < 3600 else f"{seconds / 3600:g} h"
