"""Folds are stratified, leave groups whole, and are the same whenever they are drawn; what cannot be is said."""

import numpy as np
import pytest

from features.errors import UserError
from features.folds import draw_folds, most_folds


def _labels(*sizes):
    return np.random.default_rng(0).permutation(np.repeat(np.arange(len(sizes)), sizes))


def test_every_row_is_held_out_once_in_each_repeat_and_classes_are_spread_evenly():
    labels = _labels(50, 20, 7)
    folds = draw_folds(labels, count=5, repeats=3, seed=4)
    assert folds.shape == (3, 77)
    assert folds.dtype == np.int64
    for numbers in folds:
        for label, size in enumerate((50, 20, 7)):
            held = np.bincount(numbers[labels == label], minlength=5)
            assert held.sum() == size
            assert held.max() - held.min() <= 1
    assert not np.array_equal(folds[0], folds[1])


def test_folds_depend_on_labels_and_seed_alone_and_further_repeats_change_no_earlier_ones():
    labels = _labels(30, 30)
    assert np.array_equal(
        draw_folds(labels, count=5, repeats=2, seed=1), draw_folds(labels, count=5, repeats=2, seed=1)
    )
    assert np.array_equal(draw_folds(labels, count=5, seed=1)[0], draw_folds(labels, count=5, repeats=3, seed=1)[0])
    assert not np.array_equal(draw_folds(labels, count=5, seed=1), draw_folds(labels, count=5, seed=2))


@pytest.mark.parametrize("seed", range(5))
def test_no_group_is_cut_and_every_training_part_has_every_class(seed):
    random = np.random.default_rng(seed)
    groups = random.integers(0, 25, 200)
    labels = (groups % 3).astype(np.int64)
    folds = draw_folds(labels, count=min(5, most_folds(labels, groups)), repeats=2, seed=seed, groups=groups)
    for numbers in folds:
        assert all(len(np.unique(numbers[groups == group])) == 1 for group in np.unique(groups))
        assert all(len(np.unique(labels[numbers != fold])) == 3 for fold in np.unique(numbers))


def test_the_smallest_class_and_its_groups_say_how_many_folds_there_can_be():
    labels = np.repeat([0, 1], [40, 3])
    assert most_folds(labels) == 3
    assert most_folds(labels, np.r_[np.arange(40), 0, 0, 1]) == 2


@pytest.mark.parametrize(
    ("labels", "groups", "words"),
    [
        ([0, 0, 0], None, "there is one class among the training rows"),
        ([0, 0, 0, 1], None, "class 'bees' has one image among the training rows"),
        ([0, 0, 1, 1], [0, 1, 2, 2], "all images of class 'bees' among the training rows are of one group"),
    ],
)
def test_what_cannot_be_dealt_out_is_said(labels, groups, words):
    groups = None if groups is None else np.array(groups)
    with pytest.raises(UserError, match=words):
        most_folds(np.array(labels), groups, classes=("ants", "bees"))


def test_groups_that_no_dealing_out_suits_are_told_with_the_way_out():
    # Three classes in two of three groups each: of two folds one always takes a class whole.
    labels, groups = np.array([0, 0, 1, 1, 2, 2]), np.array([0, 1, 1, 2, 0, 2])
    assert most_folds(labels, groups) == 2
    with pytest.raises(UserError, match="cannot be dealt out to 2 folds"):
        draw_folds(labels, count=2, groups=groups)
