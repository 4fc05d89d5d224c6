"""The test images that a page shows, from the data set itself, as one PNG of small tiles.

This reads more than results: the data set, if it is at hand and is still the one that the records were made from. It
is never downloaded for this.
"""

import base64
import io
import math
import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from classify.measure.results import recorded_option
from classify.measure.wording import one_line
from classify.show.report.folder import Section
from features.datasets import ImageFiles, open_dataset
from features.errors import UserError
from features.first_use import require_used_here

LARGEST = 64  # pixels, the side of a tile
SMALLEST = 32  # below this, fewer images are taken instead


@dataclass(frozen=True)
class Sheet:
    """Tiles of `side` pixels in rows of `columns`; places: row of the test split -> number of its tile."""

    png: bytes
    side: int
    columns: int
    places: dict[int, int]

    @property
    def about(self) -> dict[str, Any]:
        """What the page's script has to know of it."""
        return {"address": png_address(self.png), "side": self.side, "columns": self.columns}


@dataclass(frozen=True, eq=False)
class TestImages:
    """The images of a test split, uint8."""

    __test__ = False

    images: np.ndarray | ImageFiles

    def read(self, row: int) -> np.ndarray:
        """One image, uint8 (H, W) or (H, W, 3)."""
        return self.images.read(row) if isinstance(self.images, ImageFiles) else self.images[row]

    def sheet(self, rows: Iterable[int], most_bytes: int) -> Sheet:
        """The images of these rows, the first ones where all would take more than so many bytes uncompressed.

        Images keep their shape inside the square tile; those smaller than a tile are not made larger.
        """
        from PIL import Image

        rows = list(dict.fromkeys(int(row) for row in rows))
        first = self.read(rows[0])
        colour = 3 if first.ndim == 3 else 1
        native = min(LARGEST, max(first.shape[:2]))
        fitting = int(math.sqrt(most_bytes / (colour * len(rows))))
        side = min(native, max(fitting, min(SMALLEST, native)))
        rows = rows[: max(1, most_bytes // (colour * side * side))]
        columns = max(1, math.ceil(math.sqrt(len(rows))))
        mode = "RGB" if colour == 3 else "L"
        picture = Image.new(mode, (columns * side, math.ceil(len(rows) / columns) * side))
        for place, row in enumerate(rows):
            tile = Image.fromarray(self.read(row)).convert(mode)
            tile.thumbnail((side, side), Image.Resampling.LANCZOS)
            down, across = divmod(place, columns)
            margin = ((side - tile.width) // 2, (side - tile.height) // 2)
            picture.paste(tile, (across * side + margin[0], down * side + margin[1]))
        return Sheet(png(picture), side, columns, {row: place for place, row in enumerate(rows)})


def png(picture: Any) -> bytes:
    """A Pillow image as a file."""
    stream = io.BytesIO()
    picture.save(stream, "PNG", optimize=True)
    return stream.getvalue()


def png_address(content: bytes) -> str:
    """A picture as a data: address."""
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"


def open_images(section: Section, named: str | None = None) -> TestImages | str:
    """The test images that the section's records were made from, or why they cannot be shown. named: where the user
    says that they are."""
    wanted = section.best.saved.result.config.dataset_sha256
    reasons = []
    for spec in ([named] if named else []) + _specs(section):
        try:
            if spec != named:
                require_used_here(spec, wanted)
            dataset = open_dataset(spec)
            if missing := [path for path in dataset.files() if not path.exists()]:
                reasons.append(
                    f"{missing[0]} is not there; put it back, or fetch it with "
                    f"`python -m extract --dataset {spec} --dry-run`"
                )
                continue
            if wanted is not None and dataset.fingerprint() != wanted:
                reasons.append(f"the data set '{spec}' is no longer the one that these results were made from")
                continue
            return TestImages(dataset.load("test").images)
        except UserError as error:
            reasons.append(str(error))
    return f"images are left out: {one_line(reasons[0] if reasons else 'no record names a data set')}"


def _specs(section: Section) -> list[str]:
    """What the data set may be opened by: as the commands spelled it, else its name."""
    specs = [recorded_option(model.saved, "dataset") for model in section.models]
    for document in section.documents:
        question = document.body.get("question")
        question = question if isinstance(question, dict) else {}
        request = question.get("request")
        specs += [question.get("dataset"), request.get("dataset") if isinstance(request, dict) else None]
    specs.append(section.best.saved.result.config.dataset)
    return list(dict.fromkeys(spec for spec in specs if isinstance(spec, str) and spec))


def option(command: str, name: str) -> str | None:
    """What a recorded command gave for an option, or None."""
    try:
        parts = shlex.split(command)
    except ValueError:
        return None
    for place, part in enumerate(parts):
        if part == name:
            return parts[place + 1] if place + 1 < len(parts) else None
        if part.startswith(f"{name}="):
            return part.removeprefix(f"{name}=")
    return None
