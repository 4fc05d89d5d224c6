"""L2: every weight that trains is pulled towards zero."""

from collections.abc import Sequence

import torch
from torch import nn

from classify.heads.regularizers.protocol import Context, Regularizer, Step


class L2(Regularizer):
    """strength / 2 * sum of w^2 over all parameters that train, those of normalisation left out."""

    def __init__(self, context: Context, strength: float) -> None:
        super().__init__()
        spared = context.network.normalisation
        # A tuple hides them from nn.Module: they are the network's parameters, not this one's.
        named = context.network.tail.named_parameters()
        self.weights = tuple(p for name, p in named if name not in spared and p.requires_grad)
        self.strength = strength

    def forward(self, step: Step) -> torch.Tensor:
        return 0.5 * self.strength * squared_sum(self.weights)


def squared_sum(weights: Sequence[torch.Tensor], origins: Sequence[torch.Tensor] | None = None) -> torch.Tensor:
    """The sum of (w - w0)^2, in one pass per tensor; its gradient 2 (w - w0) is finite everywhere, w = w0 included."""
    origins = origins or [weight.new_zeros(()).expand_as(weight) for weight in weights]
    terms = [
        nn.functional.mse_loss(weight, origin, reduction="sum") for weight, origin in zip(weights, origins, strict=True)
    ]
    return torch.stack(terms).sum()
