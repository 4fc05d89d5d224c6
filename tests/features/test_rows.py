"""Limits and validation splits: stratified, seeded, nested."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.errors import UserError
from features.rows import limit_rows, train_and_validation, validation_split

LABELS = st.lists(st.integers(0, 4), min_size=1, max_size=200).map(np.array)


@given(LABELS, st.integers(1, 220), st.integers(1, 220), st.integers(0, 3))
@settings(deadline=None)
def test_limits_nest(labels, one, other, seed):
    small, large = sorted((one, other))
    inner, outer = limit_rows(labels, small, seed), limit_rows(labels, large, seed)
    assert set(inner) <= set(outer)
    assert len(inner) == min(small, len(labels))
    assert list(inner) == sorted(set(inner))


def test_a_limit_is_stratified_and_seeded():
    labels = np.repeat([0, 1, 2, 3], [1000, 500, 250, 250])
    rows = limit_rows(labels, 200, seed=0)
    assert np.abs(np.bincount(labels[rows]) - [100, 50, 25, 25]).max() <= 1
    assert not np.array_equal(rows, limit_rows(labels, 200, seed=1))
    assert np.array_equal(limit_rows(labels, None, seed=0), np.arange(2000))


def test_validation_is_a_tenth_of_each_class_and_disjoint():
    labels = np.repeat([0, 1], [900, 100])
    rows = limit_rows(labels, 500, seed=0)
    train, validation = validation_split(labels, rows, seed=0)
    assert not set(train) & set(validation)
    assert set(train) | set(validation) == set(rows)
    assert list(np.bincount(labels[validation])) == [45, 5]
    assert np.array_equal(validation, validation_split(labels, rows, seed=0)[1])
    assert not np.array_equal(validation, validation_split(labels, rows, seed=1)[1])


def test_a_class_with_one_image_cannot_be_split():
    labels = np.array([0, 0, 0, 1])
    with pytest.raises(UserError, match="class 'dog' has one image"):
        validation_split(labels, np.arange(4), seed=0, classes=("cat", "dog"))
    with pytest.raises(UserError, match="class '1' has one image"):
        validation_split(labels, np.arange(4), seed=0)


def test_a_limit_of_nothing_is_refused():
    with pytest.raises(UserError, match="limit of 0 rows"):
        limit_rows(np.array([0, 1]), 0, seed=0)


def test_a_fifth_can_be_held_out_instead_of_a_tenth():
    labels = np.repeat([0, 1], [50, 20])
    train, validation = train_and_validation(labels, seed=0, share=0.2)
    assert np.array_equal(np.bincount(labels[validation]), [10, 4])
    assert np.array_equal(np.sort(np.concatenate([train, validation])), np.arange(70))
    assert len(train_and_validation(labels, seed=0)[1]) == 7
    assert len(train_and_validation(labels, seed=0, validation=False, share=0.2)[1]) == 0
