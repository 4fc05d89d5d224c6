"""Linear discriminant analysis: a Gaussian per class, one covariance; all shrinkages from one factorisation."""

from collections.abc import Iterator, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Self

import numpy as np

from classify.heads.closed_form import ClosedForm
from classify.heads.estimator import JOBS, Number, ProbabilityMixin, threads
from classify.heads.scaling import Moments


@dataclass(eq=False, repr=False)
class LDA(ClosedForm, ProbabilityMixin):
    """Class means with the within-class covariance S of the standardised features, shrunk to (1 - s) S + s * v * I.

    shrinkage: s, from 0 (singular where features repeat; the pseudo-inverse is taken) to 1 (nearest mean); v is the
    mean variance within classes. class_weight: scales how often each class is expected. jobs: threads.
    """

    LEGAL = {"shrinkage": (Number(0, 1, closed=True),), "jobs": JOBS}
    shrinkage: float = 0.01
    _: KW_ONLY
    class_weight: str | dict | None = None
    jobs: int | None = None

    def _of_rows(self, shares: np.ndarray) -> np.ndarray:
        # They say how often each class is expected, not how much its rows tell of the covariance.
        return np.ones(len(shares))

    def _solved(self, seen: Moments, shares: np.ndarray, heads: Sequence[Self]) -> Iterator[Self]:
        with threads(self.jobs):
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
