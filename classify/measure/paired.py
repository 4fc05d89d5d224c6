"""Do two systems differ on the same rows: McNemar's test, one for folds, and Holm's correction for a family of tests.

Two accuracies on 10,000 images whose intervals overlap can still differ significantly, because both systems saw the
same images: only the rows on which exactly one of them is right say anything.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import bdtr

from classify.measure.intervals import same_rows


@dataclass(frozen=True)
class McNemar:
    """One paired test: rows that only the first, or only the second system gets right, and the two-sided p-value."""

    first_only: int
    second_only: int
    p_value: float


def mcnemar(labels: np.ndarray, first: np.ndarray, second: np.ndarray) -> McNemar:
    """McNemar's mid-p test of two sets of predictions (N,) for the same rows.

    Given b + c rows on which exactly one system is right, b is binomial with one half if they are equally good. The
    observed outcome counts half, which is less conservative than the exact test and keeps the level in practice
    (Fagerland, Lydersen and Laake 2013). No such row at all gives p = 1.
    """
    labels, first, second = same_rows(labels, first, second)
    first_only = int(np.sum((first == labels) & (second != labels)))
    second_only = int(np.sum((first != labels) & (second == labels)))
    return McNemar(first_only, second_only, mcnemar_p_value(first_only, second_only))


def mcnemar_p_value(first_only: int, second_only: int) -> float:
    """The two-sided mid-p value from the two discordant counts."""
    n, k = first_only + second_only, min(first_only, second_only)
    if n == 0:
        return 1.0
    # 2 P(X <= k) - P(X = k), written as P(X <= k) + P(X < k).
    below = bdtr(k - 1, n, 0.5) if k else 0.0
    return float(min(1.0, bdtr(k, n, 0.5) + below))


def resampled_t(labels: np.ndarray, first: np.ndarray, second: np.ndarray, folds: np.ndarray) -> float:
    """The two-sided p-value of the corrected resampled t-test (Nadeau and Bengio 2003, equation 9).

    labels (N,); first, second: predictions out of folds, (R, N); folds: of each repeat the fold of every row, (R, N).
    The J differences in accuracy, one for each fold of each repeat, share their training rows, so that their mean
    varies by (1 / J + rows tested / rows trained on) of their variance and not by 1 / J. No difference at all gives
    p = 1, one that is the same in all folds 0.
    """
    from scipy import stats

    gain = (np.asarray(first) == labels).astype(float) - (np.asarray(second) == labels)
    differences = [
        of_repeat[numbers == fold].mean()
        for of_repeat, numbers in zip(gain, folds, strict=True)
        for fold in np.unique(numbers)
    ]
    count, mean, variance = len(differences), float(np.mean(differences)), float(np.var(differences, ddof=1))
    if variance == 0:
        return float(mean == 0)
    # Of K folds one is tested for K - 1 that are trained on.
    share = 1 / (count / len(folds) - 1)
    return float(2 * stats.t.sf(abs(mean) / ((1 / count + share) * variance) ** 0.5, count - 1))


def holm(p_values: Sequence[float]) -> np.ndarray:
    """Holm's step-down correction (Holm 1979): adjusted p-values (m,) in the order given, float64.

    The i-th smallest of m is multiplied by m - i + 1, and none may fall below a smaller one's; at most 1. Rejecting
    where the adjusted value is below alpha keeps the chance of any false rejection in the family below alpha.
    """
    family = np.asarray(p_values, dtype=np.float64)
    if family.ndim != 1 or not np.all((family >= 0) & (family <= 1)):
        raise ValueError("p-values are a vector of numbers from 0 to 1")
    order = np.argsort(family, kind="stable")
    steps = np.arange(len(family), 0, -1)
    adjusted = np.empty_like(family)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(family[order] * steps))
    return adjusted
