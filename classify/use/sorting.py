"""Predicted images sorted into a folder for each class, and one for the unsure, with a list beside them: to look
through, and to label anew.

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

from classify.use.predicting import CSV_FIELDS, Prediction
from features.errors import UserError
from features.home import user_path

LIST = "predictions.csv"
WAYS = ("link", "copy")


def require_place(folder: str, images: Sequence[str]) -> Path:
    """The folder that images are to be sorted into; UserError for one that holds something, or lies among them."""
    place = user_path(folder).absolute()
    if place.exists() and (not place.is_dir() or any(place.iterdir())):
        raise UserError(f"--sort-into {folder}: there is something already; name a new or an empty folder")
    if not place.parent.is_dir():
        raise UserError(f"--sort-into {folder}: there is no folder {place.parent}; make it, or name another place")
    for image in images:
        given = user_path(image)
        if image != "-" and given.is_dir() and place.resolve().is_relative_to(given.resolve()):
            raise UserError(
                f"--sort-into {folder}: it lies in {image}, whose images are classified; name another place"
            )
    return place


@contextlib.contextmanager
def sorted_into(place: Path, way: str) -> Iterator[Callable[[Prediction], None]]:
    """A function that puts an image into its class's folder and onto the list; way: of `WAYS`.

    On the list are the image's place in the folder, empty for one that has no file or was not read, and the fields of
    `--csv`.
    """
    place.mkdir(exist_ok=True)
    with (place / LIST).open("x", encoding="utf-8", errors="backslashreplace", newline="") as stream:
        writer = csv.DictWriter(stream, ("file", *CSV_FIELDS), lineterminator="\n")
        writer.writeheader()
        folders: dict[tuple[bool, str], str] = {}  # of each class, and of the unsure ones, which a class may be called

        def put(prediction: Prediction) -> None:
            source = Path(prediction.image)
            file = ""
            if prediction.problem is None and source.is_file():
                named = prediction.unsure, prediction.named
                folder = place / folders.setdefault(named, _folder_name(prediction.named, folders.values()))
                file = str(_put(source.absolute(), folder, way).relative_to(place))
            for record in prediction.records():
                writer.writerow({"file": file, **record})

        yield put


def _put(source: Path, folder: Path, way: str) -> Path:
    folder.mkdir(exist_ok=True)
    number, target = 1, folder / source.name
    # Images of several folders may have one name.
    while os.path.lexists(target):
        number += 1
        target = folder / f"{source.stem}-{number}{source.suffix}"
    if way == "link":
        try:
            target.symlink_to(source)
            return target
        except OSError:
            pass  # there are file systems without links
    shutil.copy2(source, target)
    return target


def _folder_name(name: str, taken: Collection[str]) -> str:
    """A class's name as that of a folder of its own: without what leads elsewhere or cannot be written, and with a
    number behind it where it is taken, be it in other letters' case."""
    cleaned = re.sub(r'[\x00-\x1f/\\:*?"<>|]+', "_", name)
    # File systems count bytes, and take 255 of them.
    short = cleaned.encode(errors="replace")[:200].decode(errors="ignore").strip(" .") or "class"
    others = {LIST, *(other.casefold() for other in taken)}
    names = itertools.chain([short], (f"{short}-{number}" for number in itertools.count(2)))
    return next(candidate for candidate in names if candidate.casefold() not in others)
