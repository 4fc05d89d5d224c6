"""The fixed cut into training and test rows, for data that comes without one.

It depends on the labels and their order alone, never on a run's seed, so that the test set of a data set is always
the same one.
"""

import random
from collections.abc import Sequence

import numpy as np

from features.errors import UserError

# Names the procedure below in fingerprints; whoever changes what it gives changes the name.
CUT = "stratified-1"
TEST_FRACTION = 0.2


def cut_test_rows(
    labels: np.ndarray, classes: Sequence[str], where: object, fraction: float = TEST_FRACTION
) -> tuple[np.ndarray, np.ndarray]:
    """The sorted training and test rows: of each class `fraction`, at least one row and never all, goes to test.

    Raises UserError for a class with a single row; `where` names the data in the message.
    """
    # The order comes from Python's generator: its numbers are the same in every version, numpy's need not be.
    source = random.Random(CUT)
    chance = np.array([source.random() for _ in range(len(labels))])
    test = []
    for label, class_name in enumerate(classes):
        members = np.flatnonzero(labels == label)
        if len(members) < 2:
            raise UserError(
                f"class '{class_name}' in {where} has {'one image' if len(members) else 'no image'} and needs two: one "
                "to train and one to test; add images, leave the class out or say which images are for testing"
            )
        count = min(max(1, round(fraction * len(members))), len(members) - 1)
        test.append(members[np.argsort(chance[members], kind="stable")[:count]])
    test_rows = np.sort(np.concatenate(test))
    return np.setdiff1d(np.arange(len(labels)), test_rows), test_rows
