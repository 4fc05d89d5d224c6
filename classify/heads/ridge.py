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

TOGETHER = 4_000_000  # numbers of the planes that are worked out at once


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
            values, vectors = _eigen(seen.squares - total * np.outer(centre, centre))
            # Z' W Y for targets -1 and +1 is twice a class's sum less the sum of all; then both are centred.
            products = (2 * seen.sums - seen.sums.sum(axis=0)).T - total * np.outer(centre, means)
            turned = vectors.T @ products
        two = len(self.classes_) == 2
        together = max(1, TOGETHER // (len(seen.scale.mean) * turned.shape[1]))
        for start in range(0, len(heads), together):
            some = heads[start : start + together]
            with threads(self.jobs):
                weights = [vectors @ (turned / (np.maximum(values, 0) + head.alpha)[:, None]) for head in some]
                # With two classes the two columns are each other's negative: their half difference is the one plane.
                planes = np.split(seen.back(np.concatenate(weights, axis=1) / (2 if two else 1)), len(some), axis=1)
            for head, plane, own in zip(some, planes, weights, strict=True):
                head._start_like(self)
                head._set_plane(plane, (means - centre @ own) / (2 if two else 1), seen.scale)
                yield head


def _eigen(squares: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues (D,) and eigenvectors (D, D) of a symmetric matrix; in the space that rows span these values are its
    diagonal, but for rounding."""
    values = squares.diagonal().copy()
    rounding = len(values) * np.finfo(np.float64).eps * np.abs(values).max(initial=0)
    if np.abs(squares - np.diag(values)).max(initial=0) <= rounding:
        return values, np.eye(len(values))
    values, vectors = np.linalg.eigh(squares)
    return values, vectors
