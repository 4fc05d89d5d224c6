"""MNIST and the sets that come in its format: fashion-mnist, kmnist, qmnist, emnist-digits and emnist-letters.

The files stand where torchvision puts them, below `datasets_folder()` or the PATH of NAME:PATH (for MNIST in
`MNIST/raw`), gzipped or unpacked or both. They are downloaded through torchvision where they are missing. A gzipped
file is held against the MD5 that torchvision knows, an unpacked one against the gzipped one beside it, and every file
against the length in its header; each comparison is made once per content and remembered. An unpacked file by itself
can be checked for its length only.
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from features.datasets.dataset import Dataset, Split
from features.datasets.download import Origin, check, fetch
from features.datasets.idx import idx_digest, read_idx
from features.digests import sha256_json
from features.errors import UserError
from features.home import datasets_folder

_NUMERALS = tuple("0123456789")
_MNIST_FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}


def _emnist_files(part: str) -> dict[str, tuple[str, str]]:
    return {
        split: (f"emnist-{part}-{split}-images-idx3-ubyte", f"emnist-{part}-{split}-labels-idx1-ubyte")
        for split in ("train", "test")
    }


def _emnist_source(part: str) -> Origin:
    return Origin("EMNIST", "EMNIST/raw", {split: {"split": part, "train": split == "train"} for split in _MNIST_FILES})


@dataclass(frozen=True)
class Member:
    """One set of the family.

    files: for each split the names of images and labels, unpacked. first_label: the label of the first class.
    transposed: the file holds each image mirrored at its diagonal, as EMNIST does; rows get it upright.
    """

    source: Origin
    classes: tuple[str, ...]
    files: dict[str, tuple[str, str]] = field(default_factory=lambda: _MNIST_FILES)
    first_label: int = 0
    transposed: bool = False


FAMILY = {
    "mnist": Member(Origin("MNIST", "MNIST/raw"), _NUMERALS),
    "fashion-mnist": Member(
        Origin("FashionMNIST", "FashionMNIST/raw"),
        ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
    ),
    "kmnist": Member(
        Origin("KMNIST", "KMNIST/raw"), ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo")
    ),
    "qmnist": Member(
        Origin("QMNIST", "QMNIST/raw"),
        _NUMERALS,
        {
            split: (f"qmnist-{split}-images-idx3-ubyte", f"qmnist-{split}-labels-idx2-int")
            for split in ("train", "test")
        },
    ),
    "emnist-digits": Member(
        _emnist_source("digits"), _NUMERALS, _emnist_files("digits"), transposed=True
    ),
    "emnist-letters": Member(
        _emnist_source("letters"),
        tuple("abcdefghijklmnopqrstuvwxyz"),
        _emnist_files("letters"),
        first_label=1,
        transposed=True,
    ),
}  # fmt: skip


def open_named(name: str, path: Path | None) -> "IdxDataset":
    """The data set below `path`, by default below the data sets' folder."""
    return IdxDataset(name, f"{name}:{path}" if path else name, path or datasets_folder())


@dataclass(frozen=True)
class IdxDataset(Dataset):
    """A member of MNIST's family; images uint8 (N, 28, 28)."""

    name: str
    spec: str
    root: Path
    splits = ("train", "test")

    @property
    def classes(self) -> tuple[str, ...]:
        return FAMILY[self.name].classes

    def fingerprint(self) -> str:
        files = self._checked_files()
        content = {split: [idx_digest(path) for path in files[split]] for split in self.splits}
        member = FAMILY[self.name]
        return sha256_json(
            {"idx": content, "classes": self.classes, "reading": [member.first_label, member.transposed]}
        )

    def files(self) -> tuple[Path, ...]:
        member = FAMILY[self.name]
        paths = [self.root / member.source.folder / name for names in member.files.values() for name in names]
        return tuple(path if path.exists() else _gzipped(path) for path in paths)

    def load(self, split: str) -> Split:
        self.require(split)
        member = FAMILY[self.name]
        image_file, label_file = self._checked_files()[split]
        images, labels = read_idx(image_file), read_idx(label_file)
        if images.ndim != 3 or images.dtype != np.uint8:
            raise UserError(f"{image_file} holds no greyscale images; delete it and run again to download it")
        # QMNIST's labels are rows of eight numbers, of which the first is the class.
        labels = (labels[:, 0] if labels.ndim == 2 else labels).astype(np.int64) - member.first_label
        if len(labels) != len(images):
            raise UserError(
                f"{label_file} has {len(labels)} labels for the {len(images)} images of {image_file.name}; delete both "
                "and run again to download them"
            )
        if len(labels) and not 0 <= labels.min() <= labels.max() < len(self.classes):
            raise UserError(
                f"{label_file} holds labels beyond the {len(self.classes)} classes; delete it and run again"
            )
        return Split(np.ascontiguousarray(images.transpose(0, 2, 1)) if member.transposed else images, labels)

    def _checked_files(self) -> dict[str, list[Path]]:
        """For each split the files of images and labels, there and intact; the unpacked one where there are both."""
        member = FAMILY[self.name]
        folder = self.root / member.source.folder
        wanted = [folder / name for names in member.files.values() for name in names]
        missing = [path for path in wanted if not path.exists() and not _gzipped(path).exists()]
        if missing:
            listed = member.source.checksums()
            fetch(self.name, member.source, self.root,
                  [_gzipped(path) if _gzipped(path).name in listed else path for path in missing])  # fmt: skip
        return {split: [self._checked_file(folder / name) for name in names] for split, names in member.files.items()}

    def _checked_file(self, path: Path) -> Path:
        packed = _gzipped(path)
        if not packed.exists():
            return path
        check(FAMILY[self.name].source, packed.parent, packed.name)
        if not path.exists():
            return packed
        if idx_digest(path) != idx_digest(packed):
            raise UserError(
                f"{path} is cut short or altered: it differs from {packed.name} beside it; delete it and run again"
            )
        return path


def _gzipped(path: Path) -> Path:
    return path.with_name(f"{path.name}.gz")
