"""Where the names of marked points stand: beside their points, hiding neither a point, nor a line, nor another name.

Lengths are pixels of a page, y downwards; whoever paints elsewhere converts.
"""

from collections.abc import Sequence
from dataclasses import dataclass

# An average letter of a sans serif is this wide, in parts of the font's size.
_LETTER = 0.56
_SIZE = 12.0
# Around a point, straight above it first; then the same twice as far away.
_DIRECTIONS = ((0, -1), (1, 0), (-1, 0), (0, 1), (1, 1), (-1, -1), (1, -1), (-1, 1))
_STEPS = (1, 2)

Box = tuple[float, float, float, float]  # left, top, right, bottom


@dataclass(frozen=True)
class Placed:
    """A name and where its foot stands. anchor: which end of the text is at x, 'start', 'middle' or 'end'."""

    text: str
    x: float
    y: float
    anchor: str


def text_width(text: str, size: float = _SIZE) -> float:
    """About how wide a text is."""
    return _LETTER * size * len(text)


def place_names(
    names: Sequence[tuple[str, float]],
    places: Sequence[tuple[float, float]],
    points: Sequence[tuple[float, float]],
    area: Box,
) -> list[Placed]:
    """The names of `places`, which a line joins, the last first; one for which there is no room is left out.

    names: (text, how wide it is). points: all that are drawn in the area.
    """
    taken = [_around(point, 5.0) for point in points] + _along(places)
    placed = []
    for (text, width), place in reversed(list(zip(names, places, strict=True))):
        own = _around(place, 8.0)
        in_the_way = [box for box in taken if not _overlap(own, box)]
        for across, down in ((step * dx, step * dy) for step in _STEPS for dx, dy in _DIRECTIONS):
            x, foot = place[0] + 9 * across, place[1] + 4 + 15 * down
            anchor = "start" if across > 0 else "end" if across < 0 else "middle"
            left = x - {"start": 0.0, "end": width, "middle": width / 2}[anchor]
            box = (left, foot - 10, left + width, foot + 2)
            if _inside(box, area) and not any(_overlap(box, other) for other in in_the_way):
                taken.append(box)
                placed.append(Placed(text, x, foot, anchor))
                break
    return placed


def _around(point: tuple[float, float], half: float) -> Box:
    return point[0] - half, point[1] - half, point[0] + half, point[1] + half


def _along(corners: Sequence[tuple[float, float]]) -> list[Box]:
    """Small boxes along a line, every few pixels."""
    boxes = []
    for (x0, y0), (x1, y1) in zip(corners, corners[1:], strict=False):
        steps = int(max(abs(x1 - x0), abs(y1 - y0)) // 6) + 1
        for share in (step / steps for step in range(1, steps)):
            boxes.append(_around((x0 + share * (x1 - x0), y0 + share * (y1 - y0)), 1.0))
    return boxes


def _overlap(box: Box, other: Box) -> bool:
    return box[0] < other[2] and other[0] < box[2] and box[1] < other[3] and other[1] < box[3]


def _inside(box: Box, area: Box) -> bool:
    return area[0] <= box[0] and area[1] <= box[1] and box[2] <= area[2] and box[3] <= area[3]
