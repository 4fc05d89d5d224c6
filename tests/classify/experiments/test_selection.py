"""Greedy forward selection of layers, on real digits seen in parts."""

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import RidgeClassifier

from classify.experiments.probe.selecting import select_layers
from features.errors import UserError
from features.rows import validation_split


@pytest.fixture(scope="module")
def digits():
    images, labels = load_digits(return_X_y=True)
    images = images.reshape(-1, 8, 8)
    layers = {
        "noise": np.random.default_rng(0).normal(size=(len(labels), 8)),
        "upper": images[:, :4].reshape(len(labels), -1),
        "lower": images[:, 4:].reshape(len(labels), -1),
        "upper again": images[:, :4].reshape(len(labels), -1),
    }
    return layers, labels, *validation_split(labels, np.arange(len(labels)), seed=0, fraction=0.3)


def test_halves_that_complete_each_other_are_joined_and_no_more(digits):
    layers, labels, train, validation = digits
    chosen = select_layers(list(layers), layers.__getitem__, labels, train, validation, RidgeClassifier, 0.005)
    assert set(chosen.order) == {"upper", "lower"}
    assert chosen.accuracies[1] > chosen.accuracies[0] + 0.05
    assert chosen.layer == "+".join(chosen.order)
    assert [len(results) for results in chosen.tried] == [4, 3, 2]
    assert str(chosen).startswith(f"{chosen.order[0]} {100 * chosen.accuracies[0]:.2f} %")


def test_accuracies_are_those_of_the_head_on_the_joined_layers(digits):
    layers, labels, train, validation = digits
    chosen = select_layers(list(layers), layers.__getitem__, labels, train, validation, RidgeClassifier)
    for count, accuracy in enumerate(chosen.accuracies, start=1):
        joined = np.concatenate([layers[layer] for layer in chosen.order[:count]], axis=1)
        head = RidgeClassifier().fit(joined[train], labels[train])
        assert head.score(joined[validation], labels[validation]) == pytest.approx(accuracy)
        assert max(chosen.tried[count - 1].values()) == accuracy
    assert list(chosen.accuracies) == sorted(chosen.accuracies)


def test_only_training_and_validation_rows_are_looked_at(digits):
    layers, labels, train, validation = digits
    used = np.concatenate([train[:300], validation[:100]])
    spoilt, spoilt_labels = {}, labels.copy()
    unused = np.setdiff1d(np.arange(len(labels)), used)
    for layer, values in layers.items():
        spoilt[layer] = values.astype(float)
        spoilt[layer][unused] = np.nan
    spoilt_labels[unused] = -1
    rows = (train[:300], validation[:100])
    clean = select_layers(list(layers), layers.__getitem__, labels, *rows, RidgeClassifier)
    assert select_layers(list(layers), spoilt.__getitem__, spoilt_labels, *rows, RidgeClassifier) == clean


def test_one_layer_is_chosen_whatever_it_is_worth(digits):
    layers, labels, train, validation = digits
    chosen = select_layers(["noise"], layers.__getitem__, labels, train, validation, RidgeClassifier)
    assert chosen.order == ("noise",)
    assert chosen.accuracies[0] < 0.3


def test_mistakes_are_named(digits):
    layers, labels, train, validation = digits
    for names in ([], ["upper", "upper"]):
        with pytest.raises(UserError, match="different names"):
            select_layers(names, layers.__getitem__, labels, train, validation, RidgeClassifier)
    with pytest.raises(UserError, match="both training and validation"):
        select_layers(["upper"], layers.__getitem__, labels, train, train[:5], RidgeClassifier)
