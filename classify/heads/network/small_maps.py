"""Convolutions over small maps whose weight gradient is one matrix product.

oneDNN's own weight gradient takes 1.5 to 3 times as long as the product where the output is 2 x 2, or 4 x 4 after a
stride of 2, and less from there on (measured on Zen 4, in bfloat16 and float32). The forward pass and the gradient of
the input stay its own.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

# Places in the output up to which the product is faster, without and with a stride: copying windows costs more there.
_PLACES, _STRIDED_PLACES = 4, 16


class _Convolution(torch.autograd.Function):
    @staticmethod
    @torch.amp.custom_fwd(device_type="cpu")
    def forward(
        ctx: Any, inputs: torch.Tensor, weight: torch.Tensor, stride: tuple[int, int], padding: tuple[int, int]
    ) -> torch.Tensor:
        ctx.save_for_backward(inputs, weight)
        ctx.stride, ctx.padding = stride, padding
        return nn.functional.conv2d(inputs, weight, None, stride, padding)

    @staticmethod
    @torch.amp.custom_bwd(device_type="cpu")
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor | None, None, None]:
        inputs, weight = ctx.saved_tensors
        for_inputs = for_weight = None
        if ctx.needs_input_grad[0]:
            for_inputs = torch.ops.aten.convolution_backward(
                gradient, inputs, weight, None, ctx.stride, ctx.padding, [1, 1], False, [0, 0], 1, [True, False, False]
            )[0]
        if ctx.needs_input_grad[1]:
            for_weight = weight_gradient(inputs, gradient, weight.shape, ctx.stride, ctx.padding)
        return for_inputs, for_weight, None, None


def weight_gradient(
    inputs: torch.Tensor, gradient: torch.Tensor, shape: torch.Size, stride: tuple[int, int], padding: tuple[int, int]
) -> torch.Tensor:
    """The gradient of a convolution's weight (O, I, R, S), channels last, from its input and its output's gradient."""
    outputs, channels, rows, columns = shape
    padded = nn.functional.pad(inputs.permute(0, 2, 3, 1), (0, 0, padding[1], padding[1], padding[0], padding[0]))
    padded = padded.contiguous()
    image, line, place, one = padded.stride()
    height, width = gradient.shape[2:]
    windows = padded.as_strided(
        (len(inputs), height, width, rows, columns, channels),
        (image, line * stride[0], place * stride[1], line, place, one),
    )
    windows = windows.reshape(-1, rows * columns * channels)
    flat = gradient.permute(0, 2, 3, 1).reshape(-1, outputs)
    return (flat.T @ windows).view(outputs, rows, columns, channels).permute(0, 3, 1, 2)


class SmallMapConvolution(nn.Module):
    """Stands for a convolution while it trains, over the same parameters."""

    def __init__(self, plain: nn.Conv2d) -> None:
        super().__init__()
        self.weight, self.bias = plain.weight, plain.bias
        self.stride, self.padding = plain.stride, plain.padding

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """(N, O, H, W); by the plain convolution where the map is large or nothing is differentiated."""
        weight = self.weight
        strides = self.stride[0] * self.stride[1]
        small = inputs.shape[2] * inputs.shape[3] // strides <= (_PLACES if strides == 1 else _STRIDED_PLACES)
        if not (small and torch.is_grad_enabled() and weight.requires_grad and inputs.device.type == "cpu"):
            return nn.functional.conv2d(inputs, weight, self.bias, self.stride, self.padding)
        if torch.is_autocast_enabled("cpu"):
            dtype = torch.get_autocast_dtype("cpu")
            inputs, weight = inputs.to(dtype), weight.to(dtype)
        output = _Convolution.apply(inputs, weight, self.stride, self.padding)
        return output if self.bias is None else output + self.bias.to(output.dtype).view(1, -1, 1, 1)


@contextlib.contextmanager
def small_map_convolutions(tail: nn.Module) -> Iterator[None]:
    """Swap the ordinary convolutions of a network for `SmallMapConvolution` inside the block."""
    plain = {
        name: module
        for name, module in tail.named_modules()
        if type(module) is nn.Conv2d
        and module.groups == 1
        and module.dilation == (1, 1)
        and module.padding_mode == "zeros"
        and not isinstance(module.padding, str)
    }
    try:
        for name, module in plain.items():
            tail.set_submodule(name, SmallMapConvolution(module))
        yield
    finally:
        for name, module in plain.items():
            tail.set_submodule(name, module)
