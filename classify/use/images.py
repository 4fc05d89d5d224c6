"""The images that a user names: files, folders, a list of paths or an image on the standard input; decoded ahead.

Whatever their number and size, so many prepared images are in memory as two batches have, and so many decoded ones as
there are threads.
"""

import io
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch

from features.datasets.arrays import images_in_8_bits
from features.datasets.content import IMAGE_START
from features.datasets.images import IMAGE_SUFFIXES, Least, read_image
from features.datasets.pixels import pixels_held
from features.datasets.survey import white_among, white_remarks
from features.datasets.tree import Seen, images_below
from features.datasets.white import White
from features.errors import UserError
from features.home import user_path

STANDARD_INPUT = "standard input"
_MOST_BYTES = 512 << 20  # of one image on the standard input
_BINARY = re.compile(rb"\0|^(\xff\xd8|" + IMAGE_START.pattern + rb")", re.DOTALL)


@dataclass(frozen=True)
class Given:
    """One image to classify: its name, and where it is read from; or why there is none."""

    name: str
    source: Path | bytes | None
    problem: str = ""

    def read(self, white: White, least: Least | None) -> np.ndarray:
        """The image as uint8 (H, W) or (H, W, 3), by what is white and decoded at `least`; UserError naming it where it
        is unreadable."""
        if self.source is None:
            raise UserError(self.problem)
        source = io.BytesIO(self.source) if isinstance(self.source, bytes) else self.source
        return read_image(source, self.name, white, least)


@dataclass(frozen=True, eq=False)
class Batch:
    """Images that came together: all of them in order, those that were read, prepared, and what was wrong with others.

    ready: (M, 3, S, S), the images at `places`; problems: place -> one line.
    """

    given: tuple[Given, ...]
    places: tuple[int, ...]
    ready: Any
    problems: dict[int, str]


def in_8_bits(images: Any, white: White, least: Least | None) -> np.ndarray | Iterator[np.ndarray]:
    """uint8 images of an array of them, or of a list of paths and arrays: of that one at a time, at its own size."""

    def read(image: Any) -> np.ndarray:
        if isinstance(image, str | Path):
            return read_image(Path(image), white=white, least=least)
        return images_in_8_bits(np.asarray(image)[None], white, "an image")[0]

    return images_in_8_bits(images, white) if isinstance(images, np.ndarray) else map(read, images)


def given_images(arguments: Sequence[str], stream: BinaryIO) -> Iterator[Given]:
    """The images that arguments name, in their order; folders with all images below them, sorted.

    '-' stands for `stream`: an image, or a list of paths, one a line, which is read as it comes.
    """
    for argument in arguments:
        yield from _from_stream(stream) if argument == "-" else _from_path(argument)


@dataclass(frozen=True)
class Overview:
    """What there is to know of images before they are read.

    count: how many they are; None where that cannot be known yet. remarks: what people should hear of them. white: what
    is white in them, as far as it is known.
    """

    count: int | None
    remarks: tuple[str, ...]
    white: White


def overview(arguments: Sequence[str], white: White) -> Overview:
    """An overview of the images that arguments name. What a model leaves open of white, all files named together say:
    an image must not be read otherwise for what stands beside it."""
    folders: dict[str, Seen] = {}
    named = [argument for argument in arguments if argument != "-"]
    given = [image for argument in named for image in _from_path(argument, folders.setdefault(argument, Seen()))]
    remarks = [remark for folder, seen in folders.items() for remark in seen.told(user_path(folder))]
    settled = white_among((image.source for image in given if isinstance(image.source, Path)), white)
    if settled != white:
        remarks += [f"the model leaves it open: {line}" for line in white_remarks(settled)]
    return Overview(len(given) if len(named) == len(arguments) else None, tuple(remarks), settled)


def batches(
    given: Iterable[Given],
    size: int,
    prepare: Callable[[list[np.ndarray]], Any],
    threads: int,
    white: White,
    least: Least | None = None,
) -> Iterator[Batch]:
    """Batches of `size` images, each decoded by what is white, at `least`, and prepared, by several threads while the
    one before is worked on."""

    def ready(image: Given) -> torch.Tensor | str:
        try:
            with pixels_held():
                return prepare([image.read(white, least)])
        except UserError as error:
            return str(error)
        except MemoryError:
            return f"cannot read the image {image.name} (it does not fit into memory); make it smaller or take it out"

    def gathered(images: Sequence[tuple[Given, Future[torch.Tensor | str]]]) -> Batch:
        outcomes = {place: future.result() for place, (_, future) in enumerate(images)}
        tensors = {place: outcome for place, outcome in outcomes.items() if not isinstance(outcome, str)}
        problems = {place: outcome for place, outcome in outcomes.items() if isinstance(outcome, str)}
        together = torch.cat(list(tensors.values())) if tensors else None
        return Batch(tuple(image for image, _ in images), tuple(tensors), together, problems)

    with ThreadPoolExecutor(threads, "decode") as pool:
        waiting: deque[tuple[Given, Future[torch.Tensor | str]]] = deque()
        try:
            for image in given:
                waiting.append((image, pool.submit(ready, image)))
                if len(waiting) == 2 * size:
                    yield gathered([waiting.popleft() for _ in range(size)])
            while waiting:
                yield gathered([waiting.popleft() for _ in range(min(size, len(waiting)))])
        finally:
            for _, future in waiting:
                future.cancel()


def _from_path(argument: str, seen: Seen | None = None) -> Iterator[Given]:
    path = user_path(argument)
    try:
        if path.is_dir():
            files = images_below(path, seen)
            if not files:
                yield _absent(argument, f"the folder {argument} holds no image ({', '.join(IMAGE_SUFFIXES)})")
            yield from (Given(str(file), file) for file in files)
        elif path.is_file():
            yield Given(argument, path)
        elif path.exists():
            yield _absent(argument, f"{argument} is neither a file nor a folder; give an image to standard input as -")
        else:
            yield _absent(argument, f"there is no file or folder {argument}")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        yield _absent(argument, f"cannot read {argument} ({reason})")


def _from_stream(stream: BinaryIO) -> Iterator[Given]:
    first = stream.readline(1 << 16)
    if not first:
        yield _absent(STANDARD_INPUT, "there is nothing on the standard input; give an image, or paths, one a line")
        return
    if _BINARY.search(first):
        content = first + stream.read(_MOST_BYTES)
        if len(content) > _MOST_BYTES:
            yield _absent(STANDARD_INPUT, f"what is on the standard input is longer than {_MOST_BYTES >> 20} MB")
            return
        yield Given(STANDARD_INPUT, content)
        return
    line = first
    while line:
        if text := line.decode(errors="surrogateescape").strip("\r\n"):
            yield from _from_path(text)
        line = stream.readline(1 << 16)


def _absent(name: str, problem: str) -> Given:
    return Given(name, None, problem)
