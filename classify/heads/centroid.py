"""Nearest class mean on standardised features."""

from typing import Any

import numpy as np

from classify.heads.estimator import JOBS, LinearHead, row_blocks, threads
from classify.heads.scaling import Standardiser, class_sums


class Centroid(LinearHead):
    """Scores are minus half the squared Euclidean distance to each class's mean, up to a term that all classes share.

    jobs: threads. Classes have no weights here: a mean does not depend on how many rows it is taken over. Rows may.
    """

    LEGAL = {"jobs": JOBS}

    def __init__(self, *, jobs: int | None = None):
        self.jobs = jobs

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> "Centroid":
        """Fit on X (N, D) and labels y (N,), each row counting as often as its sample weight (N,) says; raises FitError
        for an argument that is not legal."""
        X, codes, row_weights = self._start_weighted(X, y, sample_weight)
        scale = Standardiser.fit(X, row_weights)
        with threads(self.jobs):
            sums = np.zeros((len(self.classes_), X.shape[1]))
            for rows in row_blocks(len(X)):
                block = (X[rows] - scale.mean) * scale.factor
                weights = 1.0 if row_weights is None else row_weights[rows]
                sums += class_sums(block, codes[rows], len(sums), weights)
            means = sums / np.bincount(codes, row_weights)[:, None]
            self._set_plane(means.T, -0.5 * np.einsum("kd,kd->k", means, means), scale)
        return self
