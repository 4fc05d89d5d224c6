"""`usps`: 7,291 + 2,007 handwritten digits of 16 x 16 pixels from envelopes, read and downloaded through torchvision.

The files `usps.bz2` and `usps.t.bz2` stand in `usps/` below `datasets_folder()`, or in the PATH of usps:PATH. Copies
that were compressed again are in use, so what counts is what is inside: that it unpacks, has as many rows as it should,
and 256 pixels in each. That is checked once per content and remembered.
"""

import bz2
import functools
import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from features.datasets.dataset import Dataset, Split
from features.datasets.download import Origin, damaged, fetch
from features.digests import sha256_file, sha256_json
from features.home import datasets_folder
from features.notes import remembered_answer
from features.regular import read_regular

SOURCE = Origin("USPS", exact=False)
_LONGEST_ROW = 8192
FILES = {"train": ("usps.bz2", 7291), "test": ("usps.t.bz2", 2007)}


def open_named(name: str, path: Path | None) -> "Usps":
    """The digits below `path`, by default in `usps/` below the data sets' folder."""
    return Usps(name, f"{name}:{path}" if path else name, path or datasets_folder() / "usps")


@dataclass(frozen=True)
class Usps(Dataset):
    """The USPS digits; images uint8 (N, 16, 16)."""

    name: str
    spec: str
    root: Path
    classes = tuple("0123456789")
    splits = ("train", "test")

    def fingerprint(self) -> str:
        return sha256_json({"usps": self._checked_contents(), "classes": self.classes})

    def files(self) -> tuple[Path, ...]:
        return tuple(self.root / name for name, _ in FILES.values())

    def load(self, split: str) -> Split:
        self.require(split)
        images, labels = _read(self.root, split, self._checked_contents()[split])
        return Split(images.copy(), labels.copy())

    def _checked_contents(self) -> dict[str, str]:
        """For each split the SHA-256 of what is inside its file."""
        missing = [self.root / name for name, _ in FILES.values() if not (self.root / name).exists()]
        if missing:
            fetch(self.name, SOURCE, self.root, missing)
        return {split: _content_digest(self.root / name, rows) for split, (name, rows) in FILES.items()}


@functools.lru_cache(maxsize=2)
def _read(root: Path, split: str, digest: str) -> tuple[np.ndarray, np.ndarray]:
    """The images and labels of a split whose content has this digest, remembered by it: one command asks several times,
    and to read its text takes most of a second."""
    loaded = SOURCE.torchvision_class()(root=root, download=False, **SOURCE.calls[split])
    return loaded.data, np.array(loaded.targets, dtype=np.int64)


def _content_digest(path: Path, rows: int) -> str:
    def digest_inside() -> str:
        try:
            # 256 numbers of a few digits each in a row: what is longer is something else, perhaps endless.
            unpacker = bz2.BZ2Decompressor()
            content = unpacker.decompress(read_regular(path), max_length=rows * _LONGEST_ROW)
            if not unpacker.eof:
                raise EOFError("it ends early, or is far too long")
        except (OSError, ValueError, EOFError) as error:
            raise damaged(path, f"it cannot be unpacked, {error}") from error
        lines = content.splitlines()
        if len(lines) != rows:
            raise damaged(path, f"it has {len(lines)} rows in place of {rows}")
        for number, line in enumerate(lines, 1):
            label, *pixels = line.split()
            if not label.isdigit() or not 1 <= int(label) <= 10 or len(pixels) != 256:
                raise damaged(path, f"row {number} is no label from 1 to 10 with 256 pixels")
        return hashlib.sha256(content).hexdigest()

    return remembered_answer(f"the SHA-256 of the USPS {rows} rows inside {sha256_file(path)}", digest_inside)
