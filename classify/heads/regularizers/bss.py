"""BSS: the smallest singular values of a batch's features are suppressed (Chen et al. 2019)."""

import math

import torch

from classify.heads.regularizers.protocol import Context, Regularizer, Step

SMALLEST = 1


class BSS(Regularizer):
    """strength * sum of the k smallest squared singular values of the features (B, D) that the classifier reads.

    Chen et al., 'Catastrophic forgetting meets negative transfer: batch spectral shrinkage for safe transfer
    learning', NeurIPS 2019, equation 6. There are min(B, D) singular values; features with places are averaged.
    """

    ON_TRANSFERRED = True

    def __init__(self, context: Context, strength: float, smallest: int = SMALLEST) -> None:
        super().__init__()
        self.observes = (context.classifier_input,)
        self.strength, self.smallest = strength, smallest

    def forward(self, step: Step) -> torch.Tensor:
        return self.strength * smallest_squares(step.seen[0], self.smallest)


def smallest_squares(features: torch.Tensor, smallest: int) -> torch.Tensor:
    """The sum of the squares of the `smallest` least singular values of (B, D), or of (B, D, H, W) averaged."""
    features = features.float() if features.dtype in (torch.bfloat16, torch.float16) else features
    matrix = features.mean((2, 3)) if features.ndim == 4 else features
    # In descending order; the eigenvalues of F F^T would square the condition number.
    try:
        return torch.linalg.svdvals(matrix)[-smallest:].square().sum()
    except torch.linalg.LinAlgError:
        # Training has diverged, and the training loop tells of that once it sees it.
        return matrix.sum() * math.nan
