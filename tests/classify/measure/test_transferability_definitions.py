"""Each score against a slow float64 reading of its paper's definition, on random inputs of several shapes."""

import numpy as np
import pytest

from classify.measure.transferability import (
    SCORES,
    cka_to_labels,
    h_score,
    leep,
    linear_cka,
    logme,
    nce,
    regularised_h_score,
    source_probabilities,
    transrate,
    weighted_tau,
)

SHAPES = {"more rows": (300, 24, 4), "more features": (40, 90, 3), "square": (50, 50, 5), "one feature": (60, 1, 2)}


@pytest.fixture(params=SHAPES.values(), ids=SHAPES.keys())
def problem(request):
    rows, columns, classes = request.param
    random = np.random.default_rng(rows)
    labels = random.permutation(np.arange(rows) % classes)
    centres = random.normal(size=(classes, columns))
    features = random.normal(size=(rows, columns)) * random.uniform(0.3, 3, columns) + centres[labels] + 0.7
    return features, labels


def slow_logme(features, labels):
    """The evidence with A built and inverted outright; alpha and beta iterated far past the stop that is tested."""
    rows, columns = features.shape
    squares = features.T @ features
    evidences = []
    for label in np.unique(labels):
        target = (labels == label).astype(float)
        alpha = beta = 1.0
        for _ in range(3000):
            ratio = alpha / beta
            inverse = np.linalg.inv(alpha * np.eye(columns) + beta * squares)
            mean = beta * inverse @ features.T @ target
            gamma = beta * np.trace(inverse @ squares)
            weight, error = mean @ mean, np.sum((features @ mean - target) ** 2)
            alpha, beta = gamma / (weight + 1e-5), (rows - gamma) / (error + 1e-5)
            if abs(alpha / beta - ratio) <= 1e-5 * ratio:
                break
        _, log_volume = np.linalg.slogdet(alpha * np.eye(columns) + beta * squares)
        evidences.append(
            columns / 2 * np.log(alpha)
            + rows / 2 * np.log(beta)
            - log_volume / 2
            - beta / 2 * error
            - alpha / 2 * weight
            - rows / 2 * np.log(2 * np.pi)
        )
    return np.mean(evidences) / rows


def class_mean_rows(features, labels):
    means = np.empty_like(features)
    for row, label in enumerate(labels):
        means[row] = features[labels == label].mean(axis=0)
    return means


def slow_h_score(features, labels):
    covariance = np.atleast_2d(np.cov(features, rowvar=False))
    between = np.atleast_2d(np.cov(class_mean_rows(features, labels), rowvar=False))
    return np.trace(np.linalg.pinv(covariance, rcond=1e-12) @ between)


def slow_regularised_h_score(features, labels):
    rows, columns = features.shape
    centred = features - features.mean(axis=0)
    sample = centred.T @ centred / rows
    level = np.trace(sample) / columns
    distance = np.sum((sample - level * np.eye(columns)) ** 2)
    noise = sum(np.sum((np.outer(row, row) - sample) ** 2) for row in centred) / rows**2
    shrinkage = 0.0 if distance == 0 else min(noise, distance) / distance
    shrunk = (1 - shrinkage) * sample + shrinkage * level * np.eye(columns)
    means = class_mean_rows(centred, labels)
    return np.trace(np.linalg.inv(shrunk) @ ((1 - shrinkage) * means.T @ means / rows))


def slow_transrate(features, labels):
    centred = features - features.mean(axis=0)

    def rate(part):
        inner = np.eye(part.shape[1]) + part.T @ part / (len(part) * 1e-4)
        return 0.5 * np.sum(np.log(np.linalg.eigvalsh(inner)))

    return rate(centred) - np.mean([rate(centred[labels == label]) for label in np.unique(labels)])


def slow_cka(first, second):
    """Song et al. 2012, equation 5, without the diagonals."""
    rows = len(first)
    one, other = (side @ side.T * (1 - np.eye(rows)) for side in (first, second))

    def hsic(a, b):
        every = a.sum() * b.sum() / ((rows - 1) * (rows - 2))
        return (np.trace(a @ b) + every - 2 / (rows - 2) * (a @ b).sum()) / (rows * (rows - 3))

    return hsic(one, other) / np.sqrt(hsic(one, one) * hsic(other, other))


def slow_leep(probabilities, labels):
    rows, sources = probabilities.shape
    total = 0.0
    for row in range(rows):
        prediction = 0.0
        for source in range(sources):
            given = probabilities[labels == labels[row], source].sum() / probabilities[:, source].sum()
            prediction += given * probabilities[row, source]
        total += np.log(prediction)
    return total / rows


def slow_nce(predicted, labels):
    score = 0.0
    for source in np.unique(predicted):
        for label in np.unique(labels):
            both = np.mean((predicted == source) & (labels == label))
            if both > 0:
                score += both * np.log(both / np.mean(predicted == source))
    return score


@pytest.mark.parametrize(
    ("score", "reference"),
    [
        (logme, slow_logme),
        (h_score, slow_h_score),
        (regularised_h_score, slow_regularised_h_score),
        (transrate, slow_transrate),
        (cka_to_labels, lambda features, labels: slow_cka(features, np.eye(labels.max() + 1)[labels])),
    ],
    ids=lambda function: getattr(function, "__name__", ""),
)
def test_feature_scores_follow_their_definitions(problem, score, reference):
    features, labels = problem
    assert score(features, labels) == pytest.approx(reference(features, labels), rel=1e-6)


@pytest.mark.parametrize("width", [7, 120])
def test_cka_between_layers_follows_its_definition(problem, width):
    features, _ = problem
    random = np.random.default_rng(1)
    other = np.tanh(features @ random.normal(size=(features.shape[1], width))) + random.normal(size=(1, width))
    assert linear_cka(features, other) == pytest.approx(slow_cka(features, other), rel=1e-6)
    assert linear_cka(other, features) == pytest.approx(slow_cka(features, other), rel=1e-6)


@pytest.mark.parametrize(("rows", "sources", "classes"), [(200, 12, 4), (30, 100, 3), (9000, 5, 2)])
def test_source_scores_follow_their_definitions(rows, sources, classes):
    random = np.random.default_rng(rows)
    labels = random.permutation(np.arange(rows) % classes)
    logits = 2 * random.normal(size=(rows, sources)) + 1.5 * random.normal(size=(classes, sources))[labels]
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert np.allclose(source_probabilities(logits), probabilities, rtol=1e-12)
    if rows < 1000:  # The slow form is quadratic in the rows.
        assert leep(probabilities, labels) == pytest.approx(slow_leep(probabilities, labels), rel=1e-6)
    else:  # Blocks of rows change nothing but the rounding.
        halves = np.concatenate([np.arange(0, rows, 2), np.arange(1, rows, 2)])
        assert leep(probabilities[halves], labels[halves]) == pytest.approx(leep(probabilities, labels), rel=1e-12)
    predicted = probabilities.argmax(axis=1)
    assert nce(probabilities, labels) == pytest.approx(slow_nce(predicted, labels), rel=1e-6)
    assert nce(predicted, labels) == nce(probabilities, labels)


def test_features_of_large_condition_keep_their_precision():
    """A Gram matrix alone squares the condition number: here 1e7, which leaves 1e-14 of the largest square."""
    random = np.random.default_rng(5)
    left, _ = np.linalg.qr(random.normal(size=(400, 12)))
    right, _ = np.linalg.qr(random.normal(size=(12, 12)))
    labels = np.arange(400) % 3
    left -= left.mean(axis=0)
    features = (left * np.logspace(0, -7, 12)) @ right.T
    span = np.linalg.qr(left)[0]
    inside = sum(np.sum((span.T @ (labels == label)) ** 2) / np.sum(labels == label) for label in range(3))
    assert h_score(features, labels) == pytest.approx(inside, rel=1e-6)
    left, values, _ = np.linalg.svd(features, full_matrices=False)
    stretched = features * 1e4  # So that LogME weighs the small directions too.
    assert logme(stretched, labels) == pytest.approx(svd_logme(left, values * 1e4, labels), rel=1e-6)


def svd_logme(left, values, labels):
    """LogME's fixed point in the coordinates of an outright singular value decomposition."""
    rows, evidences = len(labels), []
    for label in np.unique(labels):
        target = (labels == label).astype(float)
        inside = left.T @ target
        alpha = beta = 1.0
        for _ in range(3000):
            ratio = alpha / beta
            mean = beta * values * inside / (alpha + beta * values**2)
            gamma = np.sum(beta * values**2 / (alpha + beta * values**2))
            weight, error = mean @ mean, np.sum((target - left @ (values * mean)) ** 2)
            alpha, beta = gamma / (weight + 1e-5), (rows - gamma) / (error + 1e-5)
            if abs(alpha / beta - ratio) <= 1e-5 * ratio:
                break
        volume = len(values) * np.log(alpha) - np.sum(np.log(alpha + beta * values**2))
        evidences.append(0.5 * (volume + rows * np.log(beta / (2 * np.pi)) - beta * error - alpha * weight))
    return np.mean(evidences) / rows


def test_shrinkage_agrees_with_scikit_learn(problem):
    from sklearn.covariance import LedoitWolf

    features, labels = problem
    model = LedoitWolf().fit(features)
    means = class_mean_rows(features - features.mean(axis=0), labels)
    between = (1 - model.shrinkage_) * means.T @ means / len(features)
    expected = np.trace(np.linalg.solve(np.atleast_2d(model.covariance_), between))
    assert regularised_h_score(features, labels) == pytest.approx(expected, rel=1e-6)


def test_weighted_tau_counts_the_top_most():
    accuracies = [0.9, 0.8, 0.7, 0.6]
    assert weighted_tau([4, 3, 2, 1], accuracies) == pytest.approx(1)
    assert weighted_tau([1, 2, 3, 4], accuracies) == pytest.approx(-1)
    assert weighted_tau([3, 4, 2, 1], accuracies) < weighted_tau([4, 3, 1, 2], accuracies) < 1
    assert np.isnan(weighted_tau([1, 1, 1, 1], accuracies))
    assert np.isnan(weighted_tau([1], [0.5]))
    assert np.isnan(weighted_tau([1, np.nan, 2, 3], accuracies))
    assert np.isnan(weighted_tau([1, 2, 3, 4], [np.nan, *accuracies[1:]]))
    assert weighted_tau([1e308, 0, -np.inf, -np.inf], [0.9, 0.5, 0.1, 0.1]) == pytest.approx(1)
    with pytest.raises(ValueError, match="one score and one accuracy"):
        weighted_tau([1, 2], accuracies)


def test_weighted_tau_follows_its_definition():
    random = np.random.default_rng(0)
    scores, accuracies = random.normal(size=7), random.normal(size=7)

    def by_rank(order):
        rank = np.empty(7)
        rank[np.argsort(-order)] = np.arange(7)
        top = bottom = 0.0
        for one in range(7):
            for other in range(one + 1, 7):
                weight = 1 / (rank[one] + 1) + 1 / (rank[other] + 1)
                bottom += weight
                top += weight * np.sign(scores[one] - scores[other]) * np.sign(accuracies[one] - accuracies[other])
        return top / bottom

    expected = (by_rank(scores) + by_rank(accuracies)) / 2
    assert weighted_tau(scores, accuracies) == pytest.approx(expected, rel=1e-9)


def test_the_registry_names_what_each_score_reads():
    random = np.random.default_rng(0)
    labels = np.arange(60) % 3
    arrays = {
        "features": random.normal(size=(60, 8)),
        "source_probabilities": source_probabilities(random.normal(size=(60, 9))),
    }
    for name, score in SCORES.items():
        assert name == score.name
        assert score.direction == "higher"
        assert np.isfinite(score.function(arrays[score.needs], labels))
