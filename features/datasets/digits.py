"""`digits`: the 1,797 digits of 8 x 8 pixels that come with scikit-learn, for which nothing is downloaded.

Their values 0 to 16 are scaled to 0 to 255. One third of each class is the test set, always the same one.
"""

import functools
import importlib.metadata
import typing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from features.datasets.dataset import Dataset, Split
from features.datasets.splitting import CUT, cut_test_rows
from features.digests import sha256_json
from features.notes import remembered_answer

TEST_FRACTION = 1 / 3


def open_named(name: str, path: Path | None) -> Dataset:
    """The digits; there is nothing that could be missing."""
    return Digits()


@dataclass(frozen=True)
class Digits(Dataset):
    """scikit-learn's digits, uint8 (N, 8, 8)."""

    name: typing.ClassVar[str] = "digits"
    spec: typing.ClassVar[str] = "digits"
    classes: typing.ClassVar[tuple[str, ...]] = tuple("0123456789")
    splits: typing.ClassVar[tuple[str, ...]] = ("train", "test")

    cuts_test: typing.ClassVar[bool] = True

    def fingerprint(self) -> str:
        # Importing scikit-learn takes longer than everything else that a repeated run does.
        version = importlib.metadata.version("scikit-learn")
        content = remembered_answer(f"the digits of scikit-learn {version}", _digest)
        return sha256_json({"digits": content, "classes": self.classes, "cut": [CUT, TEST_FRACTION]})

    def load(self, split: str) -> Split:
        self.require(split)
        images, labels = _arrays()
        rows = dict(zip(self.splits, cut_test_rows(labels, self.classes, self.name, TEST_FRACTION), strict=True))
        return Split(images[rows[split]], labels[rows[split]])


@functools.cache
def _arrays() -> tuple[np.ndarray, np.ndarray]:
    """All images and labels, which nobody writes into: their text takes a fiftieth of a second to read, and a command
    asks a dozen times."""
    from sklearn.datasets import load_digits

    loaded = load_digits()
    return np.round(loaded.images * (255 / 16)).astype(np.uint8), loaded.target.astype(np.int64)


@functools.cache
def _digest() -> str:
    images, labels = _arrays()
    return sha256_json([images.tolist(), labels.tolist()])
