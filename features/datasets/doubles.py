"""Images that a data set holds twice where that matters, found by their digests: in training and in test, and under
several labels; and groups that stand in several splits. A whole line for each, with the first such image.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np


def tell_doubles(
    parts: Mapping[str, tuple[Sequence[str], np.ndarray]],
    classes: Sequence[str],
    names: Mapping[str, str],
    what: str = "file",
) -> Iterator[str]:
    """What to say of images in several splits, or under several labels.

    parts: for each split its rows' digests and labels (N,); names: what to call one, by its digest.
    what: an equal 'file', or 'image'.
    """
    digests_of = {split: set(digests) for split, (digests, _) in parts.items()}
    if sum(map(len, digests_of.values())) != len(set().union(*digests_of.values())):
        splits = list(parts)
        for place, split in enumerate(splits):
            for other in splits[:place]:
                yield from _in_both(parts[split][0], digests_of[other], split, other, names, what)
    if sum(len(digests) for digests, _ in parts.values()) != len(set().union(*digests_of.values())):
        yield from _under_several(parts, classes, names, what)


def tell_divided(groups: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """What to say of groups that a data set itself puts into several splits.

    groups: for each split the names of its rows' groups.
    """
    splits = list(groups)
    for place, split in enumerate(splits):
        for other in splits[:place]:
            if shared := dict.fromkeys(groups[split]).keys() & set(groups[other]):
                first = next(name for name in groups[split] if name in shared)
                rows = sum(name in shared for name in groups[split])
                are = "is" if len(shared) == 1 else "are"
                yield (
                    f"{len(shared)} of {len(set(groups[split]))} groups in {split} {are} also in {other} ('{first}'; "
                    f"{rows} {split} images): accuracies on {split} come out too high"
                )


def _in_both(
    digests: Sequence[str], others: set[str], split: str, other: str, names: Mapping[str, str], what: str
) -> Iterator[str]:
    shared = [digest for digest in digests if digest in others]
    if shared:
        yield (
            f"{len(shared)} of {len(digests)} {split} images {'is' if len(shared) == 1 else 'are'} also in {other} "
            f"({names[shared[0]]}, the same {what}): accuracies on {split} come out too high"
        )


def _under_several(
    parts: Mapping[str, tuple[Sequence[str], np.ndarray]], classes: Sequence[str], names: Mapping[str, str], what: str
) -> Iterator[str]:
    labels_of: dict[str, set[int]] = {}
    for digests, labels in parts.values():
        for digest, label in zip(digests, labels.tolist(), strict=True):
            labels_of.setdefault(digest, set()).add(label)
    several = {digest: labels for digest, labels in labels_of.items() if len(labels) > 1}
    if several:
        digest = next(iter(several))
        called = " and ".join(f"'{classes[label]}'" for label in sorted(several[digest]))
        stand = "image stands" if len(several) == 1 else "images stand"
        yield f"{len(several)} {stand} under several labels ({names[digest]}, the same {what} under {called})"
