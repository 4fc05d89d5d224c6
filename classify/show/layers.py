"""Accuracy on the test set by layer and by image size, as values: for files and for the page."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from classify.show.panels import Level, Line, Panel

SIZE = "image size in pixels"  # how the x axis of a panel by size begins
# The kinds of rows that the best is chosen from; the others are there to be compared with.
CANDIDATES = ("layer", "selection", "head2toe")
_OUTER = {"input": -1, "pixels": -1, "conv1": 1, "bn1": 2, "relu": 3, "maxpool": 4, "avgpool": 1001, "fc": 1002}
_WORDS = re.compile(r"(\d+)|(\D+)")


@dataclass(frozen=True)
class LayerRow:
    """A row of a probe: the part that it plays, and what it reached, as fractions.

    estimate: (accuracy, low, high). network: what its network is called where several are probed, '' else. size: of the
    images, in pixels, where several are probed and told with the pooling; else 0.
    """

    kind: str
    layer: str
    pool: str
    head: str
    validation: float
    estimate: tuple[float, float, float]
    network: str = ""
    size: int = 0

    @property
    def own_pool(self) -> str:
        """The pooling without the size."""
        return self.pool.removesuffix(f" {self.size} px")


def layer_panels(rows: Sequence[LayerRow]) -> tuple[Panel, ...]:
    """A panel for each network and pooling; rows: all rows of a probe, controls among them.

    Where several sizes of the images are probed, a panel has accuracy by size, a line for each layer.
    """
    shown = _of_kind(rows, *CANDIDATES)
    if len({row.size for row in shown}) > 1:
        return tuple(_size_panel(place, of_place, rows) for place, of_place in _by_place(shown).items())
    places = list(dict.fromkeys((row.network, row.pool) for row in shown))
    heads = list(dict.fromkeys(row.head for row in shown))
    pools = {pool for _, pool in places}
    panels = []
    for network, pool in places:
        # Pixels have no network, and are held against all of them.
        own = [row for row in rows if row.network in ("", network)]
        parts = [f"layer of {network}" if network else "layer", *([f"{pool} pooling"] if len(pools) > 1 else [])]
        panels.append(_panel(own, heads, pool, ", ".join(parts)))
    return tuple(panels)


def _by_place(rows: Sequence[LayerRow]) -> dict[str, list[LayerRow]]:
    """Rows by network and pooling, whatever the size."""
    places: dict[str, list[LayerRow]] = {}
    pools, networks = ({getattr(row, name) for row in rows} for name in ("own_pool", "network"))
    for row in rows:
        parts = (row.network if len(networks) > 1 else "", f"{row.own_pool} pooling" if len(pools) > 1 else "")
        places.setdefault(", ".join(filter(None, parts)), []).append(row)
    return places


def _size_panel(called: str, rows: Sequence[LayerRow], controls: Sequence[LayerRow]) -> Panel:
    """A line for each layer, which has at each size the head that is best there on validation."""
    sizes = sorted({row.size for row in rows})
    lines, labels = [], list(dict.fromkeys(map(_label, rows)))
    for number, layer in enumerate(labels):
        shift = 0.05 * (number - (len(labels) - 1) / 2)
        of_layer = [[row for row in rows if _label(row) == layer and row.size == size] for size in sizes]
        chosen = [max(heads, key=lambda row: row.validation) for heads in of_layer if heads]
        y, low, high = (tuple(100 * row.estimate[part] for row in chosen) for part in range(3))
        x = tuple(sizes.index(row.size) + shift for row in chosen)
        names = tuple(f"{layer} with {row.head}" for row in chosen)
        lines.append(Line(layer.replace("\n", ""), x, y, low, high, names=names))
    return Panel(
        "",
        f"{SIZE}, {called}" if called else f"{SIZE}, every layer with its best head",
        "accuracy on the test set, %",
        tuple(lines),
        ticks=tuple((float(place), str(size)) for place, size in enumerate(sizes)),
        levels=_levels(controls),
        errors=True,
        share=float(max(4, len(sizes))),
    )


def _of_kind(rows: Sequence[LayerRow], *kinds: str) -> list[LayerRow]:
    return [row for row in rows if row.kind in kinds]


def _panel(rows: Sequence[LayerRow], heads: list[str], pool: str, called: str) -> Panel:
    here = [row for row in rows if row.pool == pool]
    shown = _of_kind(here, *CANDIDATES)
    layers = list(dict.fromkeys(map(_label, shown)))
    lines: list[Line] = []
    for number, head in enumerate(heads):
        # Heads that are equally good would lie on each other.
        shift = 0.07 * (number - (len(heads) - 1) / 2)
        of_head = [row for row in shown if row.head == head]
        single = [row for row in of_head if row.kind == "layer" and "+" not in row.layer]
        names = {row.layer for row in single}
        drawn = [row for row in _of_kind(here, "random") if row.head == head and row.layer in names]
        lines += _line(single, layers, shift, head, head)
        lines += _line([row for row in of_head if row not in single], layers, shift, head, head, connected=False)
        lines += _line(drawn, layers, shift, f"{head}, random weights", head, dashed=True)
    return Panel(
        "",
        "layer, from the image to the classes" if called == "layer" else called,
        "accuracy on the test set, %",
        tuple(lines),
        ticks=tuple((float(place), layer) for place, layer in enumerate(layers)),
        levels=_levels(rows),
        errors=True,
        share=float(max(3, len(layers))),
    )


def _line(
    rows: list[LayerRow],
    layers: list[str],
    shift: float,
    label: str,
    head: str,
    *,
    dashed: bool = False,
    connected: bool = True,
) -> list[Line]:
    if not rows:
        return []
    x = tuple(layers.index(_label(row)) + shift for row in rows)
    y, low, high = (tuple(100 * row.estimate[part] for row in rows) for part in range(3))
    return [Line(label, x, y, low, high, dashed, head, connected)]


def _levels(rows: Sequence[LayerRow]) -> tuple[Level, ...]:
    """Controls that have no layer: the head best on pixels, and what shuffled labels leave."""
    levels = []
    if pixels := _of_kind(rows, "pixels"):
        best = max(pixels, key=lambda row: row.validation)
        levels.append(Level(f"raw pixels, {best.head}", 100 * best.estimate[0], dashed=True))
    if shuffled := _of_kind(rows, "shuffled"):
        mean = sum(row.estimate[0] for row in shuffled) / len(shuffled)
        levels.append(Level("shuffled labels", 100 * mean))
    return tuple(levels)


def _label(row: LayerRow) -> str:
    if row.kind == "head2toe":
        return "Head2Toe"
    return f"selected:\n{row.layer}" if row.kind == "selection" else row.layer.replace("+", "+\n")


def depth_order(layer: str) -> tuple[Any, ...]:
    """What sorts names of layers from the image to the classes, where no probe says how deep they are.

    Numbers in names count as numbers; joined layers stand behind the deepest of them.
    """
    parts = [
        (_OUTER.get(name.split(".")[0], 10), tuple((int(digits or -1), word) for digits, word in _WORDS.findall(name)))
        for name in layer.split("+")
    ]
    return max(parts), len(parts)
