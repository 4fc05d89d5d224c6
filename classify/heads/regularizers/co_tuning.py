"""Co-tuning: the source network's own classifier trains on, towards the source classes that each label is made of."""

import copy
from typing import Any

import numpy as np
import torch
from scipy.special import log_softmax, softmax
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedShuffleSplit
from torch import nn

from classify.heads.regularizers.protocol import Context, Regularizer, Step
from features.errors import UserError

RELATION_IMAGES = 5000
_INVERSE_PENALTIES = (1.0, 10.0, 100.0, 1000.0)
_TEMPERATURES = np.geomspace(0.25, 8, 31)


class CoTuning(Regularizer):
    """strength * cross entropy of the source classifier's output with p(source class | label).

    You, Kou, Long and Wang, 'Co-tuning for transfer learning', NeurIPS 2020, equation 2 and algorithm 1; strength 2.3
    in the paper. The relation comes from the source network's predictions on at most 5,000 training images.
    """

    ON_TRANSFERRED = True
    relation: torch.Tensor

    @classmethod
    def check(cls, context: Context, *strengths: float, **options: Any) -> None:
        super().check(context)
        head = context.source_head()
        if not isinstance(head, nn.Linear):
            raise UserError(
                f"--regularizer co-tuning needs a linear classifier, and {context.network.backbone.name} ends in "
                f"{type(head).__name__}; take another backbone or regulariser"
            )

    def __init__(self, context: Context, strength: float) -> None:
        super().__init__()
        source, head = context.source_tail(), context.source_head()
        assert isinstance(head, nn.Linear)  # what `check` has made sure of
        rows = context.some_rows(RELATION_IMAGES)
        logits, codes = [], []
        with torch.no_grad():
            for inputs, batch_codes in context.batches(rows):
                with context.autocast():
                    logits.append(source(inputs).float().cpu())
                codes.append(batch_codes.cpu())
        relation = category_relation(torch.cat(logits).numpy(), torch.cat(codes).numpy(), context.network.classes)
        device = head.weight.device
        self.register_buffer("relation", torch.from_numpy(relation).float().to(device), persistent=False)
        self.head = copy.deepcopy(head).requires_grad_(True)
        self.observes = (context.classifier_input,)
        self.strength = strength
        self.described = f"co-tuning: category relation from {len(rows)} training images"

    def forward(self, step: Step) -> torch.Tensor:
        logits = self.head(step.seen[0].to(self.head.weight.dtype))
        return self.strength * soft_cross_entropy(logits, self.relation[step.codes])


def soft_cross_entropy(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """The mean over the rows of -sum p log q, of logits (B, Z) and probabilities (B, Z)."""
    return -(targets * logits.log_softmax(1)).sum(1).mean()


def category_relation(logits: np.ndarray, codes: np.ndarray, classes: int) -> np.ndarray:
    """p(source class | label), float64 (K, Z), from the source network's logits (N, Z) on rows of these labels (N,).

    A logistic regression without intercept learns p(label | source probabilities); its penalty and a temperature that
    calibrates it are chosen by log loss on a quarter of the rows. At each pure source class it gives p(label | source
    class), which Bayes' rule turns round with the mean prediction as prior. Labels that no row has, or that leave
    nothing to hold out, get the mean prediction of their rows.
    """
    probabilities = softmax(np.asarray(logits, dtype=np.float64), axis=1)
    prior = probabilities.mean(axis=0)
    relation = np.tile(prior, (classes, 1))
    present, counts = np.unique(codes, return_counts=True)
    if len(present) < 2 or counts.min() < 2:
        for code in present:
            relation[code] = probabilities[codes == code].mean(axis=0)
        return relation
    weights, temperature = _calibrated_regression(probabilities, codes)
    joint = softmax(weights / temperature, axis=1) * prior[:, None]
    relation[present] = (joint / joint.sum(axis=0)).T
    return relation


def _calibrated_regression(probabilities: np.ndarray, codes: np.ndarray) -> tuple[np.ndarray, float]:
    """Weights (Z, labels present) and the temperature under which held-out labels are likeliest."""
    labels = len(np.unique(codes))
    held = max(labels, len(codes) // 4)
    fit, check = next(StratifiedShuffleSplit(1, test_size=held, random_state=0).split(probabilities, codes))
    candidates = []
    for inverse in _INVERSE_PENALTIES:
        model = LogisticRegression(C=inverse, fit_intercept=False, max_iter=500)
        model.fit(probabilities[fit], codes[fit])
        weights = model.coef_.T
        if weights.shape[1] == 1:
            weights = np.concatenate([-weights / 2, weights / 2], axis=1)
        places = np.searchsorted(model.classes_, codes[check])
        for temperature in _TEMPERATURES:
            candidates.append((_log_loss(probabilities[check] @ weights / temperature, places), temperature, weights))
    _, temperature, weights = min(candidates, key=lambda candidate: candidate[0])
    return weights, float(temperature)


def _log_loss(scores: np.ndarray, places: np.ndarray) -> float:
    return -float(log_softmax(scores, axis=1)[np.arange(len(places)), places].mean())
