"""Mixup: a batch of blends of two images each, learned as blends of their classes (Zhang et al. 2018).

What is mixed is what enters the part that trains: images, or the maps at the cut (manifold mixup, Verma et al. 2019).
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.functional import cross_entropy


@dataclass(frozen=True)
class Targets:
    """What a batch is to be told as: class numbers (B,), and with the weight 1 - share those of `others` instead."""

    codes: torch.Tensor
    others: torch.Tensor | None = None
    share: float = 1.0

    def loss(self, logits: torch.Tensor, smoothing: float = 0.0) -> torch.Tensor:
        """The mean cross-entropy of logits (B, K), labels smoothed by a share that is given to all classes."""
        loss = cross_entropy(logits, self.codes, label_smoothing=smoothing)
        if self.others is None:
            return loss
        return self.share * loss + (1 - self.share) * cross_entropy(logits, self.others, label_smoothing=smoothing)


def mixed(
    batch: torch.Tensor, codes: torch.Tensor, alpha: float, draw: np.random.Generator
) -> tuple[torch.Tensor, Targets]:
    """Each row of a batch (B, ...) blended with another, drawn from `draw`: share * row + (1 - share) * other, with one
    share of Beta(alpha, alpha) for the batch."""
    share = float(draw.beta(alpha, alpha))
    others = torch.from_numpy(draw.permutation(len(batch))).to(batch.device)
    return batch * share + batch[others] * (1 - share), Targets(codes, codes[others], share)
