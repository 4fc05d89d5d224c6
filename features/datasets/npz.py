"""`npz:PATH`: arrays in a file that numpy's `savez` wrote.

Either `x_train`, `y_train`, `x_test` and `y_test`, or `images` and `labels`, then with `split` (the words train and
test, one per image) or cut: one image in five of each class is the test set, always the same ones. Images are
(N, H, W), (N, H, W, 1) or (N, H, W, 3); whole numbers from 0 to 255, or floating-point numbers from 0 to 1, which are
scaled to 0 to 255 and rounded. Labels are (N,), whole numbers or text; classes are the different ones, sorted. Pickled
objects are never loaded.
"""

import functools
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from features.bombs import refuse_zip_bomb
from features.datasets.dataset import Dataset, Split, name_of
from features.datasets.labels import ordered_classes
from features.datasets.splitting import CUT, TEST_FRACTION, cut_test_rows
from features.digests import sha256_file, sha256_json
from features.errors import UserError

SEPARATE = {"train": ("x_train", "y_train"), "test": ("x_test", "y_test")}
READING = 1


def open_named(name: str, path: Path) -> "NpzDataset":
    """The arrays in a file; UserError where it is no such file or lacks an array."""
    try:
        with zipfile.ZipFile(path) as archive:
            refuse_zip_bomb(path, archive)
            names = sorted(Path(member).stem for member in archive.namelist())
    except (OSError, zipfile.BadZipFile) as error:
        raise UserError(
            f"cannot read {path} ({error}); it is cut short or was not written by numpy's savez: write it again"
        ) from error
    separate = [array for pair in SEPARATE.values() for array in pair]
    if not set(separate) <= set(names) and not {"images", "labels"} <= set(names):
        raise UserError(
            f"{path} holds the arrays {', '.join(names) or '(none)'}; it should hold {', '.join(separate)}, or images, "
            "labels and, if wanted, split"
        )
    return NpzDataset(name_of(name, path), f"{name}:{path}", path, set(separate) <= set(names), "split" in names)


@dataclass(frozen=True)
class NpzDataset(Dataset):
    """Arrays in a file; images uint8 (N, H, W) or (N, H, W, 3)."""

    name: str
    spec: str
    path: Path
    is_separate: bool
    says_split: bool

    def fingerprint(self) -> str:
        try:
            content = sha256_file(self.path)
        except OSError as error:
            raise UserError(f"cannot read {self.path} ({error.strerror})") from error
        # Classes and rows follow from the file's content by the rules that these words stand for.
        return sha256_json({"npz": content, "cut": [CUT, TEST_FRACTION], "reading": READING})

    def files(self) -> tuple[Path, ...]:
        return (self.path,)

    @property
    def classes(self) -> tuple[str, ...]:
        return self._labels[0]

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(self._labels[1])

    def load(self, split: str) -> Split:
        self.require(split)
        rows, labels = self._labels[1][split]
        name = SEPARATE[split][0] if self.is_separate else "images"
        images = _as_bytes(self._read(name), f"the array '{name}' in {self.path}")
        labelled = len(rows) if self.is_separate else self._labels[2]
        if len(images) != labelled:
            raise UserError(f"{self.path} has {labelled} labels for the {len(images)} images of '{name}'; match them")
        return Split(images if self.is_separate else images[rows], labels)

    @functools.cached_property
    def _labels(self) -> tuple[tuple[str, ...], dict[str, tuple[np.ndarray, np.ndarray]], int]:
        """The classes; for each split its rows in the array and their labels; the number of all labels."""
        arrays = [pair[1] for pair in SEPARATE.values()] if self.is_separate else ["labels"]
        texts = [_as_text(self._read(name), f"the array '{name}' in {self.path}") for name in arrays]
        everything, inverse = np.unique(np.concatenate(texts), return_inverse=True)
        classes = ordered_classes(everything.tolist())
        rank = {class_name: label for label, class_name in enumerate(classes)}
        labels = np.array([rank[text] for text in everything.tolist()], dtype=np.int64)[inverse]
        if len(classes) < 2:
            raise UserError(f"{self.path} has {len(classes)} class; two are needed")
        if self.is_separate:
            train, test = labels[: len(texts[0])], labels[len(texts[0]) :]
            parts = {"train": (np.arange(len(train)), train), "test": (np.arange(len(test)), test)}
        else:
            rows = self._said_rows(len(labels)) if self.says_split else cut_test_rows(labels, classes, self.path)
            parts = {split: (members, labels[members]) for split, members in zip(SEPARATE, rows, strict=True)}
        for split, (members, _) in parts.items():
            if not len(members):
                raise UserError(f"{self.path} has no image to {split}; add some")
        if (strange := np.setdiff1d(labels, parts["train"][1])).size:
            raise UserError(f"{self.path} has no training image of class '{classes[strange[0]]}'; add some")
        return classes, parts, len(labels)

    def _said_rows(self, count: int) -> list[np.ndarray]:
        said = _as_text(self._read("split"), f"the array 'split' in {self.path}")
        if len(said) != count:
            raise UserError(f"{self.path} has {count} labels and {len(said)} entries in 'split'; match them")
        if strange := set(said.tolist()) - set(SEPARATE):
            raise UserError(f"the array 'split' in {self.path} says '{min(strange)}'; write train or test")
        return [np.flatnonzero(said == split) for split in SEPARATE]

    def _read(self, name: str) -> np.ndarray:
        try:
            with np.load(self.path, allow_pickle=False) as arrays:
                array = arrays[name]
            # numpy gives the bytes of a member that is no array; a zip file may be locked (RuntimeError).
            if not isinstance(array, np.ndarray):
                raise ValueError("it is no array")
            return array
        except (
            OSError, ValueError, KeyError, EOFError, MemoryError, RuntimeError, zipfile.BadZipFile, zlib.error,
        ) as error:  # fmt: skip
            reason = "it holds pickled objects" if "allow_pickle" in str(error) else " ".join(str(error).split())
            raise UserError(
                f"cannot read the array '{name}' in {self.path} ({reason}); write the file again with numpy's savez "
                "and plain arrays"
            ) from error


def _as_bytes(images: np.ndarray, which: str) -> np.ndarray:
    if images.ndim == 4 and images.shape[-1] == 1:
        images = images[..., 0]
    if images.ndim not in (3, 4) or (images.ndim == 4 and images.shape[-1] != 3) or 0 in images.shape[1:]:
        raise UserError(f"{which} has the shape {images.shape}; images should be (N, H, W) or (N, H, W, 3)")
    if images.dtype == np.uint8:
        return np.ascontiguousarray(images)
    if images.dtype.kind not in "iuf":
        raise UserError(f"{which} is of type {images.dtype}; images should be uint8, or float from 0 to 1")
    limit = 1 if images.dtype.kind == "f" else 255
    low, high = (images.min(), images.max()) if len(images) else (0, 0)
    if not (low >= 0 and high <= limit):
        raise UserError(f"{which} reaches from {low} to {high}; {images.dtype} images should lie in 0 to {limit}")
    if limit == 255:
        return images.astype(np.uint8)
    # In slices: float64 copies of everything at once would take eight times the memory of the result.
    result = np.empty(images.shape, np.uint8)
    for start in range(0, len(images), 1024):
        result[start : start + 1024] = np.round(images[start : start + 1024].astype(np.float64) * 255)
    return result


def _as_text(values: np.ndarray, which: str) -> np.ndarray:
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1:
        hint = "; they look one-hot: save their argmax" if values.ndim == 2 else ""
        raise UserError(f"{which} has the shape {values.shape}; it should be one number or word per image, (N,){hint}")
    if values.dtype.kind == "f" and np.isfinite(values).all() and (values == np.round(values)).all():
        values = values.astype(np.int64)
    if values.dtype.kind == "S":
        values = np.char.decode(values, "utf-8", "replace")
    if values.dtype.kind not in "iuUb":
        raise UserError(f"{which} is of type {values.dtype}; labels should be whole numbers or text")
    return values.astype(str)
