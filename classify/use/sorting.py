"""Predicted images sorted into a folder for each class, and one for the unsure, with a list beside them: to look
through, and to label anew; and pictures of what speaks for their classes.

Images stay where they are: what is made are links to them, or copies. Nothing that stands in the folder is touched.
"""

import contextlib
import csv
import itertools
import os
import re
import shutil
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from features.commands.speaking import tell
from features.errors import UserError
from features.home import user_path

if TYPE_CHECKING:
    from classify.use.predicting import Prediction

LIST, EXPLAINED = "predictions.csv", "explained.csv"
WAYS = ("link", "copy")


def require_place(option: str, folder: str, images: Sequence[str]) -> Path:
    """The folder that an option names for files made of images; UserError for one that holds something, or lies among
    them."""
    place = user_path(folder).absolute()
    if place.exists() and (not place.is_dir() or any(place.iterdir())):
        raise UserError(f"{option} {folder}: there is something already; name a new or an empty folder")
    if not place.parent.is_dir():
        raise UserError(f"{option} {folder}: there is no folder {place.parent}; make it, or name another place")
    for image in images:
        given = user_path(image)
        if image != "-" and given.is_dir() and place.resolve().is_relative_to(given.resolve()):
            raise UserError(f"{option} {folder}: it lies in {image}, whose images are classified; name another place")
    return place


@contextlib.contextmanager
def sorted_into(place: Path, way: str) -> Iterator[Callable[["Prediction"], None]]:
    """A function that puts an image into its class's folder and onto the list; way: of `WAYS`.

    On the list are the image's place in the folder, empty for one that has no file or was not read, and the fields of
    `--csv`.
    """
    from classify.use.predicting import CSV_FIELDS

    place.mkdir(exist_ok=True)
    with (place / LIST).open("x", encoding="utf-8", errors="backslashreplace", newline="") as stream:
        writer = csv.DictWriter(stream, ("file", *CSV_FIELDS), lineterminator="\n")
        writer.writeheader()
        folders: dict[tuple[bool, str], str] = {}  # of each class, and of the unsure ones, which a class may be called
        count = 0

        def put(prediction: "Prediction") -> None:
            nonlocal count
            source = Path(prediction.image)
            file = ""
            if prediction.problem is None and source.is_file():
                named = prediction.unsure, prediction.named
                folder = place / folders.setdefault(named, _folder_name(prediction.named, folders.values()))
                file = str(_put(source.absolute(), folder, way).relative_to(place))
                count += 1
            for record in prediction.records():
                writer.writerow({"file": file, **record})

        yield put
    into = f"{len(folders)} {'folder' if len(folders) == 1 else 'folders'}"
    tell(f"{place}: {_images(count)} sorted into {into}; the list is {place / LIST}")


@contextlib.contextmanager
def explained_into(place: Path) -> Iterator[Callable[["Prediction"], None]]:
    """A function that writes an explanation's picture, and puts it onto the list.

    On the list are the picture's place in the folder, the image, its class, the next likeliest, and the margin between
    them.
    """
    place.mkdir(exist_ok=True)
    with (place / EXPLAINED).open("x", encoding="utf-8", errors="backslashreplace", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(("file", "image", "class", "over", "margin"))
        count = 0

        def put(prediction: "Prediction") -> None:
            nonlocal count
            if why := prediction.explanation:
                file = free_place(place, Path(prediction.image).stem, ".png")
                why.picture().save(file)
                count += 1
                named = prediction.guesses[0].name
                writer.writerow((file.name, prediction.image, named, why.over, f"{why.margin:.6g}"))

        yield put
    tell(f"{place}: a picture each of {_images(count)}; the list is {place / EXPLAINED}")


def _images(count: int) -> str:
    return "1 image" if count == 1 else f"{count:,} images"


def _put(source: Path, folder: Path, way: str) -> Path:
    folder.mkdir(exist_ok=True)
    target = free_place(folder, source.stem, source.suffix)
    if way == "link":
        try:
            target.symlink_to(source)
            return target
        except OSError:
            pass  # there are file systems without links
    shutil.copy2(source, target)
    return target


def free_place(folder: Path, stem: str, suffix: str) -> Path:
    """A path in the folder that nothing stands at yet: images of several folders may have one name."""
    names = itertools.chain([stem], (f"{stem}-{number}" for number in itertools.count(2)))
    return next(place for name in names if not os.path.lexists(place := folder / f"{name}{suffix}"))


def _folder_name(name: str, taken: Collection[str]) -> str:
    """A class's name as that of a folder of its own: without what leads elsewhere or cannot be written, and with a
    number behind it where it is taken, be it in other letters' case."""
    cleaned = re.sub(r'[\x00-\x1f/\\:*?"<>|]+', "_", name)
    # File systems count bytes, and take 255 of them.
    short = cleaned.encode(errors="replace")[:200].decode(errors="ignore").strip(" .") or "class"
    others = {LIST, *(other.casefold() for other in taken)}
    names = itertools.chain([short], (f"{short}-{number}" for number in itertools.count(2)))
    return next(candidate for candidate in names if candidate.casefold() not in others)
