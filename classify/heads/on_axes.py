"""Features of any width brought to one common width, so that layers can be compared number for number.

A reduction is worked out on training rows alone and applied to all others as it is.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from scipy.linalg import eigh

from classify.heads.around import Around
from features.blocks import rows_of_views

BLOCK_VALUES = 1 << 24  # 64 MiB of float32 a block


@dataclass(frozen=True)
class Reduction:
    """How to bring (N, D) features to (N, width): by the training rows' principal axes, or by a random projection.

    kind: 'pca' or 'projection'. seed: of the projection; principal axes draw nothing. Features that are narrower
    already keep their width. views: of each row, which are (N, views * D) then, each of which is a row to the axes.
    """

    kind: str
    width: int
    seed: int = 0
    views: int = 1

    def fit(self, features: np.ndarray) -> "Axes":
        """The axes for these training rows (N, D)."""
        features = rows_of_views(features, features.shape[1] // self.views, self.views)
        columns = features.shape[1]
        width = min(self.width, columns)
        if self.kind == "projection":
            random = np.random.default_rng([self.seed, columns, width])
            axes = random.standard_normal((columns, width), dtype=np.float32) / np.float32(np.sqrt(width))
            return Axes(np.zeros(columns, np.float32), axes)
        sums = (features[rows].sum(axis=0, dtype=np.float64) for rows in _blocks(features))
        total: np.ndarray = sum(sums, np.zeros(columns))
        mean = (total / len(features)).astype(np.float32)
        return Axes(mean, _principal_axes(features, mean, width))


@dataclass(frozen=True, eq=False)
class Axes:
    """(x - mean) @ axes, mean float32 (D,), axes float32 (D, width)."""

    kept_in_files: ClassVar[bool] = True
    mean: np.ndarray
    axes: np.ndarray

    def apply(self, features: np.ndarray) -> np.ndarray:
        """(N, width) float32 of (N, D), a block at a time; of several views (N, V * D) all of them (N, V * width)."""
        if (views := features.shape[1] // len(self.mean)) > 1:
            return self.apply(rows_of_views(features, len(self.mean), views)).reshape(len(features), -1)
        reduced = np.empty((len(features), self.axes.shape[1]), np.float32)
        axes = self.axes.astype(np.float64)
        for rows in _blocks(features):
            # In float64, whatever rows stand beside one: what it is rounded to does not depend on them.
            reduced[rows] = (features[rows] - self.mean).astype(np.float64) @ axes
        return reduced


@dataclass(frozen=True, eq=False)
class OnAxes(Around):
    """A fitted head with the axes that its features are brought to: it takes them at their full width (N, D)."""

    axes: Axes
    head: Any

    @property
    def n_features_in_(self) -> int:
        return len(self.axes.mean)

    def given(self, features: np.ndarray) -> np.ndarray:
        return self.axes.apply(features)


def _principal_axes(features: np.ndarray, mean: np.ndarray, width: int) -> np.ndarray:
    """The eigenvectors of the largest `width` eigenvalues of the covariance, as columns, largest first.

    An axis along which the rows do not vary is zero: heads standardise what they get, and would blow up its rounding.
    """
    columns = features.shape[1]
    covariance = np.zeros((columns, columns), np.float32)
    for rows in _blocks(features):
        block = features[rows] - mean
        covariance += block.T @ block
    values, axes = eigh(covariance, subset_by_index=[columns - width, columns - 1], check_finite=False)
    values, axes = values[::-1], axes[:, ::-1]
    flat = values <= columns * np.finfo(np.float32).eps * max(float(values[0]), 0.0)
    axes = np.where(flat, 0, axes)
    # An eigenvector's sign is arbitrary: the largest entry is made positive, so that any library gives the same.
    signs = np.sign(np.take_along_axis(axes, np.abs(axes).argmax(axis=0)[None], axis=0))
    return np.ascontiguousarray(axes * np.where(signs == 0, 1, signs), dtype=np.float32)


def _blocks(features: np.ndarray) -> Iterator[slice]:
    step = max(1, BLOCK_VALUES // features.shape[1])
    return (slice(start, start + step) for start in range(0, len(features), step))
