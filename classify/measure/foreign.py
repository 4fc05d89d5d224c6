"""How foreign is an image? Scores from a model's outputs and from its features, and how well they tell images apart.

Every score is higher for what is more foreign. Each comes from a paper; none looks at foreign images to be set.
scikit-learn's parts are imported where they are used: all heads use one of the scores, and most of them no more of it.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp


def softmax_score(probabilities: np.ndarray) -> np.ndarray:
    """One minus the largest probability, (N,) (Hendrycks and Gimpel 2017)."""
    return 1 - probabilities.max(axis=1)


def energy_score(scores: np.ndarray) -> np.ndarray:
    """-log sum exp of the scores (N, K), at temperature 1 (Liu et al. 2020, equation 4)."""
    return -logsumexp(scores, axis=1)


@dataclass(frozen=True, eq=False)
class Mahalanobis:
    """The squared distance to the nearest class mean under one covariance (Lee et al. 2018, equation 2).

    means (K, D); whitening (D, D), with whitening @ whitening.T the inverse of the covariance, which is shrunk towards
    a multiple of the identity (Ledoit and Wolf 2004), since rows may be fewer than numbers.
    """

    means: np.ndarray
    whitening: np.ndarray

    @classmethod
    def fit(cls, features: np.ndarray, labels: np.ndarray) -> "Mahalanobis":
        """From the training rows (N, D), labels (N,)."""
        from sklearn.covariance import ledoit_wolf

        features = np.asarray(features, dtype=np.float64)
        classes, codes = np.unique(labels, return_inverse=True)
        means = np.stack([features[codes == code].mean(axis=0) for code in range(len(classes))])
        covariance, _ = ledoit_wolf(features - means[codes], assume_centered=True)
        values, vectors = np.linalg.eigh(covariance)
        # A feature that never varies has no scale of its own: it takes that of the least one that does.
        floor = max(values.max() * 1e-10, np.finfo(np.float64).tiny)
        return cls(means, vectors / np.sqrt(np.maximum(values, floor)))

    def score(self, features: np.ndarray) -> np.ndarray:
        """(N,)."""
        at, centres = np.asarray(features, dtype=np.float64) @ self.whitening, self.means @ self.whitening
        squares = (at**2).sum(1)[:, None] - 2 * at @ centres.T + (centres**2).sum(1)
        return np.maximum(squares.min(axis=1), 0)


@dataclass(frozen=True, eq=False)
class NearestNeighbours:
    """The distance to the k-th nearest training row, all rows scaled to length 1 (Sun et al. 2022)."""

    rows: np.ndarray
    k: int

    @classmethod
    def fit(cls, features: np.ndarray, k: int = 50) -> "NearestNeighbours":
        """From the training rows (N, D); of few rows k is at most a tenth."""
        return cls(_scaled(features), max(1, min(k, len(features) // 10)))

    def score(self, features: np.ndarray) -> np.ndarray:
        """(N,), from 0 to 2."""
        from sklearn.neighbors import NearestNeighbors

        neighbours = NearestNeighbors(n_neighbors=self.k, algorithm="brute").fit(self.rows)
        return neighbours.kneighbors(_scaled(features))[0][:, -1].astype(np.float64)


@dataclass(frozen=True)
class Separation:
    """How well a score tells foreign images from the model's own.

    auroc: the chance that a foreign image scores higher than one of the own, ties counted half. false_positives: the
    share of foreign images taken for own ones where the threshold lets 95 % of the own ones pass.
    """

    auroc: float
    false_positives: float


def separation(own: np.ndarray, foreign: np.ndarray, passing: float = 0.95) -> Separation:
    """From the scores of own (N,) and of foreign images (M,)."""
    from sklearn.metrics import roc_auc_score

    truth = np.concatenate([np.zeros(len(own)), np.ones(len(foreign))])
    auroc = float(roc_auc_score(truth, np.concatenate([own, foreign])))
    threshold = np.quantile(own, passing, method="higher")
    return Separation(auroc, float(np.mean(foreign <= threshold)))


def _scaled(features: np.ndarray) -> np.ndarray:
    features = np.asarray(features, dtype=np.float32)
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), np.finfo(np.float32).tiny)
