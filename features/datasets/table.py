"""`csv:PATH`: a list of images in a comma-separated file, with the columns image path, label and, if wanted, split.

A header is recognised by its names (path, image, file or filename; label, class or target; split or subset, upper or
lower case) and may put the columns in any order among others; without one the first two or three columns are meant.
A relative path is meant from the file's own folder. The split says train or test; val stands for test where no row
says test, and else its rows are left aside. Without a split one image in five of each class is the test set, always the
same ones. Classes are the different labels, sorted as numbers if all are whole numbers, else as text.
"""

import csv
from pathlib import Path

import numpy as np

from features.datasets.dataset import name_of
from features.datasets.labels import ordered_classes
from features.datasets.listed import ListedImages
from features.datasets.splitting import cut_test_rows
from features.errors import UserError
from features.home import user_path

COLUMN_NAMES = {
    "path": ("path", "image", "file", "filename", "image_path", "image path", "filepath"),
    "label": ("label", "class", "target", "class_name"),
    "split": ("split", "subset"),
}
SPLIT_NAMES = {"train": "train", "training": "train", "test": "test", "testing": "test"} | dict.fromkeys(
    ("val", "valid", "validation"), "validation"
)


def open_named(name: str, path: Path) -> ListedImages:
    """The images of a list; UserError names the line for a missing column, an absent file or an unknown split."""
    table = _table(path)
    columns, start = _columns(table[0][1], path), 0
    if columns:
        start = 1
    else:
        columns = dict(zip(("path", "label", "split"), range(len(table[0][1])), strict=False))
    if start == len(table):
        raise UserError(f"{path} has a header and no rows; add one line per image")
    if "label" not in columns:
        raise UserError(f"{path} has one column; two are needed, the image's path and its label")
    paths, names, splits = [], [], []
    for line, cells in table[start:]:
        if len(cells) <= max(columns.values()):
            raise UserError(
                f"{path}, line {line}, has {len(cells)} columns and needs {max(columns.values()) + 1}: "
                f"{', '.join(columns)}"
            )
        cell = {column: cells[position].strip() for column, position in columns.items()}
        image = path.parent / user_path(cell["path"])
        if not cell["path"] or not image.is_file():
            raise UserError(f"{path}, line {line}: there is no file {image}; correct the path or take the line out")
        if not cell["label"]:
            raise UserError(f"{path}, line {line}: the label is empty; fill it in or take the line out")
        if "split" in columns and cell["split"].lower() not in SPLIT_NAMES:
            raise UserError(f"{path}, line {line}: the split is '{cell['split']}'; write train or test")
        paths.append(image)
        names.append(cell["label"])
        splits.append(SPLIT_NAMES[cell["split"].lower()] if "split" in columns else "")
    return _listed(name, path, paths, names, np.array(splits))


def _listed(name: str, path: Path, paths: list[Path], names: list[str], splits: np.ndarray) -> ListedImages:
    classes = ordered_classes(names)
    if len(classes) < 2:
        raise UserError(f"{path} has the one class '{classes[0]}'; two are needed")
    rank = {class_name: label for label, class_name in enumerate(classes)}
    labels = np.array([rank[class_name] for class_name in names], dtype=np.int64)
    if (splits == "").all():
        rows = dict(zip(("train", "test"), cut_test_rows(labels, classes, path), strict=True))
    else:
        test_name = "test" if (splits == "test").any() else "validation"
        rows = {"train": np.flatnonzero(splits == "train"), "test": np.flatnonzero(splits == test_name)}
        rows = {split: members for split, members in rows.items() if len(members)}
    if "train" in rows and (strange := np.setdiff1d(labels, labels[rows["train"]])).size:
        raise UserError(f"{path} has no training image of class '{classes[strange[0]]}'; add some or leave it out")
    parts = {split: (tuple(paths[row] for row in members), labels[members]) for split, members in rows.items()}
    return ListedImages(name_of(name, path), f"{name}:{path}", classes, path, parts)


def _table(path: Path) -> list[tuple[int, list[str]]]:
    """The lines that are not blank, each with its number."""
    try:
        # utf-8-sig: spreadsheets put a byte order mark in front.
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(stream)
            table = [(reader.line_num, cells) for cells in reader if any(cell.strip() for cell in cells)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"cannot read {path} as comma-separated UTF-8 text ({error}); save it as such") from error
    if not table:
        raise UserError(f"{path} is empty; it should have one line per image: path, label and, if wanted, split")
    return table


def _columns(first: list[str], path: Path) -> dict[str, int]:
    """The columns' positions if the first line is a header, else nothing; UserError if it is one and lacks a column."""
    cells = [cell.strip() for cell in first]
    positions = {}
    for column, spellings in COLUMN_NAMES.items():
        position = next((number for number, cell in enumerate(cells) if cell.lower() in spellings), None)
        if position is not None:
            positions[column] = position
    if not positions or (path.parent / cells[0]).is_file():
        return {}
    for column in ("path", "label"):
        if column not in positions:
            raise UserError(
                f"{path} has no column '{column}'; its header is {', '.join(cells)}, and should name path and label, "
                "or be left out"
            )
    return positions
