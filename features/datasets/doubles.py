"""Images that a data set holds twice, found by their digests: copies, those in training and in test, and those under
several labels; and groups that stand in several splits. A finding for each kind, with the first such image.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from features.datasets.findings import Finding, Item

# For each split its rows' digests, and their labels (N,).
Parts = Mapping[str, tuple[Sequence[str], np.ndarray]]
# What to call a row of a split.
NameOf = Callable[[str, int], str]


def find_doubles(parts: Parts, classes: Sequence[str], name_of: NameOf, what: str = "file") -> Iterator[Finding]:
    """Images in several splits, and under several labels. what: an equal 'file', or 'image'."""
    digests_of = {split: set(digests) for split, (digests, _) in parts.items()}
    if sum(map(len, digests_of.values())) != len(set().union(*digests_of.values())):
        splits = list(parts)
        for place, split in enumerate(splits):
            for other in splits[:place]:
                yield from _in_both(parts, split, other, classes, name_of, what)
    if sum(len(digests) for digests, _ in parts.values()) != len(set().union(*digests_of.values())):
        yield from _under_several(parts, classes, name_of, what)


def find_copies(parts: Parts, classes: Sequence[str], name_of: NameOf, *, cut: bool) -> Iterator[Finding]:
    """Images that are copies of another one. cut: what is equal was cut to one side."""
    if sum(len(own) for own, _ in parts.values()) == len(set().union(*(own for own, _ in parts.values()))):
        return
    groups = [places for places in _places(parts).values() if len(places) > 1]
    files = sum(map(len, groups))
    copies = files - len(groups)
    across = sum(len({split for split, _ in places}) > 1 for places in groups)
    where = f", {across} of them in several splits" if across else ""
    line = f"{copies} {'image is a copy' if copies == 1 else 'images are copies'} of another one ({files} files in "
    line += f"{len(groups)} {'group' if len(groups) == 1 else 'groups'} of equal ones{where})"
    items = []
    for places in groups:
        first = name_of(*places[0])
        for split, row in places[1:]:
            items.append(_item(parts, split, row, classes, name_of, f"a copy of {first}"))
    tail = "; equal ones are all for training or all for testing" if cut else ""
    yield Finding("copies", f"{line}{tail}", tuple(items))


def find_divided(groups: Mapping[str, Sequence[str]], name_of: NameOf) -> Iterator[Finding]:
    """Groups that a data set itself puts into several splits; groups: for each split the names of its rows' groups."""
    splits = list(groups)
    for place, split in enumerate(splits):
        for other in splits[:place]:
            if shared := set(groups[split]) & set(groups[other]):
                rows = [row for row, name in enumerate(groups[split]) if name in shared]
                are = "is" if len(shared) == 1 else "are"
                line = (
                    f"{len(shared)} of {len(set(groups[split]))} groups in {split} {are} also in {other} "
                    f"('{groups[split][rows[0]]}'; {len(rows)} {split} images): accuracies on {split} come out too high"
                )
                says = {row: f"its group '{groups[split][row]}' is also in {other}" for row in rows}
                items = [Item(name_of(split, row), split, row, says=says[row]) for row in rows]
                yield Finding("groups in several splits", line, tuple(items))


def _places(parts: Parts) -> dict[str, list[tuple[str, int]]]:
    """Where each digest stands: splits and rows."""
    places: dict[str, list[tuple[str, int]]] = defaultdict(list)
    for split, (digests, _) in parts.items():
        for row, digest in enumerate(digests):
            places[digest].append((split, row))
    return places


def _item(parts: Parts, split: str, row: int, classes: Sequence[str], name_of: NameOf, says: str) -> Item:
    return Item(name_of(split, row), split, row, classes[parts[split][1][row]], says)


def _in_both(
    parts: Parts, split: str, other: str, classes: Sequence[str], name_of: NameOf, what: str
) -> Iterator[Finding]:
    first: dict[str, int] = {}
    for row, digest in enumerate(parts[other][0]):
        first.setdefault(digest, row)
    digests = parts[split][0]
    shared = [row for row, digest in enumerate(digests) if digest in first]
    if shared:
        twins = {row: name_of(other, first[digests[row]]) for row in shared}
        line = (
            f"{len(shared)} of {len(digests)} {split} images {'is' if len(shared) == 1 else 'are'} also in {other} "
            f"({twins[shared[0]]}, the same {what}): accuracies on {split} come out too high"
        )
        items = [_item(parts, split, row, classes, name_of, f"{twins[row]} in {other}") for row in shared]
        yield Finding(f"also in {other}", line, tuple(items))


def _under_several(parts: Parts, classes: Sequence[str], name_of: NameOf, what: str) -> Iterator[Finding]:
    several: dict[str, list[tuple[str, int]]] = {}
    for digest, places in _places(parts).items():
        if len({int(parts[split][1][row]) for split, row in places}) > 1:
            several[digest] = places
    if several:
        places = next(iter(several.values()))
        called = " and ".join(f"'{classes[label]}'" for label in sorted({parts[s][1][row] for s, row in places}))
        stand = "image stands" if len(several) == 1 else "images stand"
        line = f"{len(several)} {stand} under several labels ({name_of(*places[0])}, the same {what} under {called})"
        items = [
            _item(parts, split, row, classes, name_of, f"the same {what} as {name_of(*places[0])}")
            for places in several.values()
            for split, row in places
        ]
        yield Finding("under several labels", line, tuple(items))
