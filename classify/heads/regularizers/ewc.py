"""EWC, also L2-SP-Fisher: each weight is pulled towards its start by what the source network's predictions lose."""

from collections.abc import Container, Iterable
from typing import Any

import torch
from torch import nn

from classify.heads.regularizers.protocol import Context, Regularizer, Step

FISHER_IMAGES = 256


class EWC(Regularizer):
    """strength * sum of F (w - w0)^2 over transferred weights, F the diagonal Fisher of the source network.

    Kirkpatrick et al., 'Overcoming catastrophic forgetting in neural networks', PNAS 2017, equation 3, and Li et al.
    2018, section 4.1. The expectation is over labels sampled from the network's own predictions: with the true labels
    it would be the empirical gradient, another matrix. It is estimated on at most 256 of the training images.
    """

    ON_TRANSFERRED = True

    @classmethod
    def check(cls, context: Context, *strengths: float, **options: Any) -> None:
        super().check(context)
        context.source_head()

    def __init__(self, context: Context, strength: float) -> None:
        super().__init__()
        transferred = context.network.transferred - context.network.normalisation
        source = context.source_tail()
        rows = context.some_rows(FISHER_IMAGES)
        fisher = diagonal_fisher(source, transferred, (inputs for inputs, _ in context.batches(rows)), context.seed)
        named = dict(context.network.tail.named_parameters())
        self.weights = tuple(named[name] for name in sorted(transferred))
        self.origins = tuple(weight.detach().clone() for weight in self.weights)
        self.roots = tuple(fisher[name].sqrt() for name in sorted(transferred))
        self.strength = strength
        self.described = f"ewc: Fisher of the source network from {len(rows)} training images"

    def forward(self, step: Step) -> torch.Tensor:
        terms = [
            (root * (weight - origin)).square().sum()
            for root, weight, origin in zip(self.roots, self.weights, self.origins, strict=True)
        ]
        return self.strength * torch.stack(terms).sum()


def diagonal_fisher(
    source: nn.Module, names: Container[str], batches: Iterable[torch.Tensor], seed: int
) -> dict[str, torch.Tensor]:
    """The mean over the images of the squared gradient of log p(label | image), the label sampled from p itself.

    source: gives logits, in eval mode. names: of its parameters. batches: of its inputs. Each image's gradient is
    squared by itself: the square of a batch's mean gradient is something else.
    """
    parameters = {name: parameter for name, parameter in source.named_parameters() if name in names}
    flags = {name: parameter.requires_grad for name, parameter in parameters.items()}
    total = {name: torch.zeros_like(parameter) for name, parameter in parameters.items()}
    for parameter in parameters.values():
        parameter.requires_grad_(True)
    draw = torch.Generator().manual_seed(seed)
    count = 0
    try:
        for inputs in batches:
            for image in inputs:
                log_probabilities = source(image[None]).float().log_softmax(1)[0]
                label = torch.multinomial(log_probabilities.detach().exp().cpu(), 1, generator=draw)
                gradients = torch.autograd.grad(log_probabilities[label.item()], list(parameters.values()))
                for sums, gradient in zip(total.values(), gradients, strict=True):
                    sums.addcmul_(gradient, gradient)
                count += 1
    finally:
        for name, parameter in parameters.items():
            parameter.requires_grad_(flags[name])
    return {name: sums / count for name, sums in total.items()}
