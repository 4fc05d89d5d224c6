"""Rows that belong together: of one patient, part, video or day. No group ever stands on both sides of a split.

A group is a code (int64); what people call it is the data set's business. What is drawn depends on the labels, the
codes and a generator of Python's, whose numbers are the same in every version, and on integers alone.
"""

import random
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

from features.errors import UserError

_TRIES = 20  # orders in which groups are looked at; the best stratified one counts
_MANY = 1000  # of so many groups the first order that will do is as good


def group_codes(names: Sequence[str]) -> np.ndarray:
    """The groups of rows with these names (N,), int64: their ranks among the different names, sorted as text."""
    return np.unique(np.array(names, dtype=object), return_inverse=True)[1].astype(np.int64)


def joined_groups(groups: np.ndarray, content: Sequence[Hashable]) -> np.ndarray:
    """Groups (N,) that hold together what these do and, besides, rows of equal content."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    place: dict[Hashable, int] = {}
    held = np.array([place.setdefault(value, len(place)) for value in content], dtype=np.int64)
    units = np.unique(groups, return_inverse=True)[1]
    # Groups and contents are the nodes of a graph in which each row joins its own two.
    count = units.max(initial=-1) + 1
    # Of indices of 64 bits SciPy before 1.12 makes nonsense without a word.
    ends = (units.astype(np.int32), (count + held).astype(np.int32))
    edges = coo_array((np.ones(len(units)), ends), shape=(count + len(place),) * 2)
    return connected_components(edges, directed=False)[1][units].astype(np.int64)


def hold_out_groups(
    labels: np.ndarray, groups: np.ndarray, fraction: float, generator: random.Random, *, stay: int = 1
) -> np.ndarray | None:
    """The sorted rows of whole groups that are about `fraction` of each class, at least one row of every class.

    stay: of every class so many groups stay where there are more, and one in any case. None where there is no such cut
    among the orders tried.
    """
    classes, codes = np.unique(labels, return_inverse=True)
    units, of_row = np.unique(groups, return_inverse=True)
    counts = np.zeros((len(units), len(classes)), np.int64)
    np.add.at(counts, (of_row, codes), 1)
    best: tuple[int, np.ndarray] | None = None
    for _ in range(_TRIES):
        order = sorted(range(len(units)), key=[generator.random() for _ in units].__getitem__)
        drawn = _drawn(counts, order, fraction, stay)
        if drawn is not None and (best is None or drawn[0] < best[0]):
            best = drawn
        if best is not None and len(units) > _MANY:
            break
    return None if best is None else np.flatnonzero(np.isin(of_row, best[1]))


def too_few_groups(
    labels: np.ndarray, groups: np.ndarray, classes: Sequence[Any] | np.ndarray | None, where: str, use: str
) -> UserError:
    """The complaint where no cut leaves every class on both sides. use: what the second side is for, a verb."""
    both = f"one to train on and one to {use} on"
    for label in np.unique(labels):
        own = np.unique(groups[labels == label])
        if len(own) < 2:
            name = label if classes is None else classes[label]
            return UserError(
                f"all images of class '{name}' {where} are of one group, and two groups are needed, {both} (equal "
                "images are of one group); add images of another group, make the groups smaller or leave the class out"
            )
    count = len(np.unique(groups))
    return UserError(
        f"the {count} groups {where} cannot be cut so that every class has {both}, though each class is in two of them "
        "at least; add groups, or make them smaller"
    )


def _drawn(counts: np.ndarray, order: Sequence[int], fraction: float, stay: int) -> tuple[int, np.ndarray] | None:
    """How far what is drawn is from what is wanted, and the groups that are drawn; None without a class.

    counts (groups, classes). Groups are taken as they come where that brings the classes nearer to their shares; then
    the least harmful one for every class that is still missing.
    """
    total = counts.sum(axis=0)
    wanted = np.maximum(1, np.rint(fraction * total).astype(np.int64))
    weight = 10**9 // total**2 + 1
    left = np.count_nonzero(counts, axis=0)
    stays = np.minimum(stay, left - 1)
    held = np.zeros_like(total)
    taken: list[int] = []

    def distance(rows: np.ndarray) -> int:
        return int(((rows - wanted) ** 2 * weight).sum())

    def may_go(unit: int) -> bool:
        return bool((left - (counts[unit] > 0) >= stays)[counts[unit] > 0].all())

    def take(unit: int) -> None:
        nonlocal held, left
        held, left = held + counts[unit], left - (counts[unit] > 0)
        taken.append(unit)

    if (stays < 1).any():
        return None
    for unit in order:
        if distance(held + counts[unit]) < distance(held) and may_go(unit):
            take(unit)
    for code in range(len(total)):
        if not held[code]:
            others = [unit for unit in order if counts[unit, code] and unit not in taken and may_go(unit)]
            if not others:
                return None
            take(min(others, key=lambda unit: distance(held + counts[unit])))
    return distance(held), np.array(taken)
