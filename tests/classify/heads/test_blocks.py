"""Heads on features that stay in the store: what they learn in memory, to rounding; those that cannot say so."""

import sys
import tracemalloc

import numpy as np
import pytest

from classify.heads import HEADS, minibatch
from classify.heads.estimator import FitError
from classify.heads.scaling import StandardisedBlocks
from classify.heads.search import search
from features.blocks import Blocks
from tests.features.store_cases import key, make
from tests.scale.memory import attempt, make_store

ROWS, WIDTH, CLASSES = 9000, 24, 5


@pytest.fixture
def data(home):
    """Blocks, the same as an array, and labels: classes that overlap, columns of different scale, one that is still."""
    random = np.random.default_rng(0)
    labels = random.integers(0, CLASSES, ROWS)
    features = random.normal(size=(ROWS, WIDTH)) + 0.6 * random.normal(size=(CLASSES, WIDTH))[labels]
    features = (features * np.geomspace(0.01, 100, WIDTH) + 3).astype(np.float32)
    features[:, 3] = 1.5
    rows = np.sort(random.permutation(ROWS)[:8200])
    blocks = Blocks([make(key(), features)], [None]).take(rows)
    return blocks, features[rows], labels[rows]


@pytest.mark.parametrize("name", ["ridge", "lda", "centroid", "logistic", "linear-svm", "linear"])
def test_a_head_learns_the_same_from_blocks(data, name):
    blocks, array, labels = data
    head = HEADS[name].build(class_weight=None if name in ("centroid",) else "balanced")
    expected = head.fit(array, labels)
    scores = expected.decision_function(array)
    found = HEADS[name].build(class_weight=None if name in ("centroid",) else "balanced").fit(blocks, labels)
    np.testing.assert_allclose(found.coef_, expected.coef_, rtol=1e-4, atol=1e-5 * np.abs(expected.coef_).max())
    np.testing.assert_allclose(found.decision_function(blocks), scores, atol=1e-4 * np.abs(scores).max())
    assert np.mean(found.predict(blocks) == expected.predict(array)) > 0.9999


def test_a_hidden_layer_learns_the_same_from_blocks(data):
    blocks, array, labels = data
    expected, found = (HEADS["mlp"].build(hidden=32, epochs=2).fit(rows, labels) for rows in (array, blocks))
    scores = expected.decision_function(array)
    np.testing.assert_allclose(found.decision_function(blocks), scores, atol=1e-3 * np.abs(scores).max())


def test_a_head_that_draws_stretches_of_rows_learns_the_same_from_blocks(data, monkeypatch):
    blocks, array, labels = data
    reads = []
    monkeypatch.setattr(minibatch, "MIXED_BYTES", 0)
    monkeypatch.setattr(minibatch, "STRETCH_BYTES", 50 * 4 * WIDTH)
    monkeypatch.setattr(minibatch, "BUFFER_BYTES", 2100 * 4 * WIDTH)
    expected = HEADS["linear"].build(epochs=2).fit(array, labels)
    monkeypatch.setattr(StandardisedBlocks, "__getitem__", kept(StandardisedBlocks.__getitem__, reads))
    found = HEADS["linear"].build(epochs=2).fit(blocks, labels)
    np.testing.assert_allclose(found.coef_, expected.coef_, rtol=1e-4, atol=1e-5 * np.abs(expected.coef_).max())
    assert [len(rows) for rows in reads] == 2 * [2048, 2048, 2048, 2048, 8]
    for epoch in (reads[:5], reads[5:]):
        np.testing.assert_array_equal(np.sort(np.concatenate(epoch)), np.arange(8200))
        # From few places of the disk, and in no order.
        assert all(np.sum(np.diff(np.sort(rows)) > 1) <= 2048 / 50 + 1 for rows in epoch)
        assert np.mean(np.diff(epoch[0]) == 1) < 0.01
    assert not np.array_equal(reads[0], reads[5])


def test_linear_holds_one_buffer_of_rows_and_little_else(home, monkeypatch):
    features = np.random.default_rng(0).normal(size=(40_000, 128)).astype(np.float32)
    blocks, labels = Blocks([make(key(), features)], [None]), np.arange(40_000) % 3
    monkeypatch.setattr(minibatch, "BUFFER_BYTES", 8 << 20)
    del features
    tracemalloc.start()
    try:
        HEADS["linear"].build(epochs=2).fit(blocks, labels)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert most < 1.5 * (8 << 20) < blocks.nbytes


def kept(read, reads):
    """Like `read`, with the rows that are asked for noted in `reads`."""

    def noting(self, rows):
        reads.append(rows)
        return read(self, rows)

    return noting


@pytest.mark.parametrize("name", ["ridge", "logistic", "linear"])
def test_a_search_finds_the_same_from_blocks(data, name, monkeypatch):
    blocks, array, labels = data
    # Otherwise what is read again and again would be taken into memory, where it fits.
    monkeypatch.setattr("classify.heads.search.in_memory", lambda X: X)
    train, validation = np.arange(0, 8200, 2), np.arange(1, 8200, 40)
    expected = search(HEADS[name], array[train], labels[train], array[validation], labels[validation])
    found = search(HEADS[name], blocks.take(train), labels[train], blocks.take(validation), labels[validation])
    assert found.params == expected.params
    assert [trial.accuracy for trial in found.trials] == [trial.accuracy for trial in expected.trials]


@pytest.mark.parametrize("name", ["svm", "knn"])
def test_a_head_that_cannot_says_so_with_the_memory_it_would_take(data, name):
    blocks, _, labels = data
    with pytest.raises(FitError, match=r"8,200 x 24 numbers would take 2\.36 MB of memory.*ridge"):
        HEADS[name].build().fit(blocks, labels)


def test_what_does_not_fit_together_is_told(data):
    blocks, array, labels = data
    head = HEADS["ridge"].build()
    with pytest.raises(FitError, match="8199 labels for 8200 rows"):
        head.fit(blocks, labels[1:])
    with pytest.raises(FitError, match="at least two classes"):
        head.fit(blocks, np.zeros(8200, int))
    head.fit(array[:, :20], labels)
    with pytest.raises(FitError, match="X has 24 features, but was fitted on 20"):
        head.predict(blocks)
    few = blocks.take(np.arange(20))
    for name in ("ridge", "logistic"):
        with pytest.raises(FitError, match="24 features of 20 rows are too wide"):
            HEADS[name].build().fit(few, labels[:20])


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere RLIMIT_DATA limits other things")
def test_ridge_learns_from_a_store_larger_than_the_memory_it_may_take(home):
    make_store(gigabytes=0.36, width=256)
    rows, limit = round(0.36e9 / 4 / 256), 340_000_000
    learnt = attempt(home, "ridge", rows, 256, limit)
    assert learnt["read"] == "in blocks" and learnt["accuracy"] > 0.9
    assert attempt(home, "ridge", rows, 256, limit, "off") is None
