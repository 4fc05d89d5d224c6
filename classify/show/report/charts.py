"""The page's drawn figures: accuracy by layer, accuracy against time, and training curves.

Each is drawn twice, for a wide page and for a phone, where letters would otherwise become too small to read.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from classify.measure.wording import count, decimal, duration, one_line, percent
from classify.show.figures import MOSTLY_RIGHT
from classify.show.report import svg
from classify.show.report.plot import (
    Figure,
    Frame,
    Line,
    Point,
    finish,
    frames,
    one_line_each,
    percent_range,
    shortened,
    y_axis,
)
from classify.show.report.svg import MARKS, SERIES, Scale, element, mark, words

_TIMES = (0.001, 0.01, 0.1, 1, 10, 60, 600, 3600, 36000, 360000)
_FINE_TIMES = (
    *(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30),
    *(60, 120, 300, 600, 1200, 3600, 7200, 18000, 36000, 86400),
)


def layer_curve(body: dict[str, Any], pool: str, name: str, title: str) -> Figure | None:
    """Accuracy by layer of a probe, one line for each head, its controls dashed; None where no layer was probed."""
    rows = [row for row in body["rows"] if row["kind"] in ("layer", "selection", "head2toe") and row["pool"] == pool]
    layers = list(dict.fromkeys(row["layer"] for row in rows))
    if not rows:
        return None
    heads = list(dict.fromkeys(row["head"] for row in rows))
    lines = []
    for number, head in enumerate(heads):
        shift = 0.08 * (number - (len(heads) - 1) / 2)
        mine = [row for row in rows if row["head"] == head]
        lines.append(Line(head, tuple(_point(row, layers.index(row["layer"]) + shift) for row in mine), number))
        random = [row for row in body["rows"] if row["kind"] == "random" and (row["head"], row["pool"]) == (head, pool)]
        random = [row for row in random if row["layer"] in layers]
        if random:
            points = tuple(_point(row, layers.index(row["layer"]) + shift, "random weights, ") for row in random)
            lines.append(Line(f"{head}, random weights", points, number, dashed=True))
    lines += _levels(body)
    shown = [point for line in lines for point in line.points]
    right = max(point.value for point in shown) >= MOSTLY_RIGHT
    drawings = []
    for frame in frames(400):
        room = (frame.x1 - frame.x0) / len(layers)
        slanted = any(svg.text_width(shortened(layer, 22)) > room - 4 for layer in layers)
        if slanted:
            longest = max(svg.text_width(shortened(layer, 22)) for layer in layers)
            frame = dataclasses.replace(frame, bottom=int(34 + 0.6 * longest), height=int(360 + 0.6 * longest))
        x = Scale(-0.5, len(layers) - 0.5, frame.x0, frame.x1, tuple(range(len(layers))))
        y = svg.accuracies(*percent_range(shown), frame.y0, frame.y1, right)
        y_axis(frame, y, "test accuracy, %")
        for place, layer in enumerate(layers):
            at = x(place)
            turn = f"rotate(-35 {at:.1f} {frame.y0 + 16:.1f})" if slanted else None
            anchor = "end" if slanted else "middle"
            frame.parts.append(words(at, frame.y0 + 18, shortened(layer, 22), anchor=anchor, transform=turn))
        drawings.append(finish(frame, lines, x, y, f"{title}. {_summary(lines)}"))
    caption = "Whiskers are 95 % intervals over the test images."
    if right:
        caption += " The scale is stretched towards 100 %, by the share of errors."
    if any(line.dashed for line in lines):
        caption += " Dashed: controls that a layer has to beat."
    header = ("layer", "head", "control", "test accuracy, %", "95 % interval")
    plain = [row for row in body["rows"] if row["pool"] in (pool, "") and row["kind"] not in ("pca", "projection")]
    table = tuple(
        (
            one_line(row["layer"]),
            one_line(row["head"]),
            "" if row["kind"] in ("layer", "selection") else one_line(row["kind"]),
            percent(row["accuracy"]),
            f"{percent(row['accuracy_low'])} to {percent(row['accuracy_high'])}",
        )
        for row in plain
    )
    return Figure(name, title, caption, tuple(drawings), (header, table))


def _point(row: dict[str, Any], x: float, control: str = "") -> Point:
    ends = f"{percent(row['accuracy_low'])} to {percent(row['accuracy_high'])}"
    tip = f"{row['layer']} with {row['head']}\n{control}{percent(row['accuracy'])} % ({ends})"
    return Point(x, row["accuracy"], row["accuracy_low"], row["accuracy_high"], one_line_each(tip))


def _levels(body: dict[str, Any]) -> list[Line]:
    """Controls that have no layer: the head that is best on pixels, and what shuffled labels leave."""
    lines = []
    pixels = [row for row in body["rows"] if row["kind"] == "pixels"]
    if pixels:
        best = max(pixels, key=lambda row: row.get("validation") or 0.0)
        lines.append(Line(f"raw pixels, {one_line(best['head'])}", (_point(best, 0.0),), None, dashed=True, level=True))
    shuffled = [row["accuracy"] for row in body["rows"] if row["kind"] == "shuffled"]
    if shuffled:
        mean = sum(shuffled) / len(shuffled)
        tip = f"shuffled labels\n{percent(mean)} % on average over {len(shuffled)} rows"
        name = "shuffled labels (mean)"
        lines.append(Line(name, (Point(0.0, mean, mean, mean, tip),), None, level=True))
    return lines


@dataclass(frozen=True)
class Priced:
    """A model in the figure of accuracy against time. kind: what it is drawn as; accuracy, low, high: fractions."""

    name: str
    kind: str
    seconds: float
    accuracy: float
    low: float
    high: float


KINDS = ("head on features", "fine-tuned network", "network from scratch", "untouched network")


def trade_off(priced: Sequence[Priced], name: str, title: str) -> Figure | None:
    """Test accuracy against the seconds until a model can predict; the frontier is marked. None for fewer than two."""
    priced = [each for each in priced if each.seconds > 0]
    if len(priced) < 2:
        return None
    best = frontier(priced)
    lines = []
    for number, kind in enumerate(KINDS):
        mine = [each for each in priced if each.kind == kind]
        points = tuple(
            Point(each.seconds, each.accuracy, each.low, each.high, _priced_tip(each, each in best)) for each in mine
        )
        if points:
            lines.append(Line(kind, points, number))
    shown = [point for line in lines for point in line.points]
    right = max(point.value for point in shown) >= MOSTLY_RIGHT
    drawings = []
    for frame in frames(430):
        seconds = [each.seconds for each in priced]
        ticks = _FINE_TIMES if max(seconds) < 60 * min(seconds) else _TIMES
        x = svg.logarithmic(min(seconds), max(seconds), frame.x0, frame.x1, ticks)
        y = svg.accuracies(*percent_range(shown), frame.y0, frame.y1, right)
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
        corners = [(x(each.seconds), y(100 * each.accuracy)) for each in best]
        steps = " ".join(f"{at_x:.1f},{at_y:.1f}" for at_x, at_y in corners)
        if len(best) > 1:
            frame.parts.append(element("polyline", points=steps, class_="frontier"))
        taken = [(x(each.seconds) - 5, y(100 * each.accuracy) - 5, 10.0, 10.0) for each in priced]
        taken += _along(corners)
        _labels(frame, [(*corner, each.name) for corner, each in zip(corners, best, strict=True)], taken)
        drawings.append(finish(frame, lines, x, y, f"{title}. {_best_words(best)}", connect=False))
    caption = "The line joins the models that no other beats in both. Whiskers are 95 % intervals over the test images."
    if right:
        caption += " The scale is stretched towards 100 %, by the share of errors."
    header = ("model", "kind", "seconds", "test accuracy, %", "on the frontier")
    table = tuple(
        (each.name, each.kind, f"{each.seconds:.3g}", percent(each.accuracy), "yes" if each in best else "")
        for each in sorted(priced, key=lambda each: each.seconds)
    )
    return Figure(name, title, caption, tuple(drawings), (header, table))


def frontier(priced: Sequence[Priced]) -> list[Priced]:
    """The models that no other beats in both accuracy and time, the soonest first; of equals the first."""
    kept: list[Priced] = []
    for each in sorted(priced, key=lambda each: (each.seconds, -each.accuracy)):
        if not kept or each.accuracy > kept[-1].accuracy:
            kept.append(each)
    return kept


def _best_words(best: Sequence[Priced]) -> str:
    told = [f"{each.name} ({percent(each.accuracy)} %, {duration(each.seconds)})" for each in best]
    return f"Best for their time: {', '.join(told)}."


def _priced_tip(each: Priced, best: bool) -> str:
    ends = f"{percent(each.low)} to {percent(each.high)}"
    more = "\nno other is both sooner ready and more accurate" if best else ""
    return one_line_each(f"{each.name}\n{percent(each.accuracy)} % ({ends})\nready in {duration(each.seconds)}{more}")


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
    epochs: tuple[dict[str, Any], ...]
    kept: int | None


def training_curves(runs: Sequence[Run], name: str, title: str) -> Figure | None:
    """Two figures beside each other (below each other on a phone): training loss and validation accuracy by epoch."""
    runs = [run for run in runs if run.epochs][:SERIES]
    if not runs:
        return None
    drawings = []
    for frame in frames(330):
        panels = _halves(frame)
        for panel, (what, title_) in zip(
            panels, (("loss", "training loss"), ("validation_accuracy", "validation accuracy, %")), strict=True
        ):
            scale = 100.0 if what == "validation_accuracy" else 1.0
            values = [scale * each[what] for run in runs for each in run.epochs if each.get(what) is not None]
            last = max(each["epoch"] for run in runs for each in run.epochs)
            x = Scale(0.5, last + 0.5, panel.x0, panel.x1, _whole_ticks(last))
            if what == "loss":
                y = svg.linear(0.0, max(values, default=1.0), panel.y0, panel.y1, 5)
            else:
                right = max(values, default=0.0) >= 100 * MOSTLY_RIGHT
                y = svg.accuracies(min(values, default=0.0), max(values, default=1.0), panel.y0, panel.y1, right)
            y_axis(panel, y, title_)
            for tick in x.ticks:
                frame.parts.append(words(x(tick), panel.y0 + 18, f"{tick:g}", anchor="middle"))
            frame.parts.append(words((panel.x0 + panel.x1) / 2, panel.y0 + 36, "epoch", anchor="middle"))
            _draw_runs(frame, runs, what, scale, x, y)
        lines = [Line(run.name, (), number) for number, run in enumerate(runs)]
        drawings.append(finish(frame, lines, x, y, f"{title}: {', '.join(run.name for run in runs)}."))
    caption = "A ring marks the epoch whose weights were kept: the best on validation. The test set takes no part."
    header = ("network", "epoch", "training loss", "validation accuracy, %", "seconds")
    table = tuple(
        (
            run.name,
            count(each["epoch"]),
            decimal(each.get("loss")),
            percent(each.get("validation_accuracy")),
            duration(each.get("seconds")),
        )
        for run in runs
        for each in run.epochs
    )
    return Figure(name, title, caption, tuple(drawings), (header, table))


def _halves(frame: Frame) -> tuple[Frame, Frame]:
    """Two panels in one drawing, which share its parts."""
    if frame.variant == "wide":
        half = frame.width // 2
        first = Frame(frame.width, frame.height, "wide", left=frame.left, right=half + 16, parts=frame.parts)
        return first, Frame(frame.width, frame.height, "wide", left=half + 48, right=18, parts=frame.parts)
    shape = {"left": frame.left, "right": frame.right, "parts": frame.parts}
    first = Frame(frame.width, 250, "narrow", **shape)
    object.__setattr__(frame, "height", 500)
    return first, Frame(frame.width, 500, "narrow", **{**shape, "top": 296})


def _draw_runs(frame: Frame, runs: Sequence[Run], what: str, scale: float, x: Scale, y: Scale) -> None:
    for number, run in enumerate(runs):
        told = [each for each in run.epochs if each.get(what) is not None]
        points = [(x(each["epoch"]), y(scale * each[what]), each) for each in told]
        path = " ".join(f"{at_x:.1f},{at_y:.1f}" for at_x, at_y, _ in points)
        frame.parts.append(element("polyline", points=path, class_=f"line s{number % SERIES}"))
        for at_x, at_y, each in points:
            value = f"{percent(each[what])} % on validation" if scale > 1 else f"loss {decimal(each[what])}"
            tip = one_line_each(f"{run.name}\nepoch {each['epoch']}: {value}")
            shape = MARKS[number % len(MARKS)]
            if each["epoch"] == run.kept:
                frame.parts.append(element("circle", cx=at_x, cy=at_y, r=8.5, class_=f"ring s{number % SERIES}"))
            frame.parts.append(mark(shape, at_x, at_y, f"point s{number % SERIES}", 3.6, data_tip=tip))


def _whole_ticks(last: int) -> tuple[float, ...]:
    step = max(1, -(-last // 8))
    return tuple(float(tick) for tick in range(step if step > 1 else 1, last + 1, step))


def _summary(lines: Sequence[Line]) -> str:
    tops = [(max(line.points, key=lambda point: point.value), line) for line in lines if line.points]
    return "Highest: " + ", ".join(f"{line.name} {percent(top.value)} %" for top, line in tops) + "."


def _time(seconds: float) -> str:
    if seconds < 1:
        return f"{1000 * seconds:g} ms"
    if seconds < 60:
        return f"{seconds:g} s"
    return f"{seconds / 60:g} min" if seconds < 3600 else f"{seconds / 3600:g} h"
