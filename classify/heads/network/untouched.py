"""The source network as it is: its own 1000 classes, read as labels in three ways, and its accuracy on ImageNet.

Everything here works on the output of the source classifier, (N, Z) logits: the layer `fc` in the cache.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.special import softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted
from torchvision import models

from classify.heads.estimator import FitError
from features.backbones import Backbone
from features.backbones.torchvision import preset_of_entry
from features.errors import UserError

READINGS = ("own", "first", "matched")
_IMAGENET_VALIDATION_IMAGES = 50_000


class UntouchedClassifier(ClassifierMixin, BaseEstimator):
    """An argmax over the source network's outputs (N, Z) as a scikit-learn style classifier.

    reading: 'own' takes the source class's number for the label, which is what happens if one just runs the network
    (`classes_` are then 0 .. Z-1); 'first' looks at as many source classes as the data set has; 'matched' looks at one
    source class for each label (`source_classes_`): of all one-to-one maps the one under which the likeliest of all
    source classes is right on most training images. Both say a label for every image, since others are not looked at.
    """

    kept_in_files: ClassVar[bool] = True
    decides_by_logits: ClassVar[bool] = True
    classes_: np.ndarray
    source_classes_: np.ndarray
    n_features_in_: int

    def __init__(self, reading: str = "matched") -> None:
        self.reading = reading

    def fit(self, X: Any, y: Any) -> "UntouchedClassifier":
        """X: logits (N, Z); y: labels (N,). Nothing is trained; 'matched' learns its map. Raises FitError."""
        if self.reading not in READINGS:
            raise FitError(f"reading={self.reading!r} is not legal; give one of {', '.join(READINGS)}")
        X, y = _logits(X), np.asarray(y)
        if len(X) != len(y):
            raise FitError(f"{len(X)} rows came with {len(y)} labels; give one label for each")
        self.n_features_in_ = X.shape[1]
        labels = np.unique(y)
        if self.reading == "own":
            self.classes_ = self.source_classes_ = np.arange(X.shape[1])
            return self
        self.classes_ = labels
        require_enough_classes(X.shape[1], len(labels))
        matched = self.reading == "matched"
        self.source_classes_ = best_map(X.argmax(axis=1), y, X.shape[1])[1] if matched else np.arange(len(labels))
        return self

    def decision_function(self, X: Any) -> np.ndarray:
        """The logits of the source classes that stand for the labels, (N, K)."""
        check_is_fitted(self)
        X = _logits(X)
        if X.shape[1] != self.n_features_in_:
            raise FitError(f"{X.shape[1]} source classes were given, and {self.n_features_in_} in fit")
        return X[:, self.source_classes_]

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities (N, K) among the source classes that stand for the labels."""
        return softmax(self.decision_function(X).astype(np.float64), axis=1)

    def predict(self, X: Any) -> np.ndarray:
        """The label that the likeliest of them stands for."""
        return self.classes_[self.decision_function(X).argmax(axis=1)]


def best_map(predicted: np.ndarray, labels: np.ndarray, source_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """(labels that occur, source class of each): the one-to-one map under which most rows are right.

    predicted: the likeliest source class of each row (N,). An optimal assignment on the table of counts; a label that
    no source class is left for by the counts takes any that is free.
    """
    names, codes = np.unique(labels, return_inverse=True)
    counts = np.zeros((len(names), source_classes), dtype=np.int64)
    np.add.at(counts, (codes, predicted), 1)
    rows, columns = linear_sum_assignment(counts, maximize=True)
    return names[rows], columns


def top_k_accuracy(logits: np.ndarray, labels: np.ndarray, k: int) -> float:
    """The share of rows whose label is among the k likeliest of (N, Z) source classes."""
    logits, labels = _logits(logits), np.asarray(labels)
    own = np.take_along_axis(logits, labels[:, None], axis=1)
    # Ties count against: a network that says the same for every class knows nothing.
    return float(((logits >= own).sum(axis=1) <= k).mean())


def published_accuracy(backbone: Backbone, images: int) -> tuple[float, float] | None:
    """torchvision's published (top-1, top-5), as fractions; None for other weights, another set of images, and images
    that are prepared otherwise than for that figure."""
    if images != _IMAGENET_VALIDATION_IMAGES or backbone.weights_path is None:
        return None
    if backbone.name not in models.list_models(module=models):
        return None
    for entry in models.get_model_weights(backbone.name):
        if entry.name == backbone.weights_name and entry.url.endswith(f"/{backbone.weights_path.name}"):
            if backbone.preprocessing != preset_of_entry(entry):
                return None
            metrics = entry.meta["_metrics"]["ImageNet-1K"]
            return metrics["acc@1"] / 100, metrics["acc@5"] / 100
    return None


def seen_as(
    logits: np.ndarray, labels: np.ndarray, categories: Sequence[str], top: int = 3
) -> dict[Any, tuple[tuple[str, float], ...]]:
    """For each label, the source classes that its images are most often taken for, with their shares."""
    predicted, labels = _logits(logits).argmax(axis=1), np.asarray(labels)
    seen = {}
    for label in np.unique(labels):
        classes, counts = np.unique(predicted[labels == label], return_counts=True)
        order = np.argsort(-counts, kind="stable")[:top]
        names = [categories[code] if len(categories) else f"class {code}" for code in classes[order]]
        shares = counts[order] / counts.sum()
        seen[label.item()] = tuple(zip(names, shares.tolist(), strict=True))
    return seen


def require_enough_classes(source_classes: int, labels: int) -> None:
    """Raise FitError where a network has fewer classes than there are labels: each reading but 'own' gives each one."""
    if labels > source_classes:
        raise FitError(f"{labels} labels cannot be told apart by {source_classes} source classes; train a head")


def require_source_head(backbone: Backbone) -> None:
    """Raise UserError where the weights came without a classifier."""
    if backbone.headless:
        raise UserError(
            f"--model untouched asks what the network itself says, and {backbone.weights_name} came without a "
            "classifier; take weights with one, or train a head"
        )


def _logits(X: Any) -> np.ndarray:
    X = np.asarray(X)
    if X.ndim != 2 or X.dtype.kind != "f" or not np.isfinite(X).all():
        raise FitError(
            f"the source classifier's output must be a table of finite numbers, one row an image, not {X.dtype} of "
            f"shape {X.shape}; extract the layer 'fc'"
        )
    return X
