"""Head2Toe: one linear head on the features that matter, from all layers at once.

Left to others: reading the layers and joining them; `Head2Toe` takes their features side by side and their widths.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from classify.heads.estimator import FitError, HeadClassifier, Number, OneOf
from classify.heads.scaling import at_length_one
from features.errors import UserError
from features.rows import limit_rows, validation_split

FRACTIONS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)


@dataclass(eq=False, repr=False)
class Head2Toe(HeadClassifier):
    """Features of several layers, the relevant ones kept, a linear head on those.

    Evci, Dumoulin, Larochelle and Mozer, 'Head2Toe: utilizing intermediate representations for better transfer
    learning', ICML 2022, section 3: each layer's features of an image are brought to length 1; a softmax layer on all
    of them is fitted under a group lasso that sums the lengths of its rows, one row a feature; a feature's relevance
    is the length of its row; the top fraction is kept, chosen from a grid on validation; a linear head is fitted anew
    on what is kept. The paper's fractions are for hundreds of thousands of features; the grid here is for hundreds to
    thousands.

    Parameters
    ----------
    widths : the number of features of each layer, in the order in which they lie side by side; None is one layer.
    fractions : shares of all features to try; the smallest that is best on validation is taken.
    strength : the group lasso's weight, relative to the weight at which every row is zero; between 0 and 1.
    regularisation : inverse strength C of the final logistic regression, on standardised features.
    search_rows : relevance and fraction are found on at most this many rows (stratified); None takes all.
    max_steps : most steps of the group lasso and most iterations of the logistic regression.
    seed : of the validation split and of the rows searched.

    Attributes
    ----------
    classes_, n_features_in_ : as in scikit-learn.
    relevance_ : (D,) length of each feature's row.
    fraction_, kept_ : the share chosen, and the column numbers kept, most relevant first.
    kept_by_layer_ : how many of each layer's features were kept, in the order of `widths`.
    validation_accuracies_ : accuracy on validation of every fraction tried.
    converged_, steps_ : whether the group lasso came to rest, and after how many steps.
    head_ : the fitted final head (standardising, then logistic regression).
    """

    LEGAL = {
        "strength": (Number(0, 1),),
        "regularisation": (Number(0),),
        "search_rows": (OneOf((None,)), Number(1, closed=True, integer=True)),
        "max_steps": (Number(1, closed=True, integer=True),),
        "seed": (Number(0, closed=True, integer=True),),
    }
    widths: Sequence[int] | None = None
    fractions: Sequence[float] = FRACTIONS
    strength: float = 0.01
    regularisation: float = 1.0
    search_rows: int | None = 10_000
    max_steps: int = 500
    seed: int = 0

    def fit(
        self, X: Any, y: Any, validation_rows: np.ndarray | None = None, groups: np.ndarray | None = None
    ) -> "Head2Toe":
        """Select on all rows but `validation_rows`, choose the fraction on those, then fit the head on every row.

        X (N, D), labels y (N,). Without `validation_rows`, 10 % of the rows are drawn, stratified and seeded, in whole
        groups, codes (N,), where there are some and they can be cut so that every class is on both sides. Raises
        FitError for widths that do not add up to D, fractions or a strength out of range, a single class, and where a
        class has no second row to validate on.
        """
        features, codes = self._start(X, y)
        self._check_shares()
        rows = np.arange(len(codes))
        if validation_rows is None:
            counts = np.bincount(codes)
            if counts.min() < 2:
                raise FitError(
                    f"Head2Toe needs two rows of each class, one to select on and one to validate on, and class "
                    f"{self.classes_.tolist()[counts.argmin()]!r} has one; add rows, or give validation_rows"
                )
            try:
                train, validation = validation_split(codes, rows, self.seed, groups=groups)
            except UserError:
                train, validation = validation_split(codes, rows, self.seed)
        else:
            train, validation = np.setdiff1d(rows, validation_rows), np.asarray(validation_rows)
        train = train[limit_rows(codes[train], self.search_rows, self.seed)]
        normalised = self._normalise(features)
        searched = normalised[train]
        self.relevance_, self.steps_, self.converged_ = group_lasso_relevance(
            searched, codes[train], self.strength, self.max_steps
        )
        order = np.argsort(-self.relevance_, kind="stable")
        self.validation_accuracies_ = {}
        for fraction in sorted(self.fractions):
            kept = order[: self._count(fraction)]
            head = self._new_head().fit(searched[:, kept], codes[train])
            accuracy = float(np.mean(head.predict(normalised[validation][:, kept]) == codes[validation]))
            self.validation_accuracies_[fraction] = accuracy
        # The first of equals is the smallest, since the fractions were tried in rising order.
        self.fraction_ = max(self.validation_accuracies_, key=self.validation_accuracies_.__getitem__)
        self.kept_ = order[: self._count(self.fraction_)]
        self.kept_by_layer_ = tuple(
            int(np.count_nonzero((self.kept_ >= start) & (self.kept_ < stop))) for start, stop in self._layer_bounds()
        )
        self.head_ = self._new_head().fit(normalised[:, self.kept_], self.classes_[codes])
        return self

    def predict(self, X: Any) -> np.ndarray:
        """(N,) classes of features X (N, D)."""
        kept = self._kept_features(X)
        return self.head_.predict(kept)

    def predict_proba(self, X: Any) -> np.ndarray:
        """(N, C) probabilities, columns in the order of `classes_`."""
        kept = self._kept_features(X)
        return self.head_.predict_proba(kept)

    def decision_function(self, X: Any) -> np.ndarray:
        """What the logistic regression computes before its softmax: (N, C), or (N,) for two classes."""
        kept = self._kept_features(X)
        return self.head_.decision_function(kept)

    def _kept_features(self, X: Any) -> np.ndarray:
        # In float64 a row's scores do not depend on what stands beside it.
        return self._normalise(self._samples(X))[:, self.kept_].astype(np.float64)

    def _check_shares(self) -> None:
        widths = self.widths
        if widths is not None and (sum(widths) != self.n_features_in_ or min(widths) < 1):
            raise FitError(f"widths {tuple(widths)} must be positive and add up to the {self.n_features_in_} features")
        if not self.fractions or not all(0 < fraction <= 1 for fraction in self.fractions):
            raise FitError(f"fractions {tuple(self.fractions)} must be one or more shares above 0 and up to 1")
        if self.strength == 1:
            raise FitError("strength=1 leaves no feature; give a number between 0 and 1")

    def _layer_bounds(self) -> list[tuple[int, int]]:
        stops = np.cumsum(self.widths if self.widths is not None else [self.n_features_in_]).tolist()
        return list(zip([0, *stops[:-1]], stops, strict=True))

    def _normalise(self, features: np.ndarray) -> np.ndarray:
        normalised = np.empty_like(features)
        for start, stop in self._layer_bounds():
            layer = features[:, start:stop]
            normalised[:, start:stop] = at_length_one(layer, lambda rows: np.linalg.norm(rows, axis=1))
        return normalised

    def _count(self, fraction: float) -> int:
        return max(1, round(fraction * self.n_features_in_))

    def _new_head(self) -> Pipeline:
        return make_pipeline(
            StandardScaler(), LogisticRegression(C=self.regularisation, max_iter=self.max_steps, random_state=self.seed)
        )


def group_lasso_relevance(
    features: np.ndarray, codes: np.ndarray, strength: float, max_steps: int
) -> tuple[np.ndarray, int, bool]:
    """(D,) row lengths of a softmax layer under a group lasso, steps taken, and whether they came to rest.

    Minimises mean cross-entropy + weight * sum of row lengths (Evci et al. 2022, section 3; Yuan and Lin 2006) over
    (D, C) weights and a free intercept by accelerated proximal gradient with restarts (Beck and Teboulle 2009;
    O'Donoghue and Candes 2015). `weight` is `strength` times the smallest weight at which every row is zero. Features
    (N, D) are centred, which the intercept makes up for; codes (N,) count classes from 0.
    """
    centred = features - features.mean(axis=0)
    rows, columns = centred.shape
    targets = np.zeros((rows, codes.max() + 1), dtype=centred.dtype)
    targets[np.arange(rows), codes] = 1
    # A class may be missing from the rows searched; the floor keeps its intercept finite.
    intercept = np.log(np.maximum(targets.mean(axis=0), 0.5 / rows))
    weights = np.zeros((columns, targets.shape[1]), dtype=centred.dtype)

    def gradients(weights: np.ndarray, intercept: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        slopes = softmax(centred @ weights + intercept, axis=1) - targets
        return centred.T @ slopes / rows, slopes.mean(axis=0)

    first, _ = gradients(weights, intercept)
    penalty = strength * np.linalg.norm(first, axis=1).max()
    step = 1 / max(0.5 * _largest_square(centred) / rows, 0.5)
    ahead, ahead_intercept, momentum = weights, intercept, 1.0
    for number in range(1, max_steps + 1):
        slope, intercept_slope = gradients(ahead, ahead_intercept)
        moved = ahead - step * slope
        lengths = np.linalg.norm(moved, axis=1, keepdims=True)
        moved *= np.maximum(0, 1 - step * penalty / np.where(lengths > 0, lengths, 1))
        moved_intercept = ahead_intercept - step * intercept_slope
        change, intercept_change = moved - weights, moved_intercept - intercept
        if np.vdot(ahead - moved, change) > 0:
            momentum = 1.0
        following = (1 + np.sqrt(1 + 4 * momentum**2)) / 2
        ahead = moved + (momentum - 1) / following * change
        ahead_intercept = moved_intercept + (momentum - 1) / following * intercept_change
        weights, intercept, momentum = moved, moved_intercept, following
        if np.linalg.norm(change) <= 1e-4 * np.linalg.norm(weights):
            return np.linalg.norm(weights, axis=1), number, True
    return np.linalg.norm(weights, axis=1), max_steps, False


def _largest_square(centred: np.ndarray) -> float:
    """A little over the largest eigenvalue of X'X, by power iteration."""
    direction = np.random.default_rng(0).normal(size=(centred.shape[1],)).astype(centred.dtype)
    for _ in range(30):
        size = np.linalg.norm(direction)
        if size == 0:
            return 0.0
        direction = centred.T @ (centred @ (direction / size))
    return 1.1 * float(np.linalg.norm(direction))
