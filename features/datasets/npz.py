"""`npz:PATH`: arrays in a file that numpy's `savez` wrote.

Either `x_train`, `y_train`, `x_test` and `y_test` (or the like: `train_images`, `val_labels`), or `images` and
`labels`, then with `split` (the words train, test and validation, one per image) or cut: one image in five of each
class is the test set, always the same ones, equal images on one side. A part for validation beside a test set is the
validation set, and without one the test set. `groups` (or `groups_train`, `groups_test`), one number or word per image,
says which images belong together: they are never on both sides of a cut. Images are (N, H, W) or (N, H, W, 3), or have
their channels elsewhere; whole numbers from 0 to 255, or floating-point numbers from 0 to 1, which are scaled to 0 to
255 and rounded. Where the numbers are evidently on another scale (whole ones of 0 to
1, 12 bits, floating-point ones to 255), the largest settles what is white, see `features.datasets.white`. Labels are
(N,), whole numbers or text; classes are the different ones, sorted. Pickled objects are never loaded.
"""

import functools
import hashlib
import json
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from features.bombs import refuse_zip_bomb
from features.datasets.array_names import IMAGES, SEPARATE, groups_in, pairs_in, part_of
from features.datasets.arrays import images_in_8_bits, white_in, with_channels_last, without_content
from features.datasets.dataset import Dataset, Split, Survey, name_of
from features.datasets.doubles import find_copies, find_divided, find_doubles
from features.datasets.findings import Finding, Item, find_class_sizes
from features.datasets.labels import alike_classes, alike_joined, as_seen, ordered_classes, stands_for_none
from features.datasets.parts import PARTS, part_called
from features.datasets.splitting import CUT, TEST_FRACTION, cut_test_rows
from features.datasets.survey import nothing_seen, white_remarks
from features.datasets.white import White
from features.digests import sha256_file, sha256_json
from features.errors import UserError
from features.grouping import group_codes
from features.notes import remembered_answer
from features.regular import require_regular

READING = 1


def open_named(name: str, path: Path) -> "NpzDataset":
    """The arrays in a file; UserError where it is no such file or lacks an array."""
    try:
        require_regular(path)
        with zipfile.ZipFile(path) as archive:
            refuse_zip_bomb(path, archive)
            names = sorted(Path(member).stem for member in archive.namelist())
    except UserError:
        raise
    except Exception as error:  # Python's readers of archives meet damaged ones with exceptions of every kind
        raise UserError(
            f"cannot read {path} ({error}); it is cut short or was not written by numpy's savez: write it again"
        ) from error
    pairs = pairs_in(names, path)
    if not pairs and not {"images", "labels"} <= set(names):
        usual = ", ".join(array for pair in SEPARATE.values() for array in pair)
        raise UserError(
            f"{path} holds the arrays {', '.join(names) or '(none)'}; it should hold {usual}, or images, labels and, "
            "if wanted, split"
        )
    return NpzDataset(
        name_of(name, path), f"{name}:{path}", path, pairs, "split" in names, groups_in(names, pairs, path)
    )


@dataclass(frozen=True, eq=False)
class NpzDataset(Dataset):
    """Arrays in a file; images uint8 (N, H, W) or (N, H, W, 3)."""

    name: str
    spec: str
    path: Path
    pairs: dict[str, tuple[str, str]]
    says_split: bool
    group_arrays: tuple[str, ...] = ()

    @property
    def cuts_test(self) -> bool:
        return self._is_cut

    def fingerprint(self) -> str:
        # Classes and rows follow from the file's content by the rules that these words stand for; what is white is told
        # where it is not what version 0.1.0 took for it.
        return sha256_json({"npz": self._content, "cut": [CUT, TEST_FRACTION], "reading": READING, **self._later})

    @property
    def _later(self) -> dict[str, Any]:
        """In what the data are read otherwise than version 0.1.0 read them; for the fingerprint."""
        white, parts = self._held[0].unlike_0_1_0, list(self.splits)
        usual = self.pairs in ({}, SEPARATE) and parts == list(SEPARATE)
        return {
            **({"white": white} if white else {}),
            **({} if usual else {"parts": [[part, *self.pairs.get(part, ())] for part in parts]}),
            **({"equal": "on one side"} if self._is_cut and self._equal else {}),
            **({"groups": "on one side"} if self._is_cut and self.group_arrays else {}),
            **({"labels": "as seen"} if alike_joined(np.unique(np.concatenate(self._texts)).tolist())[0] else {}),
        }

    def survey(self) -> Survey:
        white, looks = self._held
        findings = [*self._findings(), *nothing_seen({look: self._items(rows) for look, rows in looks.items()})]
        remarks = [*white_remarks(white), *self._labels[2], *(finding.line for finding in findings)]
        rule = 3 if "groups" in self._later else 2 if self._later else 1
        return Survey(tuple(f"{self.path}: {line}" for line in remarks), rule, white, tuple(findings))

    def _findings(self) -> Iterator[Finding]:
        """What is wrong with the rows."""
        parts = {part: labels for part, (_, labels) in self._labels[1].items()}
        if alike := alike_classes(self.classes):
            yield Finding("classes called alike", alike)
        yield from find_class_sizes(parts, self.classes)
        names = self._group_names
        if names is not None and not self._is_cut:
            rows = {part: rows + start for part, (start, rows) in self._places.items()}
            yield from find_divided(
                {part: [names[row] for row in numbers] for part, numbers in rows.items()}, self.name_of
            )
        if self._equal:
            digests = {part: (self.digests(part), labels) for part, labels in parts.items()}
            yield from find_doubles(digests, self.classes, self.name_of, "image")
            yield from find_copies(digests, self.classes, self.name_of, cut=self._is_cut)

    def digests(self, split: str) -> list[str]:
        start, rows = self._places[split]
        return [str(self._equal.get(number, number)) for number in (start + rows).tolist()]

    def name_of(self, split: str, row: int) -> str:
        return f"row {self._labels[1][split][0][row]} of {self.pairs[split][0] if self.pairs else 'images'}"

    def _items(self, numbers: Sequence[int]) -> list[Item]:
        """Images by their numbers, counted through the arrays."""
        places = {
            number: (part, row)
            for part, (start, rows) in self._places.items()
            for row, number in enumerate((start + rows).tolist())
        }
        at = [places[number] for number in numbers if number in places]
        return [
            Item(self.name_of(part, row), part, row, self.classes[self._labels[1][part][1][row]]) for part, row in at
        ]

    def groups(self, split: str) -> np.ndarray | None:
        self.require(split)
        names = self._group_names
        if names is None:
            return None
        start, rows = self._places[split]
        return group_codes(names)[start + rows]

    @property
    def _places(self) -> dict[str, tuple[int, np.ndarray]]:
        """For each split the number of images in the arrays before its own, and its rows in that."""
        starts = dict(zip(self.pairs, np.cumsum([0, *self._counts.values()]).tolist(), strict=False))
        return {part: (starts.get(part, 0), rows) for part, (rows, _) in self._labels[1].items()}

    @functools.cached_property
    def _group_names(self) -> list[str] | None:
        """The names of the groups of all images, counted through the arrays; None without groups."""
        names: list[str] = []
        for array, labelled in zip(self.group_arrays, self._counts.values(), strict=False):
            texts = _as_text(self._read(array), self._called(array)).tolist()
            if len(texts) != labelled:
                raise UserError(f"{self.path} has {len(texts)} entries in '{array}' for {labelled} images; match them")
            if none := [row for row, text in enumerate(texts) if stands_for_none(text)]:
                raise UserError(
                    f"{self._called(array)} says '{texts[none[0]]}' in row {none[0]}, which stands for no group; give "
                    "each image one"
                )
            names += map(as_seen, texts)
        return names if self.group_arrays else None

    @property
    def _is_cut(self) -> bool:
        return not self.pairs and not self.says_split

    @functools.cached_property
    def _equal(self) -> dict[int, int]:
        """Of images that are equal to an earlier one, counted through all arrays, the number of that one."""
        _ = self._held  # which says where the numbers are none
        note = remembered_answer(f"which images of an npz file are equal by rule 1, {self._content}", self._compare)
        return {int(row): first for row, first in json.loads(note).items()}

    def _compare(self) -> str:
        first: dict[bytes, int] = {}
        equal, number = {}, 0
        for name in self._arrays_of_images:
            for image in self._images(name):
                # An image is its shape and its numbers, whatever their type.
                digest = hashlib.sha256(repr(image.shape).encode() + image.astype(np.float64).tobytes()).digest()
                if (earlier := first.setdefault(digest, number)) != number:
                    equal[number] = earlier
                number += 1
        return json.dumps(equal)

    @property
    def _arrays_of_images(self) -> Sequence[str]:
        return [pair[0] for pair in self.pairs.values()] if self.pairs else ["images"]

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
        name = self.pairs[split][0] if self.pairs else "images"
        white = self._held[0]
        images = images_in_8_bits(self._images(name), white, self._called(name))
        return Split(images if self.pairs else images[rows], labels)

    @functools.cached_property
    def _content(self) -> str:
        try:
            return sha256_file(self.path)
        except OSError as error:
            raise UserError(f"cannot read {self.path} ({error.strerror})") from error

    @functools.cached_property
    def _held(self) -> tuple[White, dict[str, list[int]]]:
        """What is white in the images, and the numbers of those that show nothing, by how they look; found out once for
        the file's content."""
        note = remembered_answer(f"what the images of an npz file hold by rule 2, {self._content}", self._look)
        white, looks = json.loads(note)
        return White.from_json(white), looks

    def _look(self) -> str:
        arrays = {name: self._images(name) for name in self._arrays_of_images}
        white = white_in((self._called(name), images) for name, images in arrays.items())
        looks: dict[str, list[int]] = {"of one colour, or all but": [], "nearly black": []}
        start = 0
        for images in arrays.values():
            for numbers, rows in zip(looks.values(), without_content(images, white), strict=True):
                numbers += [start + row for row in rows]
            start += len(images)
        return json.dumps([white.to_json(), looks])

    def _called(self, name: str) -> str:
        return f"the array '{name}' in {self.path}"

    def _images(self, name: str) -> np.ndarray:
        """An array of images, as it is but for the order of its axes."""
        images = with_channels_last(self._read(name), self._called(name))
        labelled = self._counts[name]
        if len(images) != labelled:
            raise UserError(f"{self.path} has {labelled} labels for the {len(images)} images of '{name}'; match them")
        return images

    @functools.cached_property
    def _texts(self) -> list[np.ndarray]:
        """The labels as they stand, of each array."""
        arrays = [pair[1] for pair in self.pairs.values()] if self.pairs else ["labels"]
        return [_as_text(self._read(name), self._called(name)) for name in arrays]

    @property
    def _counts(self) -> dict[str, int]:
        """How many labels there are for each array of images."""
        return dict(zip(self._arrays_of_images, map(len, self._texts), strict=True))

    @functools.cached_property
    def _labels(self) -> tuple[tuple[str, ...], dict[str, tuple[np.ndarray, np.ndarray]], list[str]]:
        """The classes; for each split its rows in the array and their labels; what is to be said of the splits."""
        everything, inverse = np.unique(np.concatenate(self._texts), return_inverse=True)
        joined, joining = alike_joined(everything.tolist())
        words = [joined.get(text, text) for text in everything.tolist()]
        classes = ordered_classes(words)
        rank = {class_name: label for label, class_name in enumerate(classes)}
        labels = np.array([rank[word] for word in words], dtype=np.int64)[inverse]
        if len(classes) < 2:
            raise UserError(f"{self.path} has {len(classes)} class; two are needed")
        if self.pairs:
            own = np.split(labels, np.cumsum([len(texts) for texts in self._texts])[:-1])
            parts = {part: (np.arange(len(values)), values) for part, values in zip(self.pairs, own, strict=True)}
        else:
            rows = self._said_rows(len(labels)) if self.says_split else self._cut_rows(labels, classes)
            parts = {part: (members, labels[members]) for part, members in rows.items()}
        takes_place = bool(self.pairs) and part_of(self.pairs["test"][0], IMAGES) == "validation"
        if not len(parts["test"][0]) and "validation" in parts:
            parts["test"], takes_place = parts.pop("validation"), True
        for part, (members, _) in parts.items():
            if not len(members):
                raise UserError(f"{self.path} has no image to {part}; add some")
        if (strange := np.setdiff1d(labels, parts["train"][1])).size:
            raise UserError(f"{self.path} has no training image of class '{classes[strange[0]]}'; add some")
        remarks = joining
        if "validation" in parts:
            count = len(parts["validation"][0])
            remarks.append(f"{count} images are for validation, and what is chosen is chosen on them")
        elif takes_place:
            remarks.append("the images for validation are the test set, since there is no other")
        return classes, parts, remarks

    def _cut_rows(self, labels: np.ndarray, classes: Sequence[str]) -> dict[str, np.ndarray]:
        content = [self._equal.get(row, row) for row in range(len(labels))] if self._equal else None
        groups = group_codes(self._group_names) if self._group_names is not None else None
        cut = cut_test_rows(labels, classes, self.path, content=content, groups=groups)
        return dict(zip(SEPARATE, cut, strict=True))

    def _said_rows(self, count: int) -> dict[str, np.ndarray]:
        said = _as_text(self._read("split"), self._called("split"))
        if len(said) != count:
            raise UserError(f"{self.path} has {count} labels and {len(said)} entries in 'split'; match them")
        meant = {word: part_called(word) for word in dict.fromkeys(said.tolist())}
        if strange := sorted(word for word, called in meant.items() if called is None):
            raise UserError(f"the array 'split' in {self.path} says '{strange[0]}'; write train, test or validation")
        parts = np.array([called[0] for word in said.tolist() if (called := meant[word])])
        rows = {part: np.flatnonzero(parts == part) for part in PARTS}
        return {part: members for part, members in rows.items() if len(members) or part != "validation"}

    def _read(self, name: str) -> np.ndarray:
        try:
            require_regular(self.path)
            with np.load(self.path, allow_pickle=False) as arrays:
                array = arrays[name]
            # numpy gives the bytes of a member that is no array; a zip file may be locked (RuntimeError).
            if not isinstance(array, np.ndarray):
                raise ValueError("it is no array")
            return array
        except Exception as error:  # of every kind, as above
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
        # Beyond it floating-point numbers leave whole numbers out, and far beyond it all would become one.
        if (np.abs(values) > 2**53).any():
            raise UserError(
                f"{which} holds {np.abs(values).max():g}, where numbers cannot be told apart; save integers"
            )
        values = values.astype(np.int64)
    if values.dtype.kind == "S":
        decoded = np.char.decode(values, "utf-8", "replace")
        if len(np.unique(decoded)) < len(np.unique(values)):
            strange = next(
                value for value, text in zip(values.tolist(), decoded.tolist(), strict=True) if "\ufffd" in text
            )
            raise UserError(f"{which} holds {strange!r} and others that are no UTF-8; save the labels as text")
        values = decoded
    if values.dtype.kind not in "iuUb":
        raise UserError(f"{which} is of type {values.dtype}; labels should be whole numbers or text")
    return values.astype(str)
