"""Which images are unlike those that a head was trained on: what is further from them than they are from each other.

The distance is to the k-th nearest training image, as `classify.measure.foreign.NearestNeighbours` has it (Sun et al.
2022). On MNIST, clothes, and ants and bees it told 68 to 100 % of foreign images at 1 % of false alarms on `avgpool`
(of clothes on `layer3` 19 %); Mahalanobis' distance (Lee et al. 2018) told 0 to 91 % beside few training images.
Photos whose colours are inverted still look like photos to these features: 1 % of clothes and 5 % of insects are told,
and Euclidean, standardised and Mahalanobis' distances on four layers tell 25 % at most at as few false alarms.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np

from classify.heads.around import Around
from classify.heads.estimator import row_blocks
from classify.measure.foreign import NearestNeighbours
from features.rows import limit_rows

NEIGHBOURS = 5
MOST_ROWS = 2000
MOST_COLUMNS = 4096  # of wider features so many, drawn once
MOST_NUMBERS = 1_000_000  # in all, 2 MB
PASSING = 0.99  # of the training images' own distances are within the limit
_LEAST_LIMIT = 1e-3  # what float16 can tell from nothing


@dataclass(frozen=True, eq=False)
class Familiar:
    """Some training rows at length 1, float16 (n, d), of the columns (d,) or all; the neighbour k that counts; and the
    distance to it within which 99 % of the training images are."""

    kept_in_files: ClassVar[bool] = True
    rows: np.ndarray
    columns: np.ndarray | None
    k: int
    limit: float

    @classmethod
    def fit(cls, features: Any, labels: np.ndarray, seed: int = 0, views: int = 1) -> Self:
        """From training rows (N, D), an array or `Blocks`, and labels (N,). views: of each row, (N, views * D), of
        which the first counts.

        The limit comes from rows that are not among those kept or, where these are fewer, from the kept ones, each
        without itself: within all rows every one is its own neighbour, and each new image would look foreign.
        """
        width = features.shape[1] // views
        columns = None
        if width > MOST_COLUMNS:
            columns = np.sort(np.random.default_rng([seed, width]).choice(width, MOST_COLUMNS, replace=False))
        kept = limit_rows(labels, min(MOST_ROWS, MOST_NUMBERS // min(width, MOST_COLUMNS)), seed)
        others = np.setdiff1d(np.arange(len(labels)), kept)

        def some(rows: np.ndarray) -> np.ndarray:
            return _columns(features.take(rows, axis=0)[:], columns, width)

        nearest = NearestNeighbours.fit(some(kept), NEIGHBOURS)
        rows = nearest.rows.astype(np.float16)
        by_themselves = len(others) < len(kept)
        own = some(kept) if by_themselves else some(others[limit_rows(labels[others], MOST_ROWS, seed)])
        counted = NearestNeighbours(rows.astype(np.float32), min(nearest.k + by_themselves, len(rows)))
        limit = float(np.quantile(counted.score(own), PASSING, method="higher"))
        return cls(rows, columns, nearest.k, max(limit, _LEAST_LIMIT))

    def distance(self, features: Any) -> np.ndarray:
        """Of rows (N, D), in units of the limit, float64 (N,): what is above 1 is unlike the training images."""
        nearest = NearestNeighbours(self.rows.astype(np.float32), self.k)
        width = self.rows.shape[1]
        blocks = (
            nearest.score(_columns(np.asarray(features[rows]), self.columns, width))
            for rows in row_blocks(len(features))
        )
        return np.concatenate(list(blocks)) / self.limit


@dataclass(frozen=True, eq=False)
class Guarded(Around):
    """A fitted head that knows which images are unlike those it was trained on."""

    head: Any
    familiar: Familiar

    def distance(self, features: Any) -> np.ndarray:
        """How far rows (N, D) are from the training images, float64 (N,): above 1 they are unlike them."""
        return self.familiar.distance(features)


def _columns(features: np.ndarray, columns: np.ndarray | None, width: int) -> np.ndarray:
    """The columns chosen, or the first `width`: behind these stand other views."""
    return features[:, slice(width) if columns is None else columns]
