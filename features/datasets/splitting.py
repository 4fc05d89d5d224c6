"""The fixed cut into training and test rows, for data that comes without one.

It depends on the labels and their order alone, never on a run's seed, so that the test set of a data set is always
the same one.
"""

import random
from collections.abc import Hashable, Sequence

import numpy as np

from features.errors import UserError
from features.grouping import hold_out_groups, joined_groups, too_few_groups

# Names the procedure below in fingerprints; whoever changes what it gives changes the name.
CUT = "stratified-1"
TEST_FRACTION = 0.2


def require_two_of_each(labels: np.ndarray, classes: Sequence[str], where: object) -> None:
    """Raise UserError, naming the class, where one has not the two rows that a cut takes; `where` names the data."""
    counts = np.bincount(labels, minlength=len(classes))
    for class_name, count in zip(classes, counts.tolist(), strict=True):
        if count < 2:
            raise _too_few(class_name, where, "one image" if count else "no image")


def cut_test_rows(
    labels: np.ndarray,
    classes: Sequence[str],
    where: object,
    fraction: float = TEST_FRACTION,
    content: Sequence[Hashable] | None = None,
    groups: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """The sorted training and test rows: of each class `fraction`, at least one row and never all, goes to test.

    content: what each row holds. Rows with equal content stay together, and those under several classes are for
    training; where no two are equal the cut is the same as without. groups: codes (N,); groups stay together, and equal
    rows with them, whatever their classes. Raises UserError for a class with a single row, with equal ones alone or of
    one group; `where` names the data in the message.
    """
    if groups is not None:
        units = groups if content is None else joined_groups(groups, content)
        # One group to test on should leave one to validate on.
        held = hold_out_groups(labels, units, fraction, random.Random(f"{CUT} groups"), stay=2)
        if held is None:
            raise too_few_groups(labels, units, classes, f"in {where}", "test")
        return np.setdiff1d(np.arange(len(labels)), held), held
    # The order comes from Python's generator: its numbers are the same in every version, numpy's need not be.
    source = random.Random(CUT)
    chance = np.array([source.random() for _ in range(len(labels))])
    first: dict[Hashable, int] = {}
    if content is not None:
        chance = chance[[first.setdefault(held, row) for row, held in enumerate(content)]]
    test = []
    for label, class_name in enumerate(classes):
        members = np.flatnonzero(labels == label)
        drawn, sizes = np.unique(chance[members], return_counts=True)
        if len(drawn) < 2:
            has = "no image" if not len(members) else f"{len(members)} equal images" if sizes[0] > 1 else "one image"
            raise _too_few(class_name, where, has)
        room = min(max(1, round(fraction * len(members))), len(members) - 1)
        # The first that fit; where equal rows are too many for that, the fewest.
        taken = [drawn[np.argmin(sizes)]] if sizes.min() > room else []
        for value, size in zip(drawn, sizes, strict=True):
            if size <= room:
                taken.append(value)
                room -= size
            if not room:
                break
        test.append(members[np.isin(chance[members], taken)])
    test_rows = np.sort(np.concatenate(test))
    train_rows = np.setdiff1d(np.arange(len(labels)), test_rows)
    test_rows = test_rows[~np.isin(chance[test_rows], chance[train_rows])]
    if not len(test_rows):
        raise UserError(
            f"all test images of {where} are training images as well, under other labels; take the wrong ones out"
        )
    return np.setdiff1d(np.arange(len(labels)), test_rows), test_rows


def _too_few(class_name: str, where: object, has: str) -> UserError:
    return UserError(
        f"class '{class_name}' in {where} has {has} and needs two: one to train and one to test; add images, leave the "
        "class out or say which images are for testing"
    )
