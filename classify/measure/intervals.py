"""How sure a measured number is: Wilson's interval of one accuracy, and the paired bootstrap of a difference.

Both speak about the sampling of test images only, not about the seed or the choice of the training set; that is what
`mean_interval` is about, over several seeds. scipy is imported where it is used: reading a record does without.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Literal

import numpy as np

# Numbers drawn at a time in the bootstrap: 32 MB of int64.
_BLOCK = 4_000_000


def wilson_interval(correct: float, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a proportion (Wilson 1927; Brown, Cai and DasGupta 2001, equation 4).

    Unlike the textbook's `p ± 1.96 sqrt(p (1 - p) / n)` it stays inside [0, 1] and keeps its width at p = 1.
    correct may be a mean over seeds. ValueError if n is not positive or `correct` is not within 0..n.
    """
    if n < 1 or not 0 <= correct <= n:
        raise ValueError(f"{correct} correct out of {n} is no proportion")
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    p = correct / n
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * ((p * (1 - p) + z * z / (4 * n)) / n) ** 0.5
    # At the ends the sum is 0 or 1 up to rounding; a high end below the proportion itself would look like a fault.
    low = 0.0 if correct == 0 else middle - half
    high = 1.0 if correct == n else middle + half
    return low, high


def proven(share: float | None, n: int) -> float:
    """What models are ranked by: the lower end of the 95 % interval of a share of n validation rows; -1 for none.

    Of shares of equally many rows the larger is ranked higher. One of fewer rows comes before one of more only where
    its lower end is higher all the same: 3 of 3 right proves less than 930 of 1,000.
    """
    return -1.0 if share is None or n < 1 else wilson_interval(min(max(share, 0.0), 1.0) * n, n)[0]


def f1_scores(hits: np.ndarray, predicted: np.ndarray, support: np.ndarray) -> np.ndarray:
    """F1 of each class from counts of any shape: 2 hits / (predicted + support), 0 for a class that never occurs."""
    total = np.asarray(predicted) + np.asarray(support)
    return 2 * np.asarray(hits) / np.maximum(total, 1)


def macro_f1(hits: np.ndarray, predicted: np.ndarray, support: np.ndarray) -> np.ndarray:
    """Mean F1 along the last axis, over the classes that occur among the labels or the predictions."""
    occurring = (np.asarray(predicted) + np.asarray(support)) > 0
    scores = f1_scores(hits, predicted, support)
    return scores.sum(axis=-1) / np.maximum(occurring.sum(axis=-1), 1)


@dataclass(frozen=True)
class Difference:
    """First minus second in one statistic on the same rows, with the ends of its bootstrap interval (fractions)."""

    statistic: str
    value: float
    low: float
    high: float
    confidence: float
    resamples: int

    def __str__(self) -> str:
        spelled = f"{100 * self.value:+.2f} points ({100 * self.low:+.2f} to {100 * self.high:+.2f})"
        return f"{self.statistic.replace('_', ' ')} {spelled}"


def bootstrap_difference(
    labels: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    statistic: Literal["accuracy", "macro_f1"] = "accuracy",
    *,
    classes: int | None = None,
    resamples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Difference:
    """The percentile bootstrap interval of the difference between two sets of predictions for the same rows.

    `labels`, `first`, `second`: whole numbers (N,); a prediction outside 0..classes-1 is wrong and no class of its own
    (by default every number that occurs is one). Rows are drawn with replacement, the same for both systems. Rows
    with equal (label, first, second) are interchangeable, so what is drawn is how often each such triple occurs, a
    multinomial: the same distribution as drawing rows, at a cost that does not grow with N.
    """
    if statistic not in ("accuracy", "macro_f1"):
        raise ValueError(f"a difference is measured in 'accuracy' or 'macro_f1', not {statistic!r}")
    labels, first, second = same_rows(labels, first, second)
    triples, occurrences = np.unique(np.stack([labels, first, second]), axis=1, return_counts=True)
    difference = _difference_of_counts(triples, statistic, classes or int(triples.max()) + 1)
    random = np.random.default_rng(seed)
    shares = occurrences / len(labels)
    block = max(1, _BLOCK // len(shares))
    drawn = np.concatenate(
        [
            difference(random.multinomial(len(labels), shares, size=min(block, resamples - start)))
            for start in range(0, resamples, block)
        ]
    )
    tail = (1 - confidence) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail])
    value = difference(occurrences[None])[0]
    return Difference(statistic, float(value), float(low), float(high), confidence, resamples)


def _difference_of_counts(triples: np.ndarray, statistic: str, classes: int) -> Callable[[np.ndarray], np.ndarray]:
    """A function from counts of each triple (R, K) to the difference in each resample (R,)."""
    truth, first, second = triples
    if statistic == "accuracy":
        gain = (first == truth).astype(np.int64) - (second == truth)
        return lambda counts: counts @ gain / counts.sum(axis=1)

    from scipy.sparse import csr_array

    def per_class(values: np.ndarray, where: np.ndarray) -> Any:
        chosen = np.flatnonzero(where & (values >= 0) & (values < classes))
        ones = np.ones(len(chosen), dtype=np.int64)
        return csr_array((ones, (chosen, values[chosen])), shape=(len(values), classes))

    everywhere = np.ones(len(truth), dtype=bool)
    support = per_class(truth, everywhere)
    systems = [(per_class(truth, truth == guess), per_class(guess, everywhere)) for guess in (first, second)]

    def difference(counts: np.ndarray) -> np.ndarray:
        scores = [macro_f1(counts @ hits, counts @ predicted, counts @ support) for hits, predicted in systems]
        return scores[0] - scores[1]

    return difference


def same_rows(labels: np.ndarray, first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The three as int64 (N,); ValueError if they are not of one length, or empty."""
    labels, first, second = (np.asarray(values, dtype=np.int64) for values in (labels, first, second))
    if not labels.shape == first.shape == second.shape or labels.ndim != 1 or not len(labels):
        raise ValueError(
            "two systems are compared on the same rows: labels and predictions are vectors of one length, not of the "
            f"shapes {labels.shape}, {first.shape} and {second.shape}"
        )
    return labels, first, second


def mean_interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float, float]:
    """The mean of independent values, such as one accuracy a seed, with the ends of Student's interval around it.

    One value alone says nothing about the spread: its interval is itself.
    """
    from scipy import stats

    sample = np.asarray(values, dtype=np.float64)
    mean = float(sample.mean())
    if len(sample) < 2:
        return mean, mean, mean
    half = float(stats.t.ppf(0.5 + confidence / 2, len(sample) - 1) * sample.std(ddof=1) / np.sqrt(len(sample)))
    return mean, mean - half, mean + half
