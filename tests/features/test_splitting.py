"""The fixed cut: what it has always been where no two rows are equal, and equal rows on one side where they are."""

import numpy as np
import pytest

from features.datasets.splitting import cut_test_rows
from features.errors import UserError


def _as_0_1_0(labels, classes, fraction=0.2):
    """The cut as version 0.1.0 made it."""
    import random

    source = random.Random("stratified-1")
    chance = np.array([source.random() for _ in range(len(labels))])
    test = []
    for label in range(len(classes)):
        members = np.flatnonzero(labels == label)
        count = min(max(1, round(fraction * len(members))), len(members) - 1)
        test.append(members[np.argsort(chance[members], kind="stable")[:count]])
    test_rows = np.sort(np.concatenate(test))
    return np.setdiff1d(np.arange(len(labels)), test_rows), test_rows


@pytest.mark.parametrize("fraction", [0.2, 1 / 3, 0.9])
def test_without_equal_rows_the_cut_is_that_of_0_1_0(fraction):
    for seed in range(30):
        random = np.random.default_rng(seed)
        labels = np.concatenate([np.repeat(np.arange(4), 2), random.integers(0, 4, random.integers(0, 90))])
        expected = _as_0_1_0(labels, "abcd", fraction)
        for content in (None, list(range(len(labels)))):
            cut = cut_test_rows(labels, "abcd", "here", fraction, content)
            assert all(map(np.array_equal, cut, expected))


def test_equal_rows_are_on_one_side_whatever_their_class():
    for seed in range(60):
        random = np.random.default_rng(seed)
        labels = np.concatenate([np.arange(60) % 3, random.integers(0, 3, 40)])
        # Every class has rows of its own, and many that others have as well.
        content = np.concatenate([np.arange(60) + 1000, random.integers(0, 12, 40)])
        train, test = cut_test_rows(labels, "abc", "here", content=content.tolist())
        assert sorted([*train, *test]) == list(range(100))
        assert not set(content[train]) & set(content[test])
        assert set(labels[train]) == {0, 1, 2} and 5 <= len(test) <= 30


def test_copies_do_not_change_how_many_are_for_testing():
    content = [*range(8), 7]
    train, test = cut_test_rows(np.zeros(9, int), "a", "here", content=content)
    assert len(test) == 2 and len(train) == 7


def test_a_class_of_equal_rows_alone_cannot_be_cut():
    with pytest.raises(UserError, match="class 'b' in here has 3 equal images and needs two"):
        cut_test_rows(np.array([0, 0, 1, 1, 1]), "ab", "here", content=[1, 2, 3, 3, 3])
    with pytest.raises(UserError, match="are training images as well"):
        cut_test_rows(np.repeat([0, 1], 5), "ab", "here", content=[1, 1, 2, 2, 2, 1, 1, 1, 2, 2])


def test_more_copies_than_are_wanted_for_testing():
    train, test = cut_test_rows(np.zeros(10, int), "a", "here", content=[1] * 6 + [2] * 4)
    assert len(test) == 4 and len(train) == 6
