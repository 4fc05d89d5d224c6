"""Intervals, paired tests and calibration against scipy and against numbers worked out by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import f1_score

from classify.measure.calibration import (
    expected_calibration_error,
    fit_temperature,
    probabilities_at,
    reliability,
)
from classify.measure.intervals import bootstrap_difference, proven, wilson_interval
from classify.measure.paired import holm, mcnemar, mcnemar_p_value


@given(st.integers(1, 20000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
@settings(deadline=None)
def test_wilson_equals_scipy(drawn):
    correct, n = drawn
    expected = stats.binomtest(correct, n).proportion_ci(method="wilson")
    low, high = wilson_interval(correct, n)
    assert (low, high) == (pytest.approx(expected.low, abs=1e-12), pytest.approx(expected.high, abs=1e-12))
    assert 0 <= low <= correct / n <= high <= 1


def test_wilson_refuses_what_is_no_proportion():
    for correct, n in ((0, 0), (3, 2), (-1, 5)):
        with pytest.raises(ValueError, match="no proportion"):
            wilson_interval(correct, n)


def test_shares_of_few_rows_prove_little():
    assert proven(1.0, 3) < proven(0.6, 1000)
    assert proven(1.0, 300) > proven(0.98, 1000)
    # Of equally many rows, the larger share.
    assert proven(0.91, 100) > proven(0.9, 100)
    assert proven(0.0, 10) > proven(None, 10) == proven(0.5, 0)


def test_bootstrap_of_accuracy_agrees_with_the_normal_approximation():
    random = np.random.default_rng(1)
    labels = random.integers(0, 10, 5000)
    first = np.where(random.random(5000) < 0.95, labels, (labels + 1) % 10)
    second = np.where(random.random(5000) < 0.93, labels, (labels + 2) % 10)
    found = bootstrap_difference(labels, first, second, resamples=4000)
    gain = (first == labels).astype(float) - (second == labels)
    half = 1.96 * gain.std() / np.sqrt(len(gain))
    assert found.value == pytest.approx(gain.mean(), abs=1e-12)
    assert (found.low, found.high) == (
        pytest.approx(gain.mean() - half, abs=0.1 * half),
        pytest.approx(gain.mean() + half, abs=0.1 * half),
    )
    assert found == bootstrap_difference(labels, first, second, resamples=4000)
    assert found != bootstrap_difference(labels, first, second, resamples=4000, seed=1)


def test_bootstrap_of_macro_f1_agrees_with_resampled_rows():
    random = np.random.default_rng(2)
    labels = random.integers(0, 4, 300)
    first = np.where(random.random(300) < 0.9, labels, random.integers(0, 4, 300))
    second = np.where(random.random(300) < 0.7, labels, random.integers(0, 4, 300))
    found = bootstrap_difference(labels, first, second, "macro_f1", resamples=4000)
    expected = f1_score(labels, first, average="macro") - f1_score(labels, second, average="macro")
    assert found.value == pytest.approx(expected, abs=1e-12)
    drawn = []
    for _ in range(400):
        rows = random.integers(0, 300, 300)
        scores = [f1_score(labels[rows], guess[rows], average="macro") for guess in (first, second)]
        drawn.append(scores[0] - scores[1])
    low, high = np.quantile(drawn, [0.025, 0.975])
    assert (found.low, found.high) == (pytest.approx(low, abs=0.015), pytest.approx(high, abs=0.015))


def test_bootstrap_counts_a_prediction_that_is_no_class_as_wrong_only():
    labels, first, second = np.array([0, 0, 1, 1]), np.array([0, 7, 1, 1]), np.array([0, -1, 1, 1])
    found = bootstrap_difference(labels, first, second, "macro_f1", classes=2, resamples=50)
    assert (found.value, found.low, found.high) == (0, 0, 0)


@given(st.integers(0, 400), st.integers(0, 400))
@settings(deadline=None)
def test_mcnemar_equals_the_binomial_test(b, c):
    exact = stats.binomtest(b, b + c, 0.5).pvalue if b + c else 1.0
    point = stats.binom.pmf(b, b + c, 0.5) if b != c else 0.0
    assert mcnemar_p_value(b, c) == pytest.approx(min(1.0, exact - point), rel=1e-7, abs=1e-300)
    assert mcnemar_p_value(b, c) == mcnemar_p_value(c, b)


def test_mcnemar_by_hand():
    labels = np.zeros(10, dtype=int)
    first = np.array([0] * 9 + [1])
    second = np.array([0] * 4 + [1] * 5 + [0])
    # Five rows for the first, one for the second: P(X <= 1) = 7/64, P(X = 1) = 6/64.
    found = mcnemar(labels, first, second)
    assert (found.first_only, found.second_only) == (5, 1)
    assert found.p_value == pytest.approx(8 / 64)
    assert mcnemar(labels, first, first).p_value == 1.0
    with pytest.raises(ValueError, match="same rows"):
        mcnemar(labels, first, second[:5])


def test_holm_by_hand():
    # 0.01 * 4, 0.013 * 3 raised to 0.04, 0.03 * 2, 0.9.
    np.testing.assert_allclose(holm([0.03, 0.01, 0.9, 0.013]), [0.06, 0.04, 0.9, 0.04])
    np.testing.assert_allclose(holm([0.5, 0.6]), [1.0, 1.0])
    assert holm([]).shape == (0,)
    with pytest.raises(ValueError, match="from 0 to 1"):
        holm([0.1, float("nan")])


def test_reliability_by_hand():
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.35, 0.65], [0.4, 0.6], [0.0, 1.0]])
    labels = np.array([0, 1, 1, 1, 1])
    found = reliability(labels, probabilities, bins=5)
    # Bins are closed above: 0.6 belongs to (0.4, 0.6], 0.8 to (0.6, 0.8], and 1 to the last.
    np.testing.assert_array_equal(found.counts, [0, 0, 1, 2, 2])
    np.testing.assert_allclose(found.confidence, [0, 0, 0.6, 0.725, 0.95])
    np.testing.assert_allclose(found.accuracy, [0, 0, 1, 0.5, 1])
    assert found.error == pytest.approx((0.4 + 2 * 0.225 + 2 * 0.05) / 5)
    assert expected_calibration_error(labels, probabilities, bins=5) == found.error


def test_temperature_is_recovered_and_undoes_a_scaling():
    random = np.random.default_rng(3)
    logits = random.normal(size=(20000, 4)) * 2
    labels = np.array([random.choice(4, p=row) for row in probabilities_at(logits)])
    assert fit_temperature(logits, labels) == pytest.approx(1, abs=0.05)
    found = fit_temperature(3 * logits, labels)
    assert found == pytest.approx(3 * fit_temperature(logits, labels), rel=1e-5)
    before = expected_calibration_error(labels, probabilities_at(3 * logits))
    assert expected_calibration_error(labels, probabilities_at(3 * logits, found)) < before / 4


def test_temperature_is_where_the_loss_has_no_slope():
    logits, labels = np.array([[2.0, 0.0]] * 4), np.array([0, 0, 0, 1])
    # Three of four right: the best probability is 3/4, so 2 / T = log 3.
    assert fit_temperature(logits, labels) == pytest.approx(2 / np.log(3), rel=1e-6)


@pytest.mark.parametrize("scale", [1e-300, 1e-6, 1e5, 1e12, 1e300])
def test_temperature_is_found_at_any_scale(scale):
    random = np.random.default_rng(3)
    labels = np.arange(200) % 5
    logits = random.normal(size=(200, 5)) + 2 * np.eye(5)[labels]
    assert fit_temperature(scale * logits, labels) == pytest.approx(scale * fit_temperature(logits, labels), rel=1e-6)


def test_temperature_stays_finite_where_there_is_no_optimum():
    separated = np.array([[1e4, 0.0], [0.0, 1e4]])
    assert fit_temperature(separated, np.array([0, 1])) == 1e-3
    assert fit_temperature(separated, np.array([1, 0])) == 1e6
    assert fit_temperature(separated / 1e4, np.array([1, 0])) == 1e3
    # Every temperature is as good, and the probabilities stay as they are.
    assert fit_temperature(np.ones((4, 3)), np.array([0, 1, 2, 0])) == 1
    assert fit_temperature(np.array([[1e308, -1e308]]), np.array([0])) == 1e-3
    with pytest.raises(ValueError, match="finite"):
        fit_temperature(np.array([[np.inf, 0.0]]), np.array([0]))
    with pytest.raises(ValueError, match="labels"):
        fit_temperature(separated, np.array([0, 2]))
