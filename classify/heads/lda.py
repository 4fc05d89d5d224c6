"""Linear discriminant analysis: a Gaussian per class, one covariance; all shrinkages from one factorisation."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from sklearn.base import clone

from classify.heads.estimator import JOBS, Number, ProbabilityMixin, class_shares, threads
from classify.heads.scaling import moments


class LDA(ProbabilityMixin):
    """Class means with the within-class covariance S of the standardised features, shrunk to (1 - s) S + s * v * I.

    shrinkage: s, from 0 (singular where features repeat; the pseudo-inverse is taken) to 1 (nearest mean); v is the
    mean variance within classes. class_weight: scales how often each class is expected. jobs: threads.
    """

    LEGAL = {"shrinkage": (Number(0, 1, closed=True),), "jobs": JOBS}

    def __init__(self, shrinkage: float = 0.01, *, class_weight: str | dict | None = None, jobs: int | None = None):
        self.shrinkage = shrinkage
        self.class_weight = class_weight
        self.jobs = jobs

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> "LDA":
        """Fit on X (N, D) and labels y (N,), each row counting as often as its sample weight (N,) says; raises FitError
        for an argument that is not legal."""
        return next(self._path(X, y, [self], sample_weight))

    def fit_path(self, X: Any, y: Any, candidates: Iterable[dict]) -> Iterator["LDA"]:
        """A fitted copy for each candidate's shrinkage; the eigendecomposition is done once."""
        return self._path(X, y, [clone(self).set_params(**params) for params in candidates])

    def _path(self, X: Any, y: Any, heads: list["LDA"], sample_weight: Any = None) -> Iterator["LDA"]:
        X, codes, row_weights = self._start_weighted(X, y, sample_weight)
        shares = class_shares(self.class_weight, self.classes_, codes, row_weights)
        with threads(self.jobs):
            seen = moments(X, codes, np.ones(len(shares)), row_weights)
            means = seen.sums / seen.counts[:, None]
            within = (seen.squares - means.T @ seen.sums) / seen.counts.sum()
            values, vectors = np.linalg.eigh(within)
            values = np.maximum(values, 0)
            turned = vectors.T @ means.T
        varies = np.count_nonzero(seen.scale.factor)
        spread = values.sum() / max(varies, 1)
        priors = shares * seen.counts
        priors = np.log(priors / priors.sum())
        for head in heads:
            head._start_like(self)
            shrunk = (1 - head.shrinkage) * values + head.shrinkage * spread
            # Classes without any spread would divide by nothing: floor at what the features' unit variance can resolve.
            # Fewer constant features than rows leave no direction at all.
            floor = max(shrunk.max(initial=0) * 1e-10, 1e-12)
            inverse = np.divide(1.0, shrunk, out=np.zeros_like(shrunk), where=shrunk > floor)
            if not inverse.any():
                inverse[:] = 1.0
            weights = vectors @ (turned * inverse[:, None])
            intercept = priors - 0.5 * np.einsum("kd,dk->k", means, weights)
            with threads(self.jobs):
                head._set_plane(seen.back(weights), intercept, seen.scale)
            yield head
