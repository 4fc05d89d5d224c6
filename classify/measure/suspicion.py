"""Which images a data set should be asked about: labels that predictions contradict, images that are nearly the same,
and images that are unlike all others. Everything is found in one layer's features; nothing is a proof.

The thresholds were measured on five folders of real images (749 photos of clothing, 398 of insects, 253 brain scans,
126 photos and 126 cartoons of seven things) and 1,500 digits, with the average-pooled output of a ResNet18.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold

from classify.measure.foreign import NearestNeighbours

FOLDS = 5
# An image whose own label is less likely than this out of fold is asked about. With one label in twenty changed at
# random 82 to 100 % of those asked about were changed ones, and they were 23 to 75 % of the changed ones; with none
# changed, 6 of the 3,152 images are asked about.
UNLIKELY = 0.05
# Of the distance to the tenth nearest image. Of copies that were compressed, brightened, turned by 5 degrees, mirrored,
# or had their margins cut by 5 %, 68 to 100 % lie below, by the folder (of half-size and grey ones a half or fewer in
# most), and no two different images of the four folders without repeated scenes, nor of the digits (least 0.51).
NEAR = 0.5
# The same of `glances`. All copies of half the size, compressed at quality 50 or turned grey lie below, in each of the
# five folders (at most 0.21), and no two different images (least 0.52 of photos, 0.38 of 5,000 digits, 0.29 of 8 x 8).
NEAR_AT_A_GLANCE = 0.25
# Of the median distance between two images: where there are more than ten of one scene (different images: least 0.25).
SAME_SCENE = 0.2
# Robust standard deviations of log distance: photos among brain scans or digits lie above (least 5.7), and of the 3,152
# images one does, which is none of its class but a sign that an image is missing. Among photos of everything a foreign
# one is mostly not found (1 to 4).
FAR = 4.0
NEIGHBOURS = 10
FEWEST = 40  # images, below which nothing is far
_REFERENCE = 5_000  # rows that distances are measured to
_BLOCK = 1_024


@dataclass(frozen=True)
class Contradiction:
    """A label that is probably wrong. row: of the image; other: the label that is likelier; own_probability,
    other_probability: out of fold."""

    row: int
    other: int
    own_probability: float
    other_probability: float


def out_of_fold(
    features: np.ndarray, labels: np.ndarray, groups: np.ndarray, build: Callable[[], Any], seed: int = 0
) -> np.ndarray:
    """Probabilities (N, K) for the labels 0 to K - 1 from a head that was fitted without the row, nor any of its group.

    features (N, D); labels (N,); groups: codes (N,), as many as rows where none belong together. build gives a head to
    fit. NaN for rows whose label was not among those that their head learnt from.
    """
    probabilities = np.full((len(labels), int(labels.max()) + 1), np.nan)
    folds = min(FOLDS, len(np.unique(groups)))
    if folds < 2 or np.bincount(labels).max() < folds:
        return probabilities
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    for training, held_out in splitter.split(features, labels, groups):
        known = np.unique(labels[training])
        if len(known) < 2:
            continue
        head = build().fit(features[training], labels[training])
        rows = held_out[np.isin(labels[held_out], known)]
        if len(rows):
            probabilities[rows] = 0
            probabilities[np.ix_(rows, head.classes_)] = head.predict_proba(features[rows])
    return probabilities


def suspicion_order(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The rows (N,) from the least to the most probable label: by self-confidence (Northcutt, Jiang and Chuang 2021,
    section 3.2); those without probabilities last."""
    own = probabilities[np.arange(len(labels)), labels]
    return np.argsort(np.where(np.isnan(own), np.inf, own), kind="stable")


def contradicted(probabilities: np.ndarray, labels: np.ndarray) -> tuple[Contradiction, ...]:
    """Labels that out-of-fold probabilities (N, K) contradict, the least probable first.

    Confident learning (Northcutt, Jiang and Chuang 2021, equation 1): an image counts for another class where the
    probability of that is at least the mean one of the images labelled so. Besides, its own label has to be `UNLIKELY`.
    """
    rows = np.arange(len(labels))
    own = probabilities[rows, labels]
    known = ~np.isnan(own)
    thresholds = np.full(probabilities.shape[1], np.inf)
    for label in np.unique(labels[known]):
        thresholds[label] = own[known & (labels == label)].mean()
    others = np.where(np.isnan(probabilities) | (probabilities < thresholds), -1.0, probabilities)
    others[rows, labels] = -1.0
    other = others.argmax(axis=1)
    wrong = known & (others[rows, other] > 0) & (own < UNLIKELY)
    return tuple(
        Contradiction(int(row), int(other[row]), float(own[row]), float(others[row, other[row]]))
        for row in suspicion_order(probabilities, labels)
        if wrong[row]
    )


def near_duplicates(
    features: np.ndarray, first: np.ndarray, second: np.ndarray, near: float = NEAR, same_scene: float = SAME_SCENE
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of the rows `second`, those that are nearly the same as one of the rows `first`: the rows, the nearest of the
    first ones, and its distance in units of that to the tenth nearest; all (M,), the nearest first.

    features (N, D), compared at length 1. near: of the distance to the tenth nearest; same_scene: of the median
    distance between two images.
    """
    unit = _unit(features)
    if len(first) < 2:
        return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0)
    sample = np.random.default_rng(0).permutation(len(unit))[:1000]
    usual = float(np.median(_distances(unit[sample] @ unit[sample].T)[np.triu_indices(len(sample), 1)]))
    tenth = min(NEIGHBOURS, len(first)) - 1
    place, ratio, alike = np.empty(len(second), np.int64), np.empty(len(second)), np.empty(len(second), bool)
    for start in range(0, len(second), _BLOCK):
        stretch = slice(start, start + _BLOCK)
        distances = _distances(unit[second[stretch]] @ unit[first].T)
        place[stretch] = distances.argmin(axis=1)
        nearest, beyond = distances.min(axis=1), np.partition(distances, tenth, axis=1)[:, tenth]
        ratio[stretch] = nearest / np.maximum(beyond, np.finfo(np.float32).tiny)
        alike[stretch] = (nearest <= near * beyond) | (nearest <= same_scene * usual)
    numbers = np.flatnonzero(alike)
    numbers = numbers[np.argsort(ratio[numbers], kind="stable")]
    return second[numbers], first[place[numbers]], ratio[numbers]


def far_from_all(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The rows that are unlike all others, and how many times as far from their neighbours as usual; the farthest
    first.

    features (N, D). The distance is that to the tenth nearest of at most 5,000 rows (Sun et al. 2022).
    """
    if len(features) < FEWEST:
        return np.empty(0, np.int64), np.empty(0)
    reference = np.random.default_rng(0).permutation(len(features))[:_REFERENCE]
    # Nearly all rows are neighbours of themselves, at no distance.
    scores = NearestNeighbours.fit(features[reference], NEIGHBOURS + 1).score(features)
    logs = np.log(np.maximum(scores, np.finfo(np.float32).tiny))
    beyond = logs - np.median(logs)
    spread = 1.4826 * np.median(np.abs(beyond))
    far = np.flatnonzero(beyond > FAR * spread) if spread > 0 else np.empty(0, np.int64)
    far = far[np.argsort(-beyond[far], kind="stable")]
    return far, np.exp(beyond[far])


def _unit(features: np.ndarray) -> np.ndarray:
    features = np.asarray(features, dtype=np.float32)
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), np.finfo(np.float32).tiny)


def _distances(cosines: np.ndarray) -> np.ndarray:
    """Between vectors of length 1 with these cosines."""
    return np.sqrt(np.maximum(2 - 2 * cosines, 0))
