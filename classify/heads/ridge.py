"""Least squares on +-1 targets: all penalties from one eigendecomposition.

The same solution as scikit-learn's RidgeClassifier on standardised features, in float64. With more features than rows
it is solved in the space of the rows.
"""

from collections.abc import Iterator, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Self

import numpy as np

from classify.heads.closed_form import ClosedForm
from classify.heads.estimator import JOBS, Number, threads
from classify.heads.on_device import DEVICE
from classify.heads.scaling import Moments


@dataclass(eq=False, repr=False)
class Ridge(ClosedForm):
    """Minimises sum of weight * (target - score)^2 + alpha * |coefficients|^2, the intercept not penalised.

    alpha: penalty over standardised features. class_weight: None, 'balanced' or a dict. jobs: threads. device: a GPU
    for the products. It has scores and no probabilities.
    """

    LEGAL = {"alpha": (Number(0),), "jobs": JOBS, "device": DEVICE}
    alpha: float = 100.0
    _: KW_ONLY
    class_weight: str | dict | None = None
    jobs: int | None = None
    device: str | None = None

    def _solved(self, seen: Moments, shares: np.ndarray, heads: Sequence[Self]) -> Iterator[Self]:
        with threads(self.jobs):
            total = seen.counts.sum()
            centre = seen.sums.sum(axis=0) / total
            means = (2 * seen.counts - total) / total
            values, vectors = np.linalg.eigh(seen.squares - total * np.outer(centre, centre))
            # Z' W Y for targets -1 and +1 is twice a class's sum less the sum of all; then both are centred.
            products = (2 * seen.sums - seen.sums.sum(axis=0)).T - total * np.outer(centre, means)
            turned = vectors.T @ products
        for head in heads:
            head._start_like(self)
            with threads(self.jobs):
                weights = vectors @ (turned / (np.maximum(values, 0) + head.alpha)[:, None])
                # With two classes the two columns are each other's negative: their half difference is the one plane.
                scaled = weights / 2 if len(self.classes_) == 2 else weights
                intercept = (means - centre @ weights) / (2 if len(self.classes_) == 2 else 1)
                head._set_plane(seen.back(scaled), intercept, seen.scale)
            yield head
