"""`imagenet` and `imagenet:PATH`: images of ILSVRC2012 in one sub-folder per WordNet id.

Two layouts are read: `train/` and `val/` (or one of them, `ILSVRC2012_img_val/` and the like too) with such
sub-folders, as torchvision has it, where `val/` is the split 'test', as the labels of ImageNet's own test images are
not public; or the sub-folders by themselves, taken for the validation images, so that there is the split 'test' only.
Not all 1,000 classes need be there: a label is the rank of the id among all 1,000 sorted ones, which is the order of
the outputs of torchvision's ImageNet networks, and `classes` always names all 1,000.
"""

import functools
from pathlib import Path

import numpy as np

from features.datasets.listed import ListedImages, Rows
from features.datasets.parts import part_called
from features.datasets.tree import Seen, folders_in, images_below, some
from features.errors import UserError
from features.home import datasets_folder


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
    folders = _split_folders(root, seen) or {"test": root}
    rows = {split: _rows(folder, seen) for split, folder in folders.items()}
    spec = f"{name}:{path}" if path else name
    return ListedImages(
        name, spec, wordnet_ids(), root, rows, seen.notes(root), seen.later, findings=seen.findings(root)
    )


def _split_folders(root: Path, seen: Seen) -> dict[str, Path]:
    """The folders of the splits, as torchvision calls them or in other words; none where the classes are in `root`."""
    names = folders_in(root)
    parts: dict[str, list[str]] = {}
    for name in names:
        if (called := part_called(name)) and called[1] in ("", "ilsvrc", "imagenet"):
            parts.setdefault(called[0], []).append(name)
    for several in parts.values():
        if len(several) > 1:
            raise UserError(
                f"{root} has several parts of one kind ({some(several)}); move away those that are not meant"
            )
    folders = {split: parts[part][0] for split, part in (("train", "train"), ("test", "validation")) if part in parts}
    if any(name not in ("train", "val") for name in folders.values()):
        seen.later = True
        seen.remarks.append(f"{' and '.join(f'{name}/ is for {split}ing' for split, name in folders.items())}")
    return {split: root / name for split, name in folders.items()}


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
