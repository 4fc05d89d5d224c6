"""Heads that compute on a device by torch come to what they come to by numpy; `cpu` stands for the GPU here."""

import numpy as np
import pytest
from sklearn.datasets import load_digits

from classify.heads import HEADS
from classify.heads.on_device import gpu_for_heads, is_there
from features.errors import UserError


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    X = (X + np.random.default_rng(0).normal(0, 4, X.shape)).astype(np.float32)
    return X[:1200], y[:1200], X[1200:]


@pytest.mark.parametrize("params", [{}, {"class_weight": "balanced"}], ids=str)
@pytest.mark.parametrize("name", ["logistic", "linear-svm", "ridge"])
def test_a_linear_head_has_the_same_scores_on_a_device(name, params, digits):
    X, y, X_test = digits
    tight = {} if name == "ridge" else {"tol": 1e-6}
    here = HEADS[name].build(**params, **tight).fit(X, y).decision_function(X_test)
    there = HEADS[name].build(device="cpu", **params, **tight).fit(X, y).decision_function(X_test)
    assert np.abs(here - there).max() < 2e-3


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_the_nearest_rows_are_the_same_on_a_device(metric, digits):
    X, y, X_test = digits
    here = HEADS["knn"].build(metric=metric, k=7).fit(X, y)
    there = HEADS["knn"].build(metric=metric, k=7, device="cpu").fit(X, y)
    # Two rows at almost the same distance may change places.
    assert (here.neighbours(X_test) == there.neighbours(X_test)).mean() > 0.999
    assert (here.predict(X_test) == there.predict(X_test)).mean() > 0.995


@pytest.mark.parametrize("name", ["logistic", "ridge", "knn"])
def test_a_device_that_is_not_there_leaves_the_work_to_numpy(name, digits, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    X, y, X_test = digits
    head = HEADS[name].build(device="cuda:7").fit(X, y)
    assert not is_there("cuda:7")
    assert np.array_equal(head.predict(X_test), HEADS[name].build().fit(X, y).predict(X_test))


def test_heads_go_where_the_trunk_goes_if_that_is_a_gpu(monkeypatch):
    assert gpu_for_heads("cuda:1") == "cuda:1"
    assert gpu_for_heads("cpu") is None and gpu_for_heads("mps") is None
    monkeypatch.setattr("classify.heads.on_device._has_driver", lambda: True)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert gpu_for_heads("auto") == "cuda"


def test_a_device_that_is_none_is_named(digits):
    X, y, _ = digits
    with pytest.raises(UserError, match="device='gpu' of Ridge is not legal; give None, or a name like 'cuda'"):
        HEADS["ridge"].build(device="gpu").fit(X, y)
