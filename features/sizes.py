"""How large the images of a data set are: what depends on their shapes is known before anything is computed.

Of files only the headers are read, once for each content of a data set.
"""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from features.datasets import Dataset, ImageFiles
from features.datasets.images import opened
from features.notes import remembered_answer

_READERS = 8


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
        answer = remembered_answer(question, lambda paths=images.paths: _shortest(paths))  # type: ignore[misc]  # default
        sides += [int(answer)] if answer != "none" else []
    return min(sides, default=None)


def sizes_of(paths: Iterable[Path]) -> list[tuple[int, int]]:
    """(height, width) of the images in files, as their headers say, before a camera's turn; (0, 0) where none can."""
    with ThreadPoolExecutor(_READERS, "headers") as readers:
        return list(readers.map(_size, paths))


def _shortest(paths: Iterable[Path]) -> str:
    sides = [min(size) for size in sizes_of(paths) if size[0] != size[1] or not size[0]]
    return str(min(sides, default="none"))


def _size(path: Path) -> tuple[int, int]:
    try:
        with opened(path) as image:
            return image.height, image.width
    except Exception:
        # Decoders meet damaged files with exceptions of every kind. Whoever reads the whole image names the file.
        return 0, 0
