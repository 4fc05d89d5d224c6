"""How well a score ranks layers."""

from collections.abc import Sequence

import numpy as np
from scipy.stats import weightedtau


def weighted_tau(scores: Sequence[float], accuracies: Sequence[float]) -> float:
    """Weighted Kendall rank correlation of scores (L,) with accuracies (L,), from -1 to 1. Higher is better.

    Vigna, 'A weighted correlation index for rankings with ties', WWW 2015, with additive hyperbolic weights (a swap
    among the best weighs most), the mean of ranking by either side, as You et al. 2021 report it. NaN, since there is
    no ranking, for fewer than two layers or where either side is the same for all.
    """
    ours, theirs = (np.asarray(side, dtype=np.float64) for side in (scores, accuracies))
    if ours.shape != theirs.shape or ours.ndim != 1:
        raise ValueError(f"expected one score and one accuracy a layer, got {ours.shape} and {theirs.shape}")
    if len(ours) < 2 or np.ptp(ours) == 0 or np.ptp(theirs) == 0:
        return float("nan")
    return float(weightedtau(ours, theirs).statistic)
