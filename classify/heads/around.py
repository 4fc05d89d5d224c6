"""Fitted heads with something around them, such as axes that features are brought to; still heads to all users."""

from typing import Any, ClassVar

import numpy as np
from sklearn.utils.metaestimators import available_if


def where_the_head_has(method: str) -> Any:
    """A decorator of methods that are there where the head has one of this name."""
    return available_if(lambda around: hasattr(around.head, method))


class Around:
    """The base of what stands around a fitted head, `head`: it has the methods that the head has."""

    kept_in_files: ClassVar[bool] = True
    head: Any

    @property
    def classes_(self) -> np.ndarray:
        """The head's classes."""
        return self.head.classes_

    @property
    def n_features_in_(self) -> int:
        """How many numbers it takes for an image."""
        return self.head.n_features_in_

    def given(self, features: Any) -> Any:
        """What the head is given for features (N, D)."""
        return features

    def predict(self, features: Any) -> np.ndarray:
        """(N,) labels."""
        return self.head.predict(self.given(features))

    @where_the_head_has("predict_proba")
    def predict_proba(self, features: Any) -> np.ndarray:
        """(N, C) probabilities."""
        return self.head.predict_proba(self.given(features))

    @where_the_head_has("decision_function")
    def decision_function(self, features: Any) -> np.ndarray:
        """(N, C) scores, or (N,) for two classes."""
        return self.head.decision_function(self.given(features))


def plain_head(head: Any) -> Any:
    """A head without anything around it."""
    while isinstance(head, Around):
        head = head.head
    return head
