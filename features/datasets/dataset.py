"""What a data set is to everybody else: a name, classes, splits, a fingerprint of its content, and its rows.

How a kind of data set is found, checked and read is its own file's business.
"""

import abc
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from features.datasets.findings import Finding
from features.datasets.images import ImageFiles
from features.datasets.white import White
from features.errors import UserError
from features.grouping import joined_groups


@dataclass(frozen=True, eq=False)
class Split:
    """The rows of one split, in the data set's own order.

    Attributes
    ----------
    images : ndarray of uint8 or ImageFiles
        (N, H, W) for greyscale or (N, H, W, 3) for colour; ImageFiles are read row by row.
    labels : ndarray of int64, (N,)
        Positions in the data set's `classes`.
    """

    images: np.ndarray | ImageFiles
    labels: np.ndarray

    @property
    def grey(self) -> bool:
        """Whether every image is known to have one channel; files are only known when they are read."""
        return isinstance(self.images, np.ndarray) and self.images.ndim == 3


@dataclass(frozen=True)
class Survey:
    """What there is to know of a data set besides its rows.

    remarks: what people should hear of it, a line each. findings: what of it is wrong, or may be; their lines are among
    the remarks. rule: the newest rule of reading that makes another data set of
    its files than the one before did, as `features.first_use` numbers them. white: what is white in its images, as new
    ones have to be read too.
    """

    remarks: tuple[str, ...] = ()
    rule: int = 1
    white: White = White()
    findings: tuple[Finding, ...] = ()


class Dataset(abc.ABC):
    """A data set of images with one label each.

    Attributes
    ----------
    name : str
        For display and for file names: letters, digits, '.', '_' and '-'.
    spec : str
        What `open_dataset` takes to open it again from anywhere.
    classes : tuple of str
        The names of the labels 0, 1, ...
    splits : tuple of str
        Of 'train', 'validation' and 'test' those that there are; without a part for validation some training rows are
        held out.
    """

    if TYPE_CHECKING:
        # To be read only, be they fields, class variables or worked out; a dataclass would take these for defaults.
        @property
        def name(self) -> str: ...
        @property
        def spec(self) -> str: ...
        @property
        def classes(self) -> tuple[str, ...]: ...
        @property
        def splits(self) -> tuple[str, ...]: ...

    @property
    def cuts_test(self) -> bool:
        """Whether its test rows are some of all rows that were cut off here, since it names none."""
        return False

    @abc.abstractmethod
    def fingerprint(self) -> str:
        """SHA-256 of the content of all splits: images, labels, class names, the order of rows and how they are split.

        Makes sure that the files are there and intact, downloading through torchvision what is missing. It does not
        depend on where the files stand. The files' digests are remembered, so that a repeated call reads no image
        and imports neither torch nor torchvision. Raises UserError.
        """

    @abc.abstractmethod
    def load(self, split: str) -> Split:
        """The rows of a split; raises UserError where there is no such split or a file is unusable."""

    def survey(self) -> Survey:
        """What people should know of the data before anything is computed; costs no more than `fingerprint`.

        UserError that names all images that cannot be read.
        """
        return Survey()

    def groups(self, split: str) -> np.ndarray | None:
        """The groups of a split's rows, int64 codes (N,) that are the same in every split; None where no row is said to
        be of one. Rows of a group belong together: one patient, part, video or day."""
        return None

    def name_of(self, split: str, row: int) -> str:
        """What people call a row: a path relative to the data set, or 'row 3 of images'."""
        return f"row {row} of {split}"

    def digests(self, split: str) -> Sequence[str] | None:
        """What each row of a split holds, equal for equal images; None where they were not compared."""
        return None

    def together(self, *splits: str) -> tuple[np.ndarray, ...] | None:
        """Which rows of some splits no hold-out and no fold may part: those of one group, and those whose images are
        equal. Codes, int64 (N,), for each of the splits, the same in all; None where there are no such rows."""
        groups = [codes for split in splits if (codes := self.groups(split)) is not None]
        digests = [own for split in splits if (own := self.digests(split)) is not None]
        content = [digest for own in digests for digest in own]
        if len(set(content)) == len(content):
            return tuple(groups) or None
        if groups:
            codes = joined_groups(np.concatenate(groups), content)
        else:
            codes = np.unique(content, return_inverse=True)[1].astype(np.int64)
        return tuple(np.split(codes, np.cumsum([len(own) for own in digests])[:-1]))

    def grouped_by(self, expression: str) -> "Dataset":
        """The same with groups told by the images' paths; UserError where they do not tell them.

        expression: a regular expression that is searched for in each path relative to the data set, with '/' between
        folders; the text in its first capture group is the group's name.
        """
        raise UserError(f"'{self.spec}' has no images with paths that could tell groups; leave out --group-by")

    def readable(self) -> "Dataset":
        """The same without images that cannot be read; itself where there are none of those."""
        return self

    def files(self) -> Sequence[Path]:
        """The files that the content is read from, where there are any; to look for those that changed."""
        return ()

    def require(self, split: str) -> None:
        """Raise UserError unless the data set has this split."""
        if split not in self.splits:
            raise UserError(
                f"the data set '{self.spec}' has no split '{split}', only {' and '.join(self.splits)}; "
                "choose another data set or add the images"
            )


def name_of(kind: str, path: Path) -> str:
    """A name for a data set at a path, fit for file names: 'folder-cats' for folder:/photos/cats."""
    stem = path.stem if path.is_file() else path.name
    return f"{kind}-{re.sub(r'[^A-Za-z0-9._-]+', '-', stem).strip('-.') or 'data'}"
