"""Which rows of a data set take part: limits that nest, and the validation split.

Everything here is stratified and seeded. Taking every other row or the last rows is not an option: MNIST's training
set is interleaved (even rows are about 7 points harder for a linear model) and its last 10,000 rows are easier. A limit
takes some rows of a group and leaves others out; a split leaves groups whole (`features.grouping`).
"""

import functools
import random
from collections.abc import Sequence
from typing import Any

import numpy as np

from features.errors import UserError
from features.grouping import hold_out_groups, too_few_groups


def stratified_order(labels: np.ndarray, seed: int) -> np.ndarray:
    """A permutation of the rows in which every prefix holds each class in about its share of the whole.

    Each class is shuffled and its members are spread evenly over [0, 1); reading the positions in order interleaves
    the classes. Prefixes are nested by construction, which is what makes `limit_rows` nested.
    """
    generator = np.random.default_rng(seed)
    position = np.empty(len(labels))
    for label in np.unique(labels):
        members = generator.permutation(np.flatnonzero(labels == label))
        position[members] = (np.arange(len(members)) + 0.5) / len(members)
    # The jitter breaks ties between classes of equal size by chance instead of by row number.
    return np.lexsort((generator.random(len(labels)), position))


def limit_rows(labels: np.ndarray, count: int | None, seed: int) -> np.ndarray:
    """The sorted numbers of `count` rows, stratified; all rows if `count` is None or more than there are.

    With the same labels and seed a smaller count is a subset of a larger one.
    """
    if count is None or count >= len(labels):
        return np.arange(len(labels))
    if count < 1:
        raise UserError(f"a limit of {count} rows leaves nothing to work on; give a whole number of 1 or more")
    return np.sort(stratified_order(labels, seed)[:count])


# What is held out to choose on, where nothing else is asked for.
VALIDATION_SHARE = 0.1


def validation_split(
    labels: np.ndarray,
    rows: np.ndarray,
    seed: int,
    fraction: float = VALIDATION_SHARE,
    classes: Sequence[Any] | np.ndarray | None = None,
    groups: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Cut `rows` (numbers into `labels`) into sorted training and validation rows, stratified.

    Every class keeps at least one row in training, and gives at least one to validation: a class with a single row
    cannot do both and is refused, by its name where `classes` has the labels' names. groups: codes, as many as labels;
    rows of one group stay together, and a class needs two groups.
    """
    if groups is not None:
        content = (np.asarray(own[rows], np.int64).tobytes() for own in (labels, groups))
        held = _held_groups(*content, fraction, seed)
        if held is None:
            where = f"among the {len(rows)} training rows"
            raise too_few_groups(labels[rows], groups[rows], classes, where, "validate")
        validation = np.sort(rows[held])
        return np.setdiff1d(rows, validation), validation
    generator = np.random.default_rng([seed, 1])
    held_out = []
    for label in np.unique(labels[rows]):
        members = generator.permutation(rows[labels[rows] == label])
        if len(members) < 2:
            raise UserError(
                f"class '{label if classes is None else classes[label]}' has one image among the {len(rows)} training "
                "rows, and needs two: one to train on and one to validate on; add images, raise --limit or leave the "
                "class out"
            )
        held_out.append(members[: max(1, round(fraction * len(members)))])
    validation = np.sort(np.concatenate(held_out))
    return np.setdiff1d(rows, validation), validation


@functools.lru_cache(maxsize=32)  # the rows of a table ask for the same ones
def _held_groups(of_rows: bytes, of_groups: bytes, fraction: float, seed: int) -> np.ndarray | None:
    labels, groups = (np.frombuffer(content, np.int64) for content in (of_rows, of_groups))
    return hold_out_groups(labels, groups, fraction, random.Random(f"validation {seed}"))


def train_and_validation(
    labels: np.ndarray,
    seed: int,
    validation: bool = True,
    share: float = VALIDATION_SHARE,
    classes: Sequence[Any] | np.ndarray | None = None,
    groups: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """All rows with these labels as sorted training and validation rows; without `validation` the second are none."""
    rows = np.arange(len(labels))
    return validation_split(labels, rows, seed, share, classes, groups) if validation else (rows, rows[:0])
