"""Training sets made worse on purpose: wrong labels, and classes of unequal size.

A change takes the labels of the training rows and says which of them stay, with which labels. It depends on the seed
alone, and stronger changes contain weaker ones: a label that is wrong at 10 % is wrong at 20 %, too.
"""

from dataclasses import dataclass

import numpy as np

from features.errors import UserError


@dataclass(frozen=True)
class LabelNoise:
    """A share of all rows, drawn at random, gets another label: any of the others, each as likely."""

    share: float

    @property
    def name(self) -> str:
        return f"label noise {self.share:g}"

    def apply(self, labels: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Sorted places among rows with these labels, and the labels to train those with, int64."""
        draw = np.random.default_rng([seed, 2])
        order = draw.permutation(len(labels))
        classes = np.unique(labels)
        # Drawn for all rows, so that a larger share changes the same rows in the same way.
        steps = draw.integers(1, len(classes), len(labels))
        wrong = order[: round(self.share * len(labels))]
        noisy = labels.copy()
        noisy[wrong] = classes[(np.searchsorted(classes, labels[wrong]) + steps[wrong]) % len(classes)]
        return np.arange(len(labels)), noisy


@dataclass(frozen=True)
class Imbalance:
    """Classes lose rows until the largest has `factor` times as many as the smallest, in between by equal ratios
    (long-tailed, as in Cui et al. 2019); which class is large is drawn."""

    factor: float

    @property
    def name(self) -> str:
        return f"imbalance {self.factor:g}"

    def apply(self, labels: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """As for `LabelNoise`."""
        draw = np.random.default_rng([seed, 3])
        classes = draw.permutation(np.unique(labels))
        members = [draw.permutation(np.flatnonzero(labels == label)) for label in classes]
        most = min(map(len, members))
        powers = np.linspace(0, 1, len(classes)) if len(classes) > 1 else np.zeros(1)
        # Two rows: one to train on and one to validate on.
        kept = [rows[: max(2, round(most / self.factor**power))] for rows, power in zip(members, powers, strict=True)]
        rows = np.sort(np.concatenate(kept))
        return rows, labels[rows]


# A training set made worse: all that determines it besides the seed stands in its name, in a row's configuration.
Change = LabelNoise | Imbalance
_KINDS: dict[str, type[Change]] = {"label noise": LabelNoise, "imbalance": Imbalance}


def change_called(name: str) -> Change:
    """The change that a configuration names; UserError for a name that none has."""
    kind, _, number = name.rpartition(" ")
    try:
        return _KINDS[kind](float(number))
    except (KeyError, ValueError):
        raise UserError(f"no training set is made worse by {name!r}; take the version that wrote the record") from None
