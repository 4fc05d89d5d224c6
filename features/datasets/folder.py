"""`folder:PATH`: images sorted into one sub-folder per class.

With `train/` and `test/` (or `val/`, when there is no `test/`) those are the splits; else one image in five of each
class is the test set, always the same ones. Classes are the sub-folders' names, sorted as text, as torchvision's
ImageFolder numbers them. Images may stand in deeper folders; hidden files and other kinds of files are passed over.
"""

from pathlib import Path

import numpy as np

from features.datasets.dataset import name_of
from features.datasets.images import IMAGE_SUFFIXES, folders_in, images_below, is_image
from features.datasets.listed import ListedImages
from features.datasets.splitting import cut_test_rows
from features.errors import UserError

TEST_FOLDERS = ("test", "val", "validation")


def open_named(name: str, path: Path) -> ListedImages:
    """The data set in a folder; UserError for an empty one, for a single class, for a class in test alone."""
    names = folders_in(path)
    test_folder = next((folder for folder in TEST_FOLDERS if folder in names), None)
    if "train" in names and test_folder:
        classes = classes_in(path / "train")
        parts = {
            "train": labelled_rows(path / "train", classes),
            "test": labelled_rows(path / test_folder, classes, known_as="train"),
        }
    elif "train" in names:
        raise UserError(
            f"{path} has train/ and neither test/ nor val/; add one of them, or name {path / 'train'} itself to have "
            "a test set cut from it"
        )
    else:
        classes = classes_in(path)
        paths, labels = labelled_rows(path, classes)
        parts = {
            split: (tuple(paths[row] for row in rows), labels[rows])
            for split, rows in zip(("train", "test"), cut_test_rows(labels, classes, path), strict=True)
        }
    return ListedImages(name_of(name, path), f"{name}:{path}", classes, path, parts)


def classes_in(folder: Path) -> tuple[str, ...]:
    """The names of the sub-folders; UserError where there are fewer than two."""
    classes = tuple(folders_in(folder))
    if not classes:
        loose = any(is_image(entry.name) for entry in folder.iterdir())
        content = "holds images but no sub-folders" if loose else "holds no images"
        raise UserError(f"{folder} {content}; it should have one sub-folder per class, named after it, with its images")
    if len(classes) == 1:
        raise UserError(f"{folder} has the one class '{classes[0]}'; two are needed, one sub-folder each")
    return classes


def labelled_rows(folder: Path, classes: tuple[str, ...], known_as: str = "") -> tuple[tuple[Path, ...], np.ndarray]:
    """Paths and labels below `folder`; for a test folder `known_as` names the one beside it that has all classes."""
    if known_as and (strange := sorted(set(folders_in(folder)) - set(classes))):
        raise UserError(
            f"{folder} has the class '{strange[0]}', which {folder.parent / known_as} has not; "
            "both should have the same sub-folders"
        )
    paths, labels = [], []
    for label, class_name in enumerate(classes):
        images = images_below(folder / class_name)
        if not images and not known_as:
            raise UserError(
                f"{folder / class_name} holds no image ({', '.join(IMAGE_SUFFIXES)}); add images or delete the folder"
            )
        paths += images
        labels += [label] * len(images)
    if not paths:
        raise UserError(f"{folder} holds no image; it should have one sub-folder per class with its images")
    return tuple(paths), np.array(labels, dtype=np.int64)
