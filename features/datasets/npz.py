"""`npz:PATH`: arrays in a file that numpy's `savez` wrote.

Either `x_train`, `y_train`, `x_test` and `y_test`, or `images` and `labels`, then with `split` (the words train and
test, one per image) or cut: one image in five of each class is the test set, always the same ones. Images are
(N, H, W) or (N, H, W, 3), or have their channels elsewhere; whole numbers from 0 to 255, or floating-point numbers from
0 to 1, which are scaled to 0 to 255 and rounded. Where the numbers are evidently on another scale (whole ones of 0 to
1, 12 bits, floating-point ones to 255), the largest settles what is white, see `features.datasets.white`. Labels are
(N,), whole numbers or text; classes are the different ones, sorted. Pickled objects are never loaded.
"""

import functools
import json
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from features.bombs import refuse_zip_bomb
from features.datasets.arrays import images_in_8_bits, white_in, with_channels_last, without_content
from features.datasets.dataset import Dataset, Split, Survey, name_of
from features.datasets.labels import ordered_classes
from features.datasets.splitting import CUT, TEST_FRACTION, cut_test_rows
from features.datasets.survey import nothing_seen, white_remarks
from features.datasets.white import White
from features.digests import sha256_file, sha256_json
from features.errors import UserError
from features.notes import remembered_answer

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


@dataclass(frozen=True, eq=False)
class NpzDataset(Dataset):
    """Arrays in a file; images uint8 (N, H, W) or (N, H, W, 3)."""

    name: str
    spec: str
    path: Path
    is_separate: bool
    says_split: bool

    def fingerprint(self) -> str:
        # Classes and rows follow from the file's content by the rules that these words stand for; what is white is told
        # where it is not what version 0.1.0 took for it.
        white = self._held[0].unlike_0_1_0
        later = {"white": white} if white else {}
        return sha256_json({"npz": self._content, "cut": [CUT, TEST_FRACTION], "reading": READING, **later})

    def survey(self) -> Survey:
        white, remarks = self._held
        return Survey(tuple(f"{self.path}: {line}" for line in remarks), 2 if white.unlike_0_1_0 else 1, white)

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
        white = self._held[0]
        images = images_in_8_bits(self._images(name), white, self._called(name))
        return Split(images if self.is_separate else images[rows], labels)

    @functools.cached_property
    def _content(self) -> str:
        try:
            return sha256_file(self.path)
        except OSError as error:
            raise UserError(f"cannot read {self.path} ({error.strerror})") from error

    @functools.cached_property
    def _held(self) -> tuple[White, list[str]]:
        """What is white in the images, and what people should hear of them; found out once for the file's content."""
        answer = remembered_answer(f"what the images of an npz file hold by rule 1, {self._content}", self._look)
        white, *remarks = json.loads(answer)
        return White.from_json(white), remarks

    def _look(self) -> str:
        names = [pair[0] for pair in SEPARATE.values()] if self.is_separate else ["images"]
        arrays = {name: self._images(name) for name in names}
        white = white_in((self._called(name), images) for name, images in arrays.items())
        found: dict[str, list[str]] = {"of one colour, or all but": [], "nearly black": []}
        for name, images in arrays.items():
            for named, rows in zip(found.values(), without_content(images, white), strict=True):
                named += [f"row {row} of {name}" for row in rows]
        return json.dumps([white.to_json(), *white_remarks(white), *nothing_seen(found)])

    def _called(self, name: str) -> str:
        return f"the array '{name}' in {self.path}"

    def _images(self, name: str) -> np.ndarray:
        """An array of images, as it is but for the order of its axes."""
        images = with_channels_last(self._read(name), self._called(name))
        split = next((split for split, pair in SEPARATE.items() if pair[0] == name), None)
        labelled = len(self._labels[1][split][0]) if split else self._labels[2]
        if len(images) != labelled:
            raise UserError(f"{self.path} has {labelled} labels for the {len(images)} images of '{name}'; match them")
        return images

    @functools.cached_property
    def _labels(self) -> tuple[tuple[str, ...], dict[str, tuple[np.ndarray, np.ndarray]], int]:
        """The classes; for each split its rows in the array and their labels; the number of all labels."""
        arrays = [pair[1] for pair in SEPARATE.values()] if self.is_separate else ["labels"]
        texts = [_as_text(self._read(name), self._called(name)) for name in arrays]
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
        said = _as_text(self._read("split"), self._called("split"))
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
