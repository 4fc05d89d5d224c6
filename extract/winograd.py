"""Convolutions of 3 x 3 by Winograd's F(4 x 4, 3 x 3), in float32 on a processor: a quarter of the multiplications.

Direct convolution, as every library for processors has it, ends at the rate of a core's products. Here a map's tiles of
6 x 6 are transformed, 36 products of matrices are oneDNN's, and what comes out is transformed back, with the bias, the
addition and the relu that follow. The transforms are C++ that is compiled for this processor when it is needed. The
result is within 3e-5 of the largest number of a map. Not for bfloat16, whose rounding the transforms would magnify.
"""

import ctypes
import functools
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import nn

_SOURCE = Path(__file__).with_name("winograd.cpp")
_LANES = 16
# Below so many channels, and tiles of a batch, the transforms and the calls cost more than the products save.
_FEWEST_CHANNELS, _FEWEST_TILES = 64, 32
# Multiplications of a direct convolution for one of these, borders of tiles included: half of what there is to win
# goes into the transforms.
_SAVED = 2.9
# Floating-point operations per processor core after which a fifth of a second for the compiler has paid for itself.
WORK_THAT_PAYS = 2e11
# Lavin and Gray, CVPR 2016: the transform of a kernel for the points 0, 1, -1, 2, -2 and infinity.
_KERNEL = (
    (1 / 4, 0, 0), (-1 / 6, -1 / 6, -1 / 6), (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6), (1 / 24, -1 / 12, 1 / 6), (0, 0, 1),
)  # fmt: skip


@functools.cache
def transforms() -> ctypes.CDLL | None:
    """The transforms, compiled for this processor and loaded; None where that cannot be.

    Compiled anew by every process that needs them, in a folder that nobody else writes to: a library that is found
    somewhere is never loaded.
    """
    compiler = shutil.which("g++") or shutil.which("clang++")
    if compiler is None or not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return None
    with tempfile.TemporaryDirectory(prefix="layerprobe-") as folder:
        library = Path(folder) / "winograd.so"
        command = [compiler, "-O3", "-march=native", "-ffp-contract=fast", "-shared", "-fPIC", "-o", str(library)]
        try:
            subprocess.run([*command, str(_SOURCE)], check=True, capture_output=True, timeout=60)
            return ctypes.CDLL(str(library))
        except (OSError, subprocess.SubprocessError):
            return None


def is_of_use(network: nn.Module) -> bool:
    """Whether a network has convolutions that are faster so, at some size of its maps."""
    return any(type(module) is nn.Conv2d and _has_form(module) for module in network.modules())


def _has_form(convolution: nn.Conv2d) -> bool:
    how = [convolution.kernel_size, convolution.stride, convolution.padding, convolution.dilation]
    channels = (convolution.in_channels, convolution.out_channels)
    plain = how == [(3, 3), (1, 1), (1, 1), (1, 1)] and convolution.groups == 1 and convolution.padding_mode == "zeros"
    return plain and min(channels) >= _FEWEST_CHANNELS and not any(count % _LANES for count in channels)


def suits(convolution: nn.Conv2d, shape: torch.Size, activation: str) -> bool:
    """Whether a convolution of maps of this shape (N, C, H, W), with what follows it, is faster so."""
    tiles = -(-shape[2] // 4) * -(-shape[3] // 4)
    saved = 9 * shape[2] * shape[3] / (36 * tiles)
    enough = shape[0] * tiles >= _FEWEST_TILES and saved >= _SAVED
    return enough and _has_form(convolution) and activation in ("none", "relu")


class WinogradConvolution(nn.Module):
    """A convolution of 3 x 3 by Winograd, what is added to it, and its relu."""

    def __init__(self, convolution: nn.Conv2d, shape: torch.Size, activation: str) -> None:
        super().__init__()
        library = transforms()
        assert library is not None, "the recipe asked for it"
        self.library = library
        kernel = torch.tensor(_KERNEL, dtype=torch.float64)
        weight = convolution.weight.detach()
        # (36, K, C), in double precision until it is whole.
        whole = torch.einsum("ai,kcij,bj->abkc", kernel, weight.double(), kernel).flatten(0, 1).to(weight.dtype)
        rows = shape[0] * -(-shape[2] // 4) * -(-shape[3] // 4)
        self.weights = [torch.ops.mkldnn._reorder_linear_weight(part.contiguous(), rows) for part in whole]
        bias = convolution.bias
        self.bias = weight.new_zeros(len(weight)) if bias is None else bias.detach().contiguous()
        self.relu = activation == "relu"

    def forward(self, images: torch.Tensor, other: torch.Tensor | None = None) -> torch.Tensor:
        """float32 (N, C, H, W), channels last."""
        images = images.contiguous(memory_format=torch.channels_last)
        count, channels, height, width = images.shape
        down, across = -(-height // 4), -(-width // 4)
        tiles = torch.empty(36, count * down * across, channels)
        place = (count, height, width)
        _call(self.library.tiles_of, images, tiles, *place, channels, down, across)
        products = [
            torch.ops.mkldnn._linear_pointwise(part, weight, None, "none", [], "")
            for part, weight in zip(tiles, self.weights, strict=True)
        ]
        maps = torch.empty(count, len(self.bias), height, width, memory_format=torch.channels_last)
        if other is not None:
            other = other.contiguous(memory_format=torch.channels_last)
        pointers = (ctypes.c_void_p * 36)(*(product.data_ptr() for product in products))
        _call(self.library.maps_of, pointers, maps, self.bias, other, self.relu, *place, len(self.bias), down, across)
        return maps


def _call(function: Any, *arguments: object) -> None:
    """A function of the library: tensors by their addresses, numbers as longs; other threads run meanwhile."""
    function.restype = None
    function(*(_argument(value) for value in arguments))


def _argument(value: object) -> object:
    if value is None:
        return ctypes.c_void_p(None)
    if isinstance(value, torch.Tensor):
        return ctypes.c_void_p(value.data_ptr())
    return value if isinstance(value, ctypes.Array) else ctypes.c_long(int(value))  # type: ignore[call-overload]
