"""Greedy forward selection of layers: which to join, found on validation.

Left to others: where features come from, and the final head on the layers found. Test data has no part in this.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from features.errors import UserError


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
    head: Callable[[], object],
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
        best = max(results, key=results.get)
        if order and results[best] <= accuracies[-1] + least_gain:
            break
        order.append(best)
        accuracies.append(results[best])
        chosen = (*chosen, np.asarray(features(best)))
    return Selection(tuple(order), tuple(accuracies), tuple(tried))
