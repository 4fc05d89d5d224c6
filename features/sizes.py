"""How large the images of a data set are: what depends on their shapes is known before anything is computed.

Of files only the headers are read, once for each content of a data set.
"""

import contextlib
import dataclasses
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from features.datasets import Dataset, ImageFiles
from features.datasets.images import draft, opened
from features.notes import remembered_answer
from features.preprocessing import Preprocessing

_READERS = 8
_AT_ONCE = 4096
_GLANCES = 9


def shortest_oblong(dataset: Dataset) -> int | None:
    """The shortest side, in pixels, of a data set's images that are no squares; None where all are.

    A file without a header that can be read counts as a side of 0: of its shape nothing is known.
    """
    sides = []
    for split in dataset.splits:
        images = dataset.load(split).images
        if not isinstance(images, ImageFiles):
            height, width = images.shape[1:3]
            sides += [min(height, width)] if height != width else []
            continue
        question = f"the shortest side of an oblong image in {split} of {dataset.fingerprint()}"
        note = remembered_answer(question, lambda images=images: _shortest(images))  # type: ignore[misc]  # default
        sides += [int(note)] if note != "none" else []
    return min(sides, default=None)


def sizes_of(images: ImageFiles) -> Iterator[tuple[int, int]]:
    """(height, width) of images in files, as their headers say, before a camera's turn; (0, 0) where none can."""
    with ThreadPoolExecutor(_READERS, "headers") as readers:
        for start in range(0, len(images), _AT_ONCE):
            rows = range(start, min(start + _AT_ONCE, len(images)))
            yield from readers.map(lambda row: _size(images, row), rows)


def would_be_drafted(dataset: Dataset, steps: Preprocessing) -> bool:
    """Whether most of a data set's images would be decoded at less than their size by `--decode draft`, going by the
    headers of a few."""
    images, drafted = dataset.load(dataset.splits[0]).images, dataclasses.replace(steps, decode="draft")
    if not isinstance(images, ImageFiles):
        return False
    rows = np.unique(np.linspace(0, len(images) - 1, _GLANCES).astype(int)).tolist()
    return 2 * sum(_is_drafted(images, row, drafted) for row in rows) > len(rows)


def _is_drafted(images: ImageFiles, row: int, steps: Preprocessing) -> bool:
    with contextlib.suppress(Exception), opened(images.source(row)) as image:
        size = image.size
        draft(image, steps.decoded)
        return bool(image.size != size)
    return False


def _shortest(images: ImageFiles) -> str:
    sides = (min(size) for size in sizes_of(images) if size[0] != size[1] or not size[0])
    return str(min(sides, default="none"))


def _size(images: ImageFiles, row: int) -> tuple[int, int]:
    try:
        with opened(images.source(row)) as image:
            return image.height, image.width
    except Exception:
        # Decoders meet damaged files with exceptions of every kind. Whoever reads the whole image names the file.
        return 0, 0
