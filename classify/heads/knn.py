"""k nearest neighbours, exact, by matrix products in blocks; one pass serves every k of a search.

The nearest are found without sorting a whole row of distances: the row is cut into groups, the k groups with the
smallest minima must hold the k nearest, and only their members are looked at again.
"""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import KW_ONLY, dataclass, field
from typing import Any

import numpy as np
from sklearn.base import clone

from classify.heads.estimator import JOBS, HeadClassifier, Number, OneOf, class_shares, threads
from classify.heads.on_device import DEVICE, DeviceRows, is_there
from classify.heads.scaling import FAR, Standardiser, at_length_one

LEAST_SHARE = 0.01  # that a calibrated probability takes a class without any vote to have
DISTANCES = 24_000_000  # kept in memory at once, float32
GROUP = 64  # rows of the training set whose smallest distance stands for them


@dataclass(eq=False, repr=False)
class KNN(HeadClassifier):
    """The class with most of the k nearest training rows; among equals the first of `classes_`, as in scikit-learn.

    k: neighbours; all rows where there are fewer. metric: 'euclidean' on standardised features, or 'cosine' of the
    features as they are. class_weight: scales each neighbour's vote. jobs: threads. device: a GPU that finds the
    nearest among float32 features. Probabilities are shares of the votes. Keeps a copy of the training features, in
    their own precision.
    """

    LEGAL = {
        "k": (Number(1, closed=True, integer=True),),
        "metric": (OneOf(("euclidean", "cosine")),),
        "jobs": JOBS,
        "device": DEVICE,
    }
    k: int = 5
    _: KW_ONLY
    metric: str = "cosine"
    class_weight: str | dict | None = None
    jobs: int | None = None
    device: str | None = None  # the class has it for heads that were saved before there was one
    # Of heads that were saved before they had them.
    twins_: tuple[np.ndarray, np.ndarray] = field(default=(np.empty(0, np.int64), np.empty(0, np.int64)), init=False)

    def fit(self, X: Any, y: Any) -> "KNN":
        """Keep X (N, D) and labels y (N,); raises FitError for an argument that is not legal."""
        X, self.codes_ = self._start(X, y)
        self.shares_ = class_shares(self.class_weight, self.classes_, self.codes_)
        self.scale_ = Standardiser.fit(X) if self.metric == "euclidean" else None
        self.rows_ = self._coordinates(X)
        self.lengths_ = np.einsum("nd,nd->n", self.rows_, self.rows_)
        self.twins_ = _twins(self.rows_)
        return self

    def predict_path(self, X: Any, y: Any, queries: Any, candidates: Iterable[dict]) -> Iterator[np.ndarray]:
        """For each candidate the labels predicted for `queries`, as fit and predict would; distances are shared."""
        classes = np.unique(y)
        return (classes[votes.argmax(axis=1)] for votes in self.votes_path(X, y, queries, candidates))

    def votes_path(self, X: Any, y: Any, queries: Any, candidates: Iterable[dict]) -> Iterator[np.ndarray]:
        """For each candidate the votes of the neighbours of `queries` for each class, float64 (n, K)."""
        heads = [clone(self).set_params(**params) for params in candidates]
        most = {metric: max(head.k for head in heads if head.metric == metric) for metric in {h.metric for h in heads}}
        seen: dict[str, tuple[KNN, np.ndarray]] = {}
        for head in heads:
            head._check_arguments()
            if head.metric not in seen:
                fitted = clone(head).set_params(k=most[head.metric]).fit(X, y)
                seen[head.metric] = fitted, fitted.neighbours(queries)
            fitted, nearest = seen[head.metric]
            yield fitted._votes(nearest[:, : head.k])

    def neighbours(self, X: Any) -> np.ndarray:
        """The numbers of the k nearest training rows of each row, nearest first, int64 (N, k)."""
        X = self._samples(X)
        queries = self._coordinates(X).astype(self.rows_.dtype, copy=False)
        k = min(self.k, len(self.rows_))
        size = max(1, DISTANCES // len(self.rows_))
        in_float32 = self.rows_.dtype == np.float32
        on_device = DeviceRows(self.rows_, self.device) if in_float32 and is_there(self.device) else None
        with threads(self.jobs):
            return np.concatenate(
                [self._nearest(queries[start : start + size], k, on_device) for start in range(0, len(queries), size)]
            )

    def predict_proba(self, X: Any) -> np.ndarray:
        """Shares of the votes, float64 (N, K)."""
        votes = self._votes(self.neighbours(X))
        return votes / votes.sum(axis=1, keepdims=True)

    def predict(self, X: Any) -> np.ndarray:
        """The class with most votes for each row."""
        nearest = self.neighbours(X)
        return self.classes_[self._votes(nearest).argmax(axis=1)]

    def logits(self, scores: np.ndarray) -> np.ndarray:
        """Of logarithms of shares (N, K), with something for classes without a vote: no k neighbours rule one out."""
        return np.maximum(scores, np.log(LEAST_SHARE))

    def _coordinates(self, X: np.ndarray) -> np.ndarray:
        if self.scale_ is not None:
            Z = np.asarray(self.scale_.apply_exactly(X))
            # So far away the order of the neighbours no longer changes, and squares are still numbers.
            return np.clip(Z, -FAR, FAR, out=Z)
        X = np.ascontiguousarray(X)
        return at_length_one(X, lambda rows: np.sqrt(np.einsum("nd,nd->n", rows, rows)))

    def _nearest(self, queries: np.ndarray, k: int, on_device: DeviceRows | None) -> np.ndarray:
        if on_device is not None:
            members, distances = on_device.nearest(queries, self.lengths_, k)
            return np.take_along_axis(members, np.lexsort((members, distances), axis=1), axis=1)
        # |a - b|^2 without the query's own length, which does not change the order.
        distances = queries @ self.rows_.T
        distances *= -2
        distances += self.lengths_
        # A product rounds equal rows in unequal ways, by their place.
        later, first = self.twins_
        distances[:, later] = distances[:, first]
        every = distances
        groups = len(self.rows_) // GROUP
        if groups > 2 * k:
            whole = groups * GROUP
            minima = distances[:, :whole].reshape(len(queries), GROUP, groups).min(axis=1)
            best = np.argpartition(minima, k - 1, axis=1)[:, :k]
            members = (best[:, :, None] + groups * np.arange(GROUP)).reshape(len(queries), -1)
            rest = np.broadcast_to(np.arange(whole, len(self.rows_)), (len(queries), len(self.rows_) - whole))
            members = np.concatenate([members, rest], axis=1)
            distances = np.take_along_axis(distances, members, axis=1)
        else:
            members = np.broadcast_to(np.arange(len(self.rows_)), distances.shape)
        chosen = np.argpartition(distances, k - 1, axis=1)[:, :k]
        members = np.take_along_axis(members, chosen, axis=1)
        distances = np.take_along_axis(distances, chosen, axis=1)
        order = np.lexsort((members, distances), axis=1)
        nearest = np.take_along_axis(members, order, axis=1)
        if len(later):
            # Of rows as near as the last of the k, the first ones count.
            farthest = distances.max(axis=1, keepdims=True)
            for query in np.flatnonzero((every <= farthest).sum(axis=1) > k):
                as_near = np.flatnonzero(every[query] <= farthest[query])
                nearest[query] = as_near[np.argsort(every[query, as_near], kind="stable")[:k]]
        return nearest

    def _votes(self, nearest: np.ndarray) -> np.ndarray:
        codes = self.codes_[nearest]
        votes = np.zeros((len(codes), len(self.classes_)))
        rows = np.arange(len(codes))
        for column in range(codes.shape[1]):
            votes[rows, codes[:, column]] += self.shares_[codes[:, column]]
        return votes


def _twins(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The numbers of the rows that stand earlier as well, and where they stand first: int64 (M,) and (M,)."""
    first: dict[bytes, int] = {}
    places = [first.setdefault(hashlib.sha256(row.tobytes()).digest(), number) for number, row in enumerate(rows)]
    origin = np.array(places, dtype=np.int64)
    later = np.flatnonzero(origin != np.arange(len(rows)))
    return later, origin[later]
