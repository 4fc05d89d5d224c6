"""Head2Toe on real digits, seen through transforms of their pixels that stand for layers."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from classify.heads.head2toe import Head2Toe, group_lasso_relevance

WIDTHS = (64, 48, 80)


@pytest.fixture(scope="module")
def layers():
    """Pixels, a random rectified layer of them, and a layer of noise that knows nothing of the digit."""
    images, labels = load_digits(return_X_y=True)
    random = np.random.default_rng(0)
    images = images.astype(np.float32) / 16
    rectified = np.maximum(images @ random.normal(size=(64, 48)).astype(np.float32), 0)
    noise = random.random((len(images), 80), dtype=np.float32)
    return np.concatenate([images, rectified, noise], axis=1), labels


@pytest.fixture(scope="module")
def fitted(layers):
    features, labels = layers
    return Head2Toe(widths=WIDTHS, max_steps=300).fit(features[:1200], labels[:1200])


def test_it_keeps_what_matters_and_leaves_noise_behind(layers, fitted):
    pixels, rectified, noise = fitted.kept_by_layer_
    assert pixels + rectified + noise == len(fitted.kept_) == round(fitted.fraction_ * 192)
    relevance = np.split(fitted.relevance_, np.cumsum(WIDTHS)[:-1])
    top = np.argsort(-fitted.relevance_)[:40]
    assert np.count_nonzero(top >= 112) == 0
    assert relevance[2].mean() < 0.25 * relevance[1].mean()


def test_it_beats_the_linear_head_on_everything_in_accuracy_or_width(layers, fitted):
    features, labels = layers
    accuracy = fitted.score(features[1200:], labels[1200:])
    everything = make_pipeline(StandardScaler(), LogisticRegression(max_iter=300)).fit(features[:1200], labels[:1200])
    assert accuracy > 0.9
    assert fitted.fraction_ < 1
    assert accuracy > everything.score(features[1200:], labels[1200:]) - 0.005


def test_the_fraction_is_the_smallest_of_the_best_on_validation(fitted):
    accuracies = fitted.validation_accuracies_
    best = max(accuracies.values())
    assert fitted.fraction_ == min(fraction for fraction, accuracy in accuracies.items() if accuracy == best)


def test_given_validation_rows_decide_and_are_not_searched(layers):
    features, labels = layers
    spoilt = labels[:600].copy()
    validation = np.arange(500, 600)
    spoilt[validation] = np.random.default_rng(0).permutation(spoilt[validation])
    head = Head2Toe(widths=WIDTHS, fractions=(0.2,), max_steps=100).fit(features[:600], spoilt, validation)
    clean = Head2Toe(widths=WIDTHS, fractions=(0.2,), max_steps=100).fit(features[:600], labels[:600], validation)
    assert np.array_equal(head.relevance_, clean.relevance_)
    assert head.validation_accuracies_[0.2] < 0.3 < clean.validation_accuracies_[0.2]


def test_layers_are_normalised_apart(layers):
    """The scale of one layer, image by image, changes nothing."""
    features, labels = layers
    scaled = features[:500].copy()
    scaled[:, :64] *= 2.0 ** np.random.default_rng(0).integers(-4, 5, size=(500, 1))
    parameters = {"widths": WIDTHS, "fractions": (0.1,), "max_steps": 100}
    plain = Head2Toe(**parameters).fit(features[:500], labels[:500])
    other = Head2Toe(**parameters).fit(scaled, labels[:500])
    assert np.array_equal(plain.kept_, other.kept_)
    assert np.array_equal(plain.predict(features[:500]), other.predict(scaled))


def test_a_class_may_be_missing_from_the_rows_searched(layers):
    features, labels = layers
    validation = np.flatnonzero(labels[:400] == 3)
    head = Head2Toe(widths=WIDTHS, fractions=(0.3,), max_steps=80).fit(features[:400], labels[:400], validation)
    assert np.isfinite(head.relevance_).all()
    assert 3 in head.predict(features[validation])


def test_it_behaves_as_a_scikit_learn_classifier(layers, fitted):
    features, labels = layers
    names = np.array([f"digit {label}" for label in range(10)])
    head = clone(fitted).set_params(fractions=(0.3,), max_steps=80).fit(features[:400], names[labels[:400]])
    assert set(head.predict(features[400:450])) <= set(names)
    probabilities = head.predict_proba(features[400:450])
    assert probabilities.shape == head.decision_function(features[400:450]).shape == (50, 10)
    assert np.allclose(probabilities.sum(axis=1), 1)
    assert np.array_equal(head.classes_[probabilities.argmax(axis=1)], head.predict(features[400:450]))


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"widths": (64, 48)}, "add up to the 192"),
        ({"widths": (192, 0)}, "must be positive"),
        ({"fractions": (0.5, 1.5)}, "up to 1"),
        ({"fractions": ()}, "one or more"),
        ({"strength": 0.0}, "strength=0.0 of Head2Toe is not legal"),
        ({"strength": 1.0}, "leaves no feature"),
    ],
)
def test_wrong_parameters_are_named(layers, parameters, words):
    features, labels = layers
    with pytest.raises(ValueError, match=words):
        Head2Toe(**parameters).fit(features[:100], labels[:100])


def test_group_lasso_meets_its_optimality_conditions(layers):
    """At the minimum a row that is zero has a gradient no longer than the penalty, any other exactly as long."""
    features, labels = layers
    features, labels = features[:500].astype(np.float64), labels[:500]
    relevance, _, converged = group_lasso_relevance(features, labels, 0.1, 5000)
    assert converged
    assert 0 < np.count_nonzero(relevance) < 192
    centred = features - features.mean(axis=0)
    shares = np.eye(10)[labels] - np.bincount(labels) / 500
    lengths = np.linalg.norm(centred.T @ shares / 500, axis=1)
    everything_zero, _, _ = group_lasso_relevance(features, labels, 0.999999, 5000)
    assert np.count_nonzero(everything_zero) <= 1
    assert np.flatnonzero(everything_zero).tolist() in ([], [int(lengths.argmax())])
    objective = _group_lasso_objective(centred, labels, 0.1 * lengths.max())
    assert np.linalg.norm(objective - relevance) < 0.02 * np.linalg.norm(relevance)


def _group_lasso_objective(centred, labels, penalty):
    """Row lengths at the minimum of the smoothed objective, by L-BFGS: another road to the same place."""
    from scipy.optimize import minimize

    targets = np.eye(10)[labels]

    def objective(flat):
        weights, intercept = flat[:-10].reshape(-1, 10), flat[-10:]
        scores = centred @ weights + intercept
        scores -= scores.max(axis=1, keepdims=True)
        logarithm = np.log(np.exp(scores).sum(axis=1, keepdims=True))
        lengths = np.sqrt(np.sum(weights**2, axis=1, keepdims=True) + 1e-10)
        loss = -np.mean(np.sum(targets * (scores - logarithm), axis=1)) + penalty * lengths.sum()
        errors = (np.exp(scores - logarithm) - targets) / len(labels)
        slope = centred.T @ errors + penalty * weights / lengths
        return loss, np.concatenate([slope.ravel(), errors.sum(axis=0)])

    start = np.zeros(centred.shape[1] * 10 + 10)
    result = minimize(objective, start, jac=True, method="L-BFGS-B", options={"maxiter": 5000, "maxfun": 8000})
    return np.linalg.norm(result.x[:-10].reshape(-1, 10), axis=1)
