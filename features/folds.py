"""The folds of cross-validation: which rows of a data set are held out together, the same for whatever is fitted.

Stratified, and no group is ever cut. What is drawn depends on labels, groups and a seed alone, so that every layer,
pooling, head and candidate is compared on the same rows.
"""

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from features.errors import UserError
from features.grouping import too_few_groups

_TRIES = 20  # draws of grouped folds, until every class is in every training part


def draw_folds(
    labels: np.ndarray, *, count: int, repeats: int = 1, seed: int = 0, groups: np.ndarray | None = None
) -> np.ndarray:
    """For each repeat the fold of every row, from 0 to count - 1: int64 (repeats, N), not to be written to.

    labels, groups: whole numbers (N,). count: 2 or more, and at most what `most_folds` says. Every class stands in
    every training part, and without groups in every fold. UserError where groups cannot be dealt out like that.
    """
    content = None if groups is None else np.asarray(groups, np.int64).tobytes()
    return _drawn(np.asarray(labels, np.int64).tobytes(), content, count, repeats, seed)


@functools.lru_cache(maxsize=32)  # the rows of a table ask for the same ones, and those of groups take a while
def _drawn(of_rows: bytes, of_groups: bytes | None, count: int, repeats: int, seed: int) -> np.ndarray:
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    labels = np.frombuffer(of_rows, np.int64)
    groups = None if of_groups is None else np.frombuffer(of_groups, np.int64)
    kind = StratifiedKFold if groups is None else StratifiedGroupKFold
    drawn = np.empty((repeats, len(labels)), np.int64)
    for repeat, numbers in enumerate(drawn):
        generator = np.random.default_rng([seed, 3, repeat])
        for _ in range(_TRIES):
            splitter = kind(count, shuffle=True, random_state=int(generator.integers(2**31)))
            for fold, (_, held) in enumerate(splitter.split(labels, labels, groups)):
                numbers[held] = fold
            if _leaves_every_class(labels, numbers, count):
                break
        else:
            raise UserError(
                f"the groups of {len(labels)} training rows cannot be dealt out to {count} folds so that every class "
                "is in every training part; ask for fewer folds or --validate holdout, or make the groups smaller"
            )
    drawn.flags.writeable = False
    return drawn


def most_folds(
    labels: np.ndarray,
    groups: np.ndarray | None = None,
    *,
    classes: Sequence[Any] | np.ndarray | None = None,
    where: str = "among the training rows",
) -> int:
    """The most folds that can be drawn: as many as the smallest class has images or, where there are groups, groups.

    Raises UserError for one class alone, a class with one image, and a class that is wholly in one group; classes: the
    labels' names, where: where the rows are, for the message.
    """
    present, sizes = np.unique(labels, return_counts=True)
    if len(present) < 2:
        raise UserError(
            f"there is one class {where}, and folds are for telling classes apart; add images of another, raise "
            "--limit or take another data set"
        )
    if sizes.min() < 2:
        label = present[sizes.argmin()]
        raise UserError(
            f"class '{label if classes is None else classes[label]}' has one image {where}, and needs two: one to "
            "train on and one to validate on; add images, raise --limit or leave the class out"
        )
    if groups is None:
        return int(sizes.min())
    fewest = min(len(np.unique(groups[labels == label])) for label in present)
    if fewest < 2:
        raise too_few_groups(labels, groups, classes, where, "validate")
    return fewest


def _leaves_every_class(labels: np.ndarray, numbers: np.ndarray, count: int) -> bool:
    """Whether there is no fold without rows, and none that takes a class whole."""
    codes = np.unique(labels, return_inverse=True)[1]
    held = np.zeros((count, codes.max() + 1), np.int64)
    np.add.at(held, (numbers, codes), 1)
    return bool(held.sum(axis=1).all() and (held < held.sum(axis=0)).all())
