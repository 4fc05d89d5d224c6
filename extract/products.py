"""A linear layer on a processor, its weights laid out once."""

import torch
from torch import nn

from extract.fusing import Activation
from features.device import is_intel

# From so many numbers that a product sums, a GELU is computed apart where there is no AVX-512: oneDNN's takes registers
# from its products, which then run at 84 in place of 108 GFLOP/s. Shorter products wait for memory, and those would
# wait for it a second time. MKL, on Intel's processors, is faster than oneDNN in float32 from there on as well.
_LONG = 384


class PackedLinear(nn.Module):
    """A linear layer with its weights in oneDNN's own layout, or MKL's, what is added to it, or its activation."""

    def __init__(self, linear: nn.Linear, shape: torch.Size, activation: Activation = ("none", ())) -> None:
        super().__init__()
        weight, self.rows = linear.weight.detach(), shape[:-1].numel()
        self.bias = None if linear.bias is None else linear.bias.detach()
        # A form of GELU is told as an algorithm.
        self.activation, _, self.algorithm = activation[0].partition(" ")
        self.numbers = list(activation[1])
        is_long, gives_gelu = linear.in_features >= _LONG, self.activation == "gelu"
        self.apart = gives_gelu and is_long and torch.backends.cpu.get_cpu_capability() == "AVX2"
        # MKL's is given the weight as it was too, for other numbers of rows than the one that it was laid out for.
        self.plain: torch.Tensor | None = None
        if is_long and weight.dtype == torch.float32 and is_intel() and self.activation in ("none", "gelu"):
            self.plain, self.apart = weight, gives_gelu
            self.weight = torch.ops.mkl._mkl_reorder_linear_weight(weight, self.rows)
        else:
            self.weight = torch.ops.mkldnn._reorder_linear_weight(weight, self.rows)

    def forward(self, rows: torch.Tensor, other: torch.Tensor | None = None) -> torch.Tensor:
        """(..., D) in the weights' type."""
        if self.plain is not None:
            product = torch.ops.mkl._mkl_linear(rows, self.weight, self.plain, self.bias, self.rows)
            product = product if other is None else product.add_(other)
        elif other is not None:
            return torch.ops.mkldnn._linear_pointwise.binary(rows, other, self.weight, self.bias, "add")
        else:
            taken = ("none", [], "") if self.apart else (self.activation, self.numbers, self.algorithm)
            product = torch.ops.mkldnn._linear_pointwise(rows, self.weight, self.bias, *taken)
        return torch.ops.aten.gelu_(product, approximate=self.algorithm) if self.apart else product
