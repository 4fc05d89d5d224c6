"""A data set whose images are files in a list, whoever made the list: a folder's tree, ImageNet's, a CSV file.

Its fingerprint is made of the files' digests and labels in order, and of the class names. Paths are not in it: a
folder that is moved or a file that is renamed without changing the order holds the same rows.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from features.datasets.dataset import Dataset, Split
from features.datasets.images import READING, ImageFiles
from features.digests import sha256_files, sha256_json, sha256_rows
from features.errors import UserError


@dataclass(frozen=True, eq=False)
class ListedImages(Dataset):
    """Image files with labels; parts: for each split the paths and their labels, int64 (N,), in order.

    root: the folder or file whose list it is; the digests of its images are remembered together.
    """

    name: str
    spec: str
    classes: tuple[str, ...]
    root: Path
    parts: dict[str, tuple[tuple[Path, ...], np.ndarray]]

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(self.parts)

    def fingerprint(self) -> str:
        content = {}
        for split, (paths, labels) in self.parts.items():
            try:
                digests = sha256_files(paths, together=self.root)
            except OSError as error:
                raise UserError(
                    f"cannot read {error.filename or self.root} ({error.strerror}); replace it or take it out"
                ) from error
            content[split] = {"files": digests, "labels": sha256_rows(labels)}
        return sha256_json({"images": content, "classes": self.classes, "reading": READING})

    def files(self) -> tuple[Path, ...]:
        return tuple(path for paths, _ in self.parts.values() for path in paths)

    def load(self, split: str) -> Split:
        self.require(split)
        paths, labels = self.parts[split]
        return Split(ImageFiles(paths), labels)
