"""Which layers to join: greedy forward selection of the one that helps most, by validation accuracy."""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from classify.experiments.learning_rows import learning_rows
from classify.experiments.probe.question import SCORE_ROWS, Question
from classify.experiments.sources import CachedLayer
from classify.experiments.validating import HOLDOUT
from classify.heads import HEADS
from features.errors import UserError
from features.rows import limit_rows

# Joining a layer has to gain more than chance on a few validation images would.
LEAST_GAIN = 0.0005


@dataclass(frozen=True)
class Selection:
    """Layers in the order in which they were added, with the validation accuracy after each.

    tried: for every round, also the last that gained nothing, each candidate's validation accuracy when joined to
    what had been chosen before.
    """

    order: tuple[str, ...]
    accuracies: tuple[float, ...]
    tried: tuple[dict[str, float], ...]

    @property
    def layer(self) -> str:
        """The chosen layers as the command line spells them: 'layer3+layer2'."""
        return "+".join(self.order)

    def __str__(self) -> str:
        steps = (f"{layer} {100 * accuracy:.2f} %" for layer, accuracy in zip(self.order, self.accuracies, strict=True))
        return " + ".join(steps)


def select_layers(
    layers: Sequence[str],
    features: Callable[[str], np.ndarray],
    labels: np.ndarray,
    train_rows: np.ndarray,
    validation_rows: np.ndarray,
    head: Callable[[], Any],
    least_gain: float = 0.0,
) -> Selection:
    """Start from the best single layer and keep joining the one that helps most, until none gains over `least_gain`.

    features(layer) gives (N, D) for the N training images that labels (N,) name, and is asked again in every round,
    so that only the chosen layers stay in memory. head() makes a fresh classifier with `fit` and `predict`; scaling,
    where it wants any, is its own. Of equal candidates the first of `layers` is taken. Needs at most L (L + 1) / 2
    fits for L layers.

    Raises UserError for no layers, a layer named twice, or rows that are both trained and validated on.
    """
    if not layers or len(set(layers)) < len(layers):
        raise UserError(f"layers to select from must be one or more different names, not {', '.join(layers) or 'none'}")
    shared = np.intersect1d(train_rows, validation_rows)
    if len(shared):
        raise UserError(f"{len(shared)} rows are in both training and validation; selection needs them apart")
    order: list[str] = []
    accuracies: list[float] = []
    tried: list[dict[str, float]] = []
    chosen: tuple[np.ndarray, ...] = ()
    while len(order) < len(layers):
        results = {}
        for layer in layers:
            if layer not in order:
                joined = np.concatenate([*chosen, features(layer)], axis=1)
                fitted = head().fit(joined[train_rows], labels[train_rows])
                results[layer] = float(np.mean(fitted.predict(joined[validation_rows]) == labels[validation_rows]))
        tried.append(results)
        best = max(results, key=lambda layer: results[layer])
        if order and results[best] <= accuracies[-1] + least_gain:
            break
        order.append(best)
        accuracies.append(results[best])
        chosen = (*chosen, np.asarray(features(best)))
    return Selection(tuple(order), tuple(accuracies), tuple(tried))


def select(question: Question, sources: Sequence[CachedLayer]) -> Selection:
    """Greedy forward selection over single layers; at most 10,000 stratified training rows, all validation rows."""
    settings = dataclasses.replace(question.settings, blocks="off", validate=HOLDOUT)
    seed = settings.seed
    read, train, validation = learning_rows(sources[0], settings)
    labels = read.labels
    train = train[limit_rows(labels[train], SCORE_ROWS, seed)]
    rows = np.concatenate([train, validation])
    features = {
        source.layer: np.asarray(source.of_images(learning_rows(source, settings)[0].features[rows]))
        for source in sources
    }
    return select_layers(
        list(features),
        features.__getitem__,
        labels[rows],
        np.arange(len(train)),
        np.arange(len(train), len(rows)),
        lambda: HEADS["ridge"].build(
            seed=seed, class_weight=question.settings.class_weight, jobs=question.settings.jobs
        ),
        LEAST_GAIN,
    )
