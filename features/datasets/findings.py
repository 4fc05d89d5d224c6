"""What is wrong with a data set, or may be: a line for people, and the images that it is about.

A finding is made where it is found; `python -m classify check` shows all of them, and the start of a run those that
cost nothing, by their lines.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

# The largest class may have so many times the training images of the smallest.
UNEQUAL = 5


@dataclass(frozen=True)
class Item:
    """An image that a finding is about, or a file that is none.

    path: relative to the data set, or 'row 3 of images'. split and row: where it stands, where it is an image of a
    split. label: its class's name. says: what there is to say of it. value: the number by which it was found.
    """

    path: str
    split: str = ""
    row: int | None = None
    label: str = ""
    says: str = ""
    value: float | None = None


@dataclass(frozen=True)
class Finding:
    """One kind of thing that is wrong. kind: a few words; line: a sentence; items: the most striking first."""

    kind: str
    line: str
    items: tuple[Item, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain values; fields that say nothing are left out."""
        items = [
            {name: value for name, value in asdict(item).items() if value not in ("", None)} for item in self.items
        ]
        return {"kind": self.kind, "line": self.line, "count": len(self.items), "items": items}


def find_class_sizes(labels: Mapping[str, np.ndarray], classes: Sequence[str]) -> Iterator[Finding]:
    """Classes of very unequal size in training, and those of which a split has no image; labels: (N,) of each split."""
    counts = {split: np.bincount(own, minlength=len(classes)) for split, own in labels.items()}
    if "train" not in counts:
        return
    for split, own in counts.items():
        lacking = [name for name, count in zip(classes, own.tolist(), strict=True) if not count]
        if split != "train" and lacking:
            named = ", ".join(f"'{name}'" for name in lacking[:3])
            more = f" and {len(lacking) - 3} more" if len(lacking) > 3 else ""
            yield Finding("class without images", f"{split} has no image of {named}{more}: nothing is measured for it")
    train = counts["train"]
    if train.max() < UNEQUAL * train.min():
        return
    most, least = int(train.argmax()), int(train.argmin())
    share = train[most] / train.sum()
    yield Finding(
        "unequal classes",
        f"class '{classes[most]}' has {share:.0%} of the training images ({train[most]:,}) and '{classes[least]}' has "
        f"{train[least]:,}: whoever always says '{classes[most]}' is right as often; look at balanced accuracy, "
        "and try --class-weight balanced",
    )
