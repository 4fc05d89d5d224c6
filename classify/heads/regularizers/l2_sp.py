"""L2-SP: weights are pulled towards where they started, the new layer towards zero (Li et al. 2018)."""

import torch

from classify.heads.regularizers.l2 import squared_sum
from classify.heads.regularizers.protocol import Context, Regularizer, Step


class L2SP(Regularizer):
    """strength / 2 * sum of (w - w0)^2 over transferred weights + new_strength / 2 * sum of w^2 over the new ones.

    Li, Grandvalet and Davoine, 'Explicit inductive bias for transfer learning with convolutional networks', ICML
    2018, equation 3. Parameters of normalisation are left out of both sums.
    """

    ON_TRANSFERRED = True

    def __init__(self, context: Context, strength: float, new_strength: float) -> None:
        super().__init__()
        transferred = context.network.transferred - context.network.normalisation
        new = context.network.new | (context.network.fresh - context.network.normalisation)
        named = dict(context.network.tail.named_parameters())
        # Tuples hide them from nn.Module: they are the network's parameters, not this one's.
        self.weights = tuple(named[name] for name in sorted(transferred))
        self.origins = tuple(weight.detach().clone() for weight in self.weights)
        self.new = tuple(named[name] for name in sorted(new))
        self.strength, self.new_strength = strength, new_strength

    def forward(self, step: Step) -> torch.Tensor:
        return 0.5 * (
            self.strength * squared_sum(self.weights, self.origins) + self.new_strength * squared_sum(self.new)
        )
