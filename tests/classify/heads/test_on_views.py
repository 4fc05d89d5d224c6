"""Heads of images that are seen several times: by hand, view by view, they say the same."""

import dataclasses

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_digits

from classify.experiments.kinds.classical import head2toe
from classify.heads import HEADS
from classify.heads.calibrated import calibrate
from classify.heads.folds import class_scores, search_folds
from classify.heads.head2toe import Head2Toe
from classify.heads.on_axes import OnAxes, Reduction
from classify.heads.on_views import OnViews, OverViews, ViewedHead
from classify.heads.search import search
from features.blocks import Blocks, rows_of_views

VIEWS = 3
CLASSICAL = ("svm", "linear-svm", "logistic", "ridge", "lda", "knn", "centroid")


def accuracy(labels, predicted, probabilities):
    return float(np.mean(labels == predicted))


def _data(classes, rows=150):
    """(N, VIEWS * 64) of digits with noise of their own in every view but the first."""
    X, y = load_digits(n_class=classes, return_X_y=True)
    X, y = X[:rows].astype(np.float32), y[:rows]
    noise = np.random.default_rng(1).normal(scale=2, size=(VIEWS, *X.shape)).astype(np.float32)
    noise[0] = 0
    return np.concatenate(list(X + noise), axis=1), y


def _stacked(X):
    return X.reshape(len(X) * VIEWS, -1)


def _logits(fitted, X):
    """Of one view what probabilities are made of."""
    scores = class_scores(fitted, X)
    return fitted.logits(scores) if hasattr(fitted, "logits") else scores


def _mean(fitted, X, asked):
    return np.mean([_logits(fitted, X[:, 64 * view : 64 * (view + 1)]) for view in range(asked)], axis=0)


@pytest.mark.parametrize("classes", [2, 10])
@pytest.mark.parametrize("asked", [1, 2])
@pytest.mark.parametrize("name", CLASSICAL)
def test_a_head_learns_from_every_view_and_says_the_mean_of_some(name, asked, classes):
    X, y = _data(classes)
    queries = X[::-1][:40].copy()
    viewed = ViewedHead.of(HEADS[name], VIEWS, asked).build().fit(X, y)
    plain = HEADS[name].build().fit(_stacked(X), np.repeat(y, VIEWS))
    mean = _mean(plain, queries, asked)
    assert np.array_equal(viewed.predict(queries), plain.classes_[mean.argmax(axis=1)])
    # Of fewer views than it learnt from, those that it decides over.
    assert np.array_equal(viewed.predict(queries[:, : 64 * asked]), viewed.predict(queries))
    assert np.array_equal(clone(viewed).fit(X, y).predict(queries), viewed.predict(queries))
    if hasattr(plain, "predict_proba"):
        shares = np.exp(mean) / np.exp(mean).sum(axis=1, keepdims=True)
        expected = plain.predict_proba(queries[:, :64]) if asked == 1 else shares
        assert np.allclose(viewed.predict_proba(queries), expected, atol=1e-9)
    else:
        assert not hasattr(viewed, "predict_proba")
    calibrated = calibrate(viewed, class_scores(viewed, queries), viewed.predict(queries))
    probabilities = calibrated.predict_proba(queries)
    assert np.allclose(probabilities.sum(axis=1), 1)
    assert np.array_equal(viewed.classes_[probabilities.argmax(axis=1)], viewed.predict(queries))


@pytest.mark.parametrize("asked", [1, 3])
@pytest.mark.parametrize("name", CLASSICAL)
def test_no_fold_parts_the_views_of_an_image(name, asked):
    X, y = _data(4)
    folds = np.random.default_rng(0).permutation(len(y)) % 3
    grid = sorted(HEADS[name].grid, key=HEADS[name].complexity)[:2]
    head = dataclasses.replace(HEADS[name], grid=tuple(grid), search_rows=None)
    found = search_folds(ViewedHead.of(head, VIEWS, asked), X, y, [folds], score=accuracy)
    for trial, params in zip(found.trials, grid, strict=True):
        predicted = np.empty_like(y)
        for fold in range(3):
            inside, outside = folds == fold, folds != fold
            fitted = head.build(**params).fit(_stacked(X[outside]), np.repeat(y[outside], VIEWS))
            predicted[inside] = fitted.classes_[_mean(fitted, X[inside], asked).argmax(axis=1)]
        assert trial.score == pytest.approx(accuracy(y, predicted, None), abs=1.01 / len(y))


def test_a_search_on_a_hold_out_takes_as_many_rows_as_without_views():
    X, y = _data(10)
    head = dataclasses.replace(HEADS["logistic"], search_rows=90)
    for asked in (1, 3):
        found = search(ViewedHead.of(head, VIEWS, asked), X[:100], y[:100], X[100:], y[100:])
        assert found.rows == 30
        assert {"C"} == set(found.params)


def test_axes_are_those_of_all_views_and_each_view_is_brought_to_them():
    X, y = _data(10)
    axes = Reduction("pca", 8, views=VIEWS).fit(X)
    same = Reduction("pca", 8).fit(_stacked(X))
    assert np.array_equal(axes.axes, same.axes)
    reduced = axes.apply(X)
    assert reduced.shape == (len(X), VIEWS * 8)
    assert np.array_equal(reduced[:, 8:16], same.apply(X[:, 64:128]))
    head = ViewedHead.of(HEADS["ridge"], VIEWS, 2).build().fit(reduced, y)
    assert np.array_equal(OnAxes(axes, head).predict(X), head.predict(reduced))


def test_a_head_of_one_view_is_the_head():
    assert ViewedHead.of(HEADS["svm"], 1, 1) is HEADS["svm"]
    assert type(ViewedHead.of(HEADS["svm"], 4, 1).build()) is OnViews
    assert type(ViewedHead.of(HEADS["svm"], 4, 4).build()) is OverViews


class _Kept(Blocks):
    """An array as features in the store are."""

    def __init__(self, array):
        self.array, self.shape, self.dtype, self.asked = array, array.shape, array.dtype, []

    def __getitem__(self, rows):
        self.asked.append(rows)
        return self.array[rows]

    def take(self, rows, axis=0):
        return _Kept(self.array[rows])


def test_views_in_blocks_are_rows_of_their_own():
    X, _ = _data(10, rows=20)
    for count in (1, 2, 3):
        kept = _Kept(X)
        rows, expected = rows_of_views(kept, 64, count), rows_of_views(X, 64, count)
        assert rows.shape == expected.shape == (20 * count, 64)
        assert np.array_equal(rows[:], expected) and np.array_equal(rows[3:11], expected[3:11])
        some = np.array([7, 7, 0, 20 * count - 1])
        assert np.array_equal(rows[some], expected[some])
        assert np.array_equal(rows.take(some)[1:], expected[some][1:])
        assert np.array_equal(rows[np.arange(20 * count) % 5 == 0], expected[::5])
        assert rows[0:0].shape == (0, 64)


def test_an_svm_of_many_rows_learns_from_the_views_of_its_support_vectors(monkeypatch):
    X, y = _data(10, rows=1000)
    train, rest = np.arange(600), np.arange(600, 1000)
    head = ViewedHead.of(HEADS["svm"], VIEWS, 2)
    exact = head.build().fit(X[train], y[train])
    monkeypatch.setattr("classify.heads.on_views.MANY_ROWS", 1000)
    images = HEADS["svm"].build().fit(X[train][:, :64], y[train])
    few = np.sort(images.support_)
    assert 0 < len(few) < 600
    assert np.allclose(images.vectors_, X[images.support_, :64] - images.mean_, atol=1e-5)
    by_hand = HEADS["svm"].build().fit(_stacked(X[few]), np.repeat(y[few], VIEWS))
    viewed = head.build().fit(X[train], y[train])
    assert np.allclose(viewed.decision_function(X[rest]), _mean(by_hand, X[rest], 2), atol=1e-6)
    paths = list(head.build().fit_path(X[train], y[train], [{"C": 10.0}, {"C": 1.0}]))
    # A path goes from one candidate to the next, to the solver's tolerance.
    assert np.mean(paths[0].predict(X[rest]) == viewed.predict(X[rest])) > 0.99
    assert len(paths) == 2 and paths[1].head.C == 1.0
    # What is lost beside learning from the views of all is little, and what is won beside none much more.
    assert np.mean(viewed.predict(X[rest]) == exact.predict(X[rest])) > 0.98
    assert head.build().fold_decisions(X[train], y[train], [], [{}]) is None


@pytest.mark.parametrize("groups", [None, np.arange(150) // 2])
def test_a_head_that_holds_rows_out_is_told_which_are_views_of_one_image(monkeypatch, groups):
    X, y = _data(3)
    head, seen, whole = ViewedHead.of(head2toe((X.shape[1] // VIEWS,)), VIEWS, 1), [], Head2Toe.fit

    def fit(self, X, y, groups=None):
        seen.append(groups)
        return whole(self, X, y, groups)

    monkeypatch.setattr(Head2Toe, "fit", fit)
    head.build(max_steps=5).fit(X, y, **head.told(groups))
    expected = np.arange(150) if groups is None else groups
    assert np.array_equal(seen[0], np.repeat(expected, VIEWS))
