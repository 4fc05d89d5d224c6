"""StochNorm: each batch norm uses batch or moving statistics, at random per channel and batch (Kou et al. 2020)."""

import contextlib
from collections.abc import Iterator

import torch
from torch import nn
from torch.nn.functional import batch_norm

from classify.heads.regularizers.protocol import Context, Regularizer, Step
from features.errors import UserError


class StochNorm(Regularizer):
    """Replaces the tail's batch norms while it trains; the penalty itself is zero.

    Kou, You, Long and Wang, 'Stochastic normalization', NeurIPS 2020, equations 3 to 6. share: the probability that a
    channel uses its moving statistics, 0.5 in the paper; 0 is plain batch norm.
    """

    @classmethod
    def check(cls, context: Context, share: float) -> None:
        if not share <= 1:
            raise UserError(f"--regularizer stochnorm={share:g} is a probability; give a number from 0 to 1")
        if not any(isinstance(part, nn.BatchNorm2d) for part in context.network.tail.modules()):
            raise UserError(
                f"--regularizer stochnorm replaces batch norms, and what trains of {context.network.backbone.name} has "
                "none; unfreeze more, or take another regulariser"
            )

    def __init__(self, context: Context, share: float) -> None:
        super().__init__()
        self.tail = (context.network.tail,)
        self.share = share

    @contextlib.contextmanager
    def attached(self) -> Iterator[None]:
        """Swap the modules, which share parameters and statistics with those they stand for."""
        modules = self.tail[0].named_modules()
        originals = {name: module for name, module in modules if isinstance(module, nn.BatchNorm2d)}
        for name, module in originals.items():
            self.tail[0].set_submodule(name, StochasticNorm(module, self.share))
        try:
            yield
        finally:
            for name, module in originals.items():
                self.tail[0].set_submodule(name, module)

    def forward(self, step: Step) -> torch.Tensor:
        """Zero: the normalisation is what regularises."""
        return step.logits.new_zeros(())


class StochasticNorm(nn.BatchNorm2d):
    """A batch norm that takes a channel's moving statistics with a probability, and the batch's otherwise.

    Both branches train scale and shift, and the moving statistics follow the batches as they do in a plain one.
    """

    def __init__(self, plain: nn.BatchNorm2d, share: float) -> None:
        nn.Module.__init__(self)
        self.num_features, self.eps, self.momentum = plain.num_features, plain.eps, plain.momentum
        self.affine, self.track_running_stats, self.share = plain.affine, plain.track_running_stats, share
        self.weight, self.bias = plain.weight, plain.bias
        for name in ("running_mean", "running_var", "num_batches_tracked"):
            self.register_buffer(name, getattr(plain, name))
        self.train(plain.training)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) normalised."""
        if not self.training:
            return super().forward(inputs)
        assert self.running_mean is not None and self.running_var is not None  # since it was pre-trained
        # Copies, since torch's backward pass reads the statistics again, and by then they have moved on with the batch.
        mean, variance = self.running_mean.clone(), self.running_var.clone()
        moving = batch_norm(inputs, mean, variance, self.weight, self.bias, False, 0.0, self.eps)
        batch = super().forward(inputs)
        chosen = torch.rand(self.num_features) < self.share
        return torch.where(chosen.to(inputs.device).view(1, -1, 1, 1), moving, batch)
