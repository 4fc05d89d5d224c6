"""An exponential moving average of a network's weights, which is what validation sees and what is kept.

Weights late in training jump about a point that is better than any of them (Polyak and Juditsky 1992); what the average
forgets, it forgets by the step. Batch-norm statistics are averaged with the weights that they belong to.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from classify.heads.network.checkpoint import Tensors


class WeightAverage:
    """The average of a module's floating-point state, frozen parameters left out, which never differ from theirs.

    At step t, counted from 0, the average becomes d * average + (1 - d) * weight, d = min(decay, (1 + t) / (10 + t)).
    The first steps, whose weights are far from the last ones', are soon forgotten.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        frozen = {name for name, parameter in module.named_parameters() if not parameter.requires_grad}
        self.decay = decay
        self._weights = {
            name: tensor
            for name, tensor in module.state_dict().items()
            if tensor.is_floating_point() and name not in frozen
        }
        self._averages = {name: tensor.clone() for name, tensor in self._weights.items()}

    def update(self, step: int) -> None:
        """Take the weights after `step`, counted from 0, into the average."""
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(list(self._averages.values()), list(self._weights.values()), 1 - decay)

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """The module holds the averages inside, and its own weights again after it."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def _swap(self) -> None:
        with torch.no_grad():
            for name, weight in self._weights.items():
                own = weight.clone()
                weight.copy_(self._averages[name])
                self._averages[name].copy_(own)

    def take_over(self) -> None:
        """The module holds the averages from now on."""
        for name, weight in self._weights.items():
            weight.copy_(self._averages[name])

    def tensors(self) -> Tensors:
        """The averages by name, for a checkpoint."""
        return dict(self._averages)

    def restore(self, tensors: dict[str, Any]) -> None:
        """Put back what `tensors` gave."""
        for name, average in self._averages.items():
            average.copy_(tensors[name])
