"""`imagenet` and `imagenet:PATH`: images of ILSVRC2012 in one sub-folder per WordNet id.

Two layouts are read: `train/` and `val/` (or one of them) with such sub-folders, as torchvision has it, where `val/`
is the split 'test'; or the sub-folders by themselves, taken for the validation images, so that there is the split
'test' only. Not all 1,000 classes need be there: a label is the rank of the id among all 1,000 sorted ones, which is
the order of the outputs of torchvision's ImageNet networks, and `classes` always names all 1,000.
"""

import functools
from pathlib import Path

import numpy as np

from features.datasets.listed import ListedImages, Rows
from features.datasets.tree import Seen, folders_in, images_below
from features.errors import UserError
from features.home import datasets_folder

SPLIT_FOLDERS = {"train": "train", "test": "val"}


@functools.cache
def wordnet_ids() -> tuple[str, ...]:
    """The 1,000 WordNet ids in the order of the classes."""
    return tuple(Path(__file__).with_name("imagenet-wnids.txt").read_text(encoding="ascii").split())


def open_named(name: str, path: Path | None) -> ListedImages:
    """The images in a folder; UserError where it is absent or not sorted by WordNet id."""
    root = path or datasets_folder() / "imagenet"
    if not root.is_dir():
        raise UserError(
            f"ImageNet is not at {root}, and cannot be downloaded without an account; put its validation images there, "
            "one sub-folder per WordNet id, or name another folder with imagenet:PATH"
        )
    seen = Seen()
    names = folders_in(root)
    folders = {split: root / folder for split, folder in SPLIT_FOLDERS.items() if folder in names} or {"test": root}
    rows = {split: _rows(folder, seen) for split, folder in folders.items()}
    spec = f"{name}:{path}" if path else name
    return ListedImages(name, spec, wordnet_ids(), root, rows, seen.told(root), seen.later)


def _rows(folder: Path, seen: Seen) -> Rows:
    rank = {wordnet_id: label for label, wordnet_id in enumerate(wordnet_ids())}
    paths, labels = [], []
    for name in folders_in(folder):
        if name not in rank:
            raise UserError(
                f"{folder / name} is not named after one of ImageNet's 1,000 WordNet ids (such as n01440764); "
                "move it away, or use folder:PATH for classes of your own"
            )
        images = images_below(folder / name, seen)
        paths += images
        labels += [rank[name]] * len(images)
    if not paths:
        raise UserError(f"{folder} holds no image in a sub-folder named after a WordNet id, such as n01440764/")
    return tuple(paths), np.array(labels, dtype=np.int64)
