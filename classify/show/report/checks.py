"""What `check` found, as a page shows it: the lines, and a thumbnail of each image with its path in the data set.

Images are read from the data set if it is at hand and is still the one that was looked at; nothing is downloaded.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from classify.measure.wording import count, counted, one_line, percent
from classify.show.report.documents import CheckDocument, read_checks
from classify.show.report.images import png, png_address
from features.datasets import ImageFiles, open_dataset
from features.errors import UserError
from features.first_use import require_used_here

SIDE = 96  # pixels of a thumbnail
MOST_TILES = 24  # of a finding


@dataclass(frozen=True)
class Tile:
    """An image of a finding. address: of its thumbnail, or ''; lines: its path, and what there is to say of it."""

    address: str
    path: str
    about: str
    says: str


@dataclass(frozen=True)
class Block:
    """A finding: its kind, its line, the images and how many more there are. listed: path, about and says of all."""

    kind: str
    line: str
    tiles: tuple[Tile, ...]
    more: int
    listed: tuple[tuple[str, str, str], ...]


@dataclass(frozen=True)
class Check:
    """What a page shows of a check. sizes: of its splits, as header and cells."""

    id: str
    title: str
    headline: str
    note: str
    header: tuple[str, ...]
    sizes: tuple[tuple[str, ...], ...]
    blocks: tuple[Block, ...]


def show_checks(folder: Path, *, images: bool, dataset: str | None = None) -> tuple[Check, ...]:
    """The newest check of each data set in a folder of results; images: whether there are thumbnails. dataset: where
    the images are, if not where the check found them."""
    newest: dict[str, CheckDocument] = {}
    for document in read_checks(folder):
        newest[document.body["dataset"]] = document
    return tuple(_shown(number, document, images, dataset) for number, document in enumerate(newest.values()))


def _shown(number: int, document: CheckDocument, images: bool, dataset: str | None) -> Check:
    body = document.body
    opened = _open(body["question"], dataset) if images else {}
    note = opened if isinstance(opened, str) else ""
    splits = {} if isinstance(opened, str) else opened
    blocks = tuple(_block(finding, splits) for finding in body["findings"])
    total = sum(size["images"] for size in body["splits"])
    verdict = f"{counted(len(blocks), 'thing')} to look at" if blocks else "Nothing is wrong"
    return Check(
        id=f"check-{number}",
        title=f"The data: {one_line(body['dataset'])}",
        headline=f"{verdict} in {counted(total, 'image')}",
        note=one_line(note),
        header=("split", "images", "classes", "largest class", "images", "%", "smallest class", "images"),
        sizes=tuple(_size(size) for size in body["splits"]),
        blocks=blocks,
    )


def _size(size: dict[str, Any]) -> tuple[str, ...]:
    largest, smallest = one_line(size["largest"]), one_line(size["smallest"])
    return (
        one_line(size["split"]),
        count(size["images"]),
        count(size["classes"]),
        largest,
        count(size["most"]),
        percent(size["share"]),
        smallest,
        count(size["least"]),
    )


def _block(finding: dict[str, Any], splits: dict[str, np.ndarray | ImageFiles]) -> Block:
    items: Sequence[dict[str, Any]] = finding["items"]
    tiles = []
    for item in items[:MOST_TILES]:
        images, row = splits.get(item.get("split", "")), item.get("row")
        there = images is not None and isinstance(row, int) and 0 <= row < len(images)
        address = _thumbnail(images, row) if there and images is not None and row is not None else ""
        tiles.append(Tile(address, *_words(item)))
    listed = tuple(map(_words, items))
    return Block(one_line(finding["kind"]), one_line(finding["line"]), tuple(tiles), len(items) - len(tiles), listed)


def _words(item: dict[str, Any]) -> tuple[str, str, str]:
    """An image's path, its split and label, and what there is to say of it."""
    about = ", ".join(one_line(item[name]) for name in ("split", "label") if item.get(name))
    return one_line(item["path"]), about, one_line(item.get("says") or "")


def _thumbnail(images: np.ndarray | ImageFiles, row: int) -> str:
    from PIL import Image

    try:
        pixels = images.read(row) if isinstance(images, ImageFiles) else images[row]
    except UserError:
        return ""
    picture = Image.fromarray(pixels)
    picture.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    return png_address(png(picture))


def _open(question: dict[str, Any], dataset: str | None) -> dict[str, np.ndarray | ImageFiles] | str:
    """The images of each split, or why they cannot be shown."""
    spec = dataset or question["request"]["dataset"]
    try:
        if dataset is None:
            require_used_here(spec, question["dataset_sha256"])
        opened = open_dataset(spec)
        if missing := [path for path in opened.files() if not path.exists()]:
            return f"images are left out: {missing[0]} is not there"
        if opened.fingerprint() != question["dataset_sha256"]:
            return f"images are left out: the data set '{spec}' is no longer the one that was looked at; check it again"
        return {split: opened.load(split).images for split in opened.splits}
    except UserError as error:
        return f"images are left out: {error}"
