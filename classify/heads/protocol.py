"""What a head is to all who use one: a classifier as scikit-learn has them, of which no more is asked than stands here.

Not every head has all methods. Whoever wants `predict_proba(X)`, (N, K) in the order of `classes_`, or
`decision_function(X)`, (N, K), or (N,) with two classes, looks first (`hasattr`), as a search does for `fit_path` and
`predict_path`, and a search over folds for `votes_path` and `fold_decisions`.
"""

from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np


class Classifier(Protocol):
    """A head that can be fitted; what it learns stands in attributes that end in an underscore."""

    @property
    def classes_(self) -> np.ndarray:
        """The labels that it knows (K,)."""

    def predict(self, X: Any) -> np.ndarray:
        """The label of each row (N,)."""

    def fit(self, X: Any, y: Any) -> Self:
        """Fit on X (N, D) and labels y (N,)."""


@dataclass(frozen=True, eq=False)
class Fold:
    """One fold of one repeat: the rows to train on and those held out, int64 (n,), rising, and the numbers of the
    classes that the former have (k,)."""

    repeat: int
    training: np.ndarray
    held_out: np.ndarray
    classes: np.ndarray
