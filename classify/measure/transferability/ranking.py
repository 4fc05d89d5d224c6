"""How well a score ranks layers."""

from collections.abc import Sequence

import numpy as np
from scipy.stats import weightedtau


def weighted_tau(scores: Sequence[float], accuracies: Sequence[float]) -> float:
    """Weighted Kendall rank correlation of scores (L,) with accuracies (L,), from -1 to 1. Higher is better.

    Vigna, 'A weighted correlation index for rankings with ties', WWW 2015, with additive hyperbolic weights (a swap
    among the best weighs most), the mean of ranking by either side, as You et al. 2021 report it. NaN, since there is
    no ranking, for fewer than two layers, where either side is the same for all, and where one of the values is NaN.
    """
    score_values, accuracy_values = (np.asarray(side, dtype=np.float64) for side in (scores, accuracies))
    if score_values.shape != accuracy_values.shape or score_values.ndim != 1:
        raise ValueError(
            f"expected one score and one accuracy a layer, got {score_values.shape} and {accuracy_values.shape}"
        )
    sides = (score_values, accuracy_values)
    if len(score_values) < 2 or any(np.isnan(side).any() or (side == side[0]).all() for side in sides):
        return float("nan")
    # Rounding must not carry equal rankings beyond 1.
    return float(np.clip(weightedtau(*sides).statistic, -1.0, 1.0))
