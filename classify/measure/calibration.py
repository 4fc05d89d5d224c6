"""Whether probabilities mean what they say: reliability bins, expected calibration error, temperature scaling.

All after Guo et al. 2017, 'On calibration of modern neural networks'. Confidence is the largest probability of a row,
and a row counts as right if that class is the label. scipy is imported where it is used: reading a record
does without.
"""

from dataclasses import dataclass

import numpy as np

BINS = 15
# What stands for a temperature of 0, where the logits separate the rows perfectly, and for an infinite one, where they
# tell less than nothing.
_COLDEST, _HOTTEST = 1e-3, 1e3


@dataclass(frozen=True, eq=False)
class Reliability:
    """A reliability diagram: bin i is (edges[i], edges[i + 1]]; an empty bin has count, confidence and accuracy 0.

    edges float64 (bins + 1,), counts int64 (bins,), confidence and accuracy float64 (bins,): means over the bin's rows.
    """

    edges: np.ndarray
    counts: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray

    @property
    def error(self) -> float:
        """Expected calibration error (equation 3): the gap |accuracy - confidence|, averaged over all rows."""
        return float(np.sum(self.counts * np.abs(self.accuracy - self.confidence)) / self.counts.sum())


def reliability(labels: np.ndarray, probabilities: np.ndarray, bins: int = BINS) -> Reliability:
    """Sort rows into `bins` equal steps of confidence; labels (N,) whole numbers, probabilities (N, C)."""
    probabilities = checked_probabilities(probabilities, len(labels))
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == np.asarray(labels)
    edges = np.linspace(0, 1, bins + 1)
    # Bins are open below and closed above; rounding may put a probability a little above 1.
    place = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, bins - 1)
    counts = np.bincount(place, minlength=bins)
    filled = np.maximum(counts, 1)
    return Reliability(
        edges,
        counts,
        np.bincount(place, weights=confidence, minlength=bins) / filled,
        np.bincount(place, weights=right, minlength=bins) / filled,
    )


def expected_calibration_error(labels: np.ndarray, probabilities: np.ndarray, bins: int = BINS) -> float:
    """The mean gap between confidence and accuracy over equal bins of confidence."""
    return reliability(labels, probabilities, bins).error


def fit_temperature(logits: np.ndarray, labels: np.ndarray, smoothing: float = 0.0) -> float:
    """The temperature T > 0 for which softmax(logits / T) has the least log loss on these (validation) rows.

    smoothing: the share of each row that goes to the classes other than its label, in equal parts (from 0 up to 1).

    logits (N, C) finite, labels (N,); computed in float64. The loss is convex in 1/T, so there is one minimum: where
    its slope is zero, found at any scale of the logits. Where the optimum is at 0, 0.001 comes back, or less for logits
    that differ by less than 1; where it is at infinity, 1000, or a hundred times the largest difference; where the
    logits are constant and every temperature is as good, 1. Scaling leaves every prediction as it is.
    """
    from scipy.optimize import brentq
    from scipy.special import softmax

    logits, labels = _checked_logits(logits), np.asarray(labels, dtype=np.int64)
    if labels.shape != logits.shape[:1] or np.any((labels < 0) | (labels >= logits.shape[1])):
        raise ValueError(f"{len(logits)} rows of {logits.shape[1]} logits need as many labels, from 0 up to that many")
    # Halved, so that their differences do not overflow.
    halves = logits / 2
    of_labels = np.take_along_axis(halves, labels[:, None], axis=1)
    if smoothing:
        others = (halves.sum(axis=1, keepdims=True) - of_labels) / (halves.shape[1] - 1)
        of_labels = (1 - smoothing) * of_labels + smoothing * others
    gaps = halves - of_labels
    half = float(np.abs(gaps).max())
    if half == 0:
        return 1.0
    gaps /= half
    # Relative to the label's (or the smoothed) logit the loss is log sum exp(gaps * b), b the inverse temperature.
    if gaps.max() <= 0:
        return _COLDEST * min(1.0, 2 * half)
    if gaps.mean() >= 0:
        return max(_HOTTEST, 200 * half)

    def slope(log_inverse: float) -> float:
        return float(np.mean(np.sum(softmax(gaps * np.exp(log_inverse), axis=1) * gaps, axis=1)))

    low, high = -1.0, 1.0
    while slope(low) >= 0 and low > -600:
        low *= 2
    while slope(high) <= 0 and high < 600:
        high *= 2
    inverse = np.exp(brentq(slope, low, high, xtol=1e-12) if slope(low) < 0 < slope(high) else low)
    return float(min(2 * (half / inverse), np.finfo(float).max))


def probabilities_at(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """softmax(logits / temperature) as float64 (N, C)."""
    from scipy.special import softmax

    if not temperature > 0:
        raise ValueError(f"a temperature is positive, not {temperature}")
    return softmax(_checked_logits(logits) / temperature, axis=1)


def checked_probabilities(probabilities: np.ndarray, n: int) -> np.ndarray:
    """The same as a floating array (n, C); ValueError unless rows are probabilities that sum to 1 (within 0.001)."""
    probabilities = np.asarray(probabilities)
    if probabilities.dtype not in (np.float32, np.float64):
        probabilities = probabilities.astype(np.float64)
    if probabilities.ndim != 2 or len(probabilities) != n:
        raise ValueError(f"probabilities for {n} rows have the shape ({n}, classes), not {probabilities.shape}")
    sums = probabilities.sum(axis=1, dtype=np.float64)
    # Written so that NaN fails too.
    if not (np.all(probabilities >= 0) and np.all(np.abs(sums - 1) <= 1e-3)):
        raise ValueError("probabilities are numbers from 0 to 1 that sum to 1 in each row; these do not")
    return probabilities


def _checked_logits(logits: np.ndarray) -> np.ndarray:
    logits = np.asarray(logits, dtype=np.float64)
    if logits.ndim != 2 or not logits.size or not np.all(np.isfinite(logits)):
        raise ValueError(f"logits are finite numbers of the shape (rows, classes); these have the shape {logits.shape}")
    return logits
