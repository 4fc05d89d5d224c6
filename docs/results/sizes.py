"""Draws accuracy by layer and image size, for digits and photos, from the records: `python docs/results/sizes.py`."""

import json
from pathlib import Path

from classify.measure.intervals import wilson_interval
from classify.show.figures import panels_figure
from classify.show.panels import Line, Panel

RECORDS = Path(__file__).with_name("records")
TESTED = {"usps": 2007, "mnist": 5000, "clothing": 179, "insects": 153}  # images


def panel(name: str, images: int) -> Panel:
    """A line for each layer, with 95 % intervals."""
    record = json.loads((RECORDS / f"sizes-{name}.json").read_text(encoding="utf-8"))
    table, title = record["table"], record["about"].partition(":")[0]
    lines = []
    for number, (layer, *cells) in enumerate(table["rows"]):
        y = tuple(float(cell.strip("*")) for cell in cells)
        ends = [wilson_interval(images * accuracy / 100, images) for accuracy in y]
        low, high = (tuple(100 * end[part] for end in ends) for part in range(2))
        x = tuple(place + 0.05 * (number - 2.5) for place in range(len(cells)))
        lines.append(Line(layer.strip("`"), x, y, low, high))
    ticks = tuple((float(place), size.removesuffix(" px")) for place, size in enumerate(table["columns"][1:]))
    digits = name in ("usps", "mnist")  # which have a scale of their own, by errors
    y_name = f"right on test {'digits' if digits else 'photos'}, %"
    return Panel(title, "image size, pixels", y_name, tuple(lines), ticks=ticks, errors=digits)


if __name__ == "__main__":
    panels_figure("", tuple(panel(name, images) for name, images in TESTED.items())).savefig(
        Path(__file__).with_name("sizes.png"), dpi=80
    )
