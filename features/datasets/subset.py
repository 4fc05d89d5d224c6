"""Some classes of another data set: `mnist[0,2,4]` is MNIST's rows with these labels, numbered in that order."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from features.datasets.dataset import Dataset, Split, Survey
from features.datasets.findings import Finding
from features.datasets.images import ImageFiles
from features.digests import sha256_json
from features.errors import UserError


def with_classes(whole: Dataset, names: Sequence[str]) -> Dataset:
    """The rows of a data set whose classes have these names; UserError for a name that it lacks or is given twice."""
    names = tuple(names)
    for name in names:
        if name not in whole.classes:
            classes = ", ".join(whole.classes[:12]) + (", ..." if len(whole.classes) > 12 else "")
            raise UserError(f"the data set '{whole.spec}' has no class {name!r}; its classes are {classes}")
        if names.count(name) > 1:
            raise UserError(f"the class {name!r} was given twice; give each once, as in {whole.spec}[{name}]")
    return Subset(whole, names)


@dataclass(frozen=True, eq=False)
class Subset(Dataset):
    """See `with_classes`. whole: what it is a part of."""

    whole: Dataset
    classes: tuple[str, ...]

    @property
    def name(self) -> str:
        """Many class names would make no file name: their number and six digits of their digest do."""
        return f"{self.whole.name}-{len(self.classes)}of{len(self.whole.classes)}-{sha256_json(self.classes)[:6]}"

    @property
    def spec(self) -> str:
        return f"{self.whole.spec}[{','.join(self.classes)}]"

    @property
    def splits(self) -> tuple[str, ...]:
        # A small validation part may lack these classes; some training rows are held out then, as without it.
        return tuple(split for split in self.whole.splits if split != "validation" or len(self.load(split).labels))

    @property
    def cuts_test(self) -> bool:
        return self.whole.cuts_test

    def fingerprint(self) -> str:
        return sha256_json({"some classes of": self.whole.fingerprint(), "classes": self.classes})

    def survey(self) -> Survey:
        survey = self.whole.survey()
        return dataclasses.replace(survey, findings=tuple(map(self._with_own_rows, survey.findings)))

    def _with_own_rows(self, finding: Finding) -> Finding:
        """The same of the whole data set, with the rows here of those images that are taken."""
        items = []
        for item in finding.items:
            row = None
            if item.row is not None and item.split in self.splits:
                place = np.flatnonzero(self._rows(self.whole.load(item.split).labels) == item.row)
                row = int(place[0]) if len(place) else None
            items.append(dataclasses.replace(item, row=row))
        return dataclasses.replace(finding, items=tuple(items))

    def readable(self) -> Dataset:
        return with_classes(self.whole.readable(), self.classes)

    def files(self) -> Sequence[Path]:
        return self.whole.files()

    def name_of(self, split: str, row: int) -> str:
        return self.whole.name_of(split, int(self._rows(self.whole.load(split).labels)[row]))

    def digests(self, split: str) -> Sequence[str] | None:
        digests = self.whole.digests(split)
        return digests and [digests[row] for row in self._rows(self.whole.load(split).labels).tolist()]

    def groups(self, split: str) -> np.ndarray | None:
        groups = self.whole.groups(split)
        return None if groups is None else groups[self._rows(self.whole.load(split).labels)]

    def load(self, split: str) -> Split:
        data = self.whole.load(split)
        labels, rows = self._numbered(data.labels), self._rows(data.labels)
        images = data.images
        return Split(images.take(rows) if isinstance(images, ImageFiles) else images[rows], labels[rows])

    def _rows(self, labels: np.ndarray) -> np.ndarray:
        """The rows of these classes among those with the whole data set's labels."""
        return np.flatnonzero(self._numbered(labels) >= 0)

    def _numbered(self, labels: np.ndarray) -> np.ndarray:
        """The numbers here of the whole data set's labels, -1 for those that are not taken."""
        number = np.full(len(self.whole.classes), -1, dtype=np.int64)
        number[[self.whole.classes.index(name) for name in self.classes]] = np.arange(len(self.classes))
        return number[labels]
