"""Which stage would move most? Relative gradient norms of a network in its starting state (Lee et al. 2022)."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from classify.heads.regularizers.protocol import Context

ROWS = 512


def relative_gradient_norms(context: Context, rows: int = ROWS) -> dict[str, float]:
    """For each stage that trains, shallow to deep, |g| / |theta|: the norm of the loss's gradient by the stage's
    parameters over that of the parameters.

    Lee, Chen, Tajwar, Kumar, Yao, Liang and Finn, 'Surgical fine-tuning improves adaptation to distribution shifts',
    ICLR 2023 (2022 on arXiv), section 4, criterion RGN. The loss is the mean over at most `rows` training images, of
    the network as it stands: in eval mode, float32.
    """
    network = context.network
    tail = network.tail.eval()
    parameters = {name: value for name, value in tail.named_parameters() if value.requires_grad}
    sums = {name: torch.zeros_like(value) for name, value in parameters.items()}
    chosen, seen = np.sort(context.shuffled_rows()[:rows]), 0
    for inputs, codes in context.batches(chosen):
        loss = cross_entropy(tail(inputs), codes, reduction="sum")
        batch_gradients = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
        for name, gradient in zip(parameters, batch_gradients, strict=True):
            if gradient is not None:
                sums[name] += gradient
        seen += len(codes)
    gradients = {name: value / seen for name, value in sums.items()}
    return relative_norms(context.network.by_stage(parameters), parameters, gradients)


def relative_norms(
    groups: Mapping[str, Sequence[str]],
    parameters: Mapping[str, torch.Tensor],
    gradients: Mapping[str, torch.Tensor],
) -> dict[str, float]:
    """|g| / |theta| of each group of names; without those that hold no parameter, or only zeros."""
    norms = {}
    for group, names in groups.items():
        lengths = [
            float(sum(tensors[name].detach().double().square().sum() for name in names)) ** 0.5
            for tensors in (gradients, parameters)
        ]
        if lengths[1]:
            norms[group] = lengths[0] / lengths[1]
    return norms
