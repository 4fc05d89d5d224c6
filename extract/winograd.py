"""Convolutions of 3 x 3 by Winograd's F(4 x 4, 3 x 3), in float32 on a processor: a quarter of the multiplications.

Direct convolution, as every library for processors has it, ends at the rate of a core's products. Here tiles of 6 x 6
are transformed, some at a time, multiplied by 36 matrices and transformed back, with the bias, the addition and the
relu that follow, all in a core's own cache. This is C++ that is compiled for this processor when it is needed. The
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
# Below so many channels, and tiles of a batch, the transforms and the reading of weights cost what the products save.
_FEWEST_CHANNELS, _FEWEST_TILES = 32, 8
# Bytes of a core's own cache for what lies between the transforms, and the fewest tiles for which weights are read.
_ROOM, _LEAST_TOGETHER = 1 << 20, 48
# Multiplications of a direct convolution for one of these, borders of tiles included, from which it is faster: of maps
# of 2 x 2 on, where both multiply as often.
_SAVED = 1.0
# Floating-point operations per processor core after which a third of a second for the compiler has paid for itself.
WORK_THAT_PAYS = 2e11
# Lavin and Gray, CVPR 2016: the transform of a kernel for the points 0, 1, -1, 2, -2 and infinity.
_KERNEL = (
    (1 / 4, 0, 0), (-1 / 6, -1 / 6, -1 / 6), (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6), (1 / 24, -1 / 12, 1 / 6), (0, 0, 1),
)  # fmt: skip


@functools.cache
def transforms() -> ctypes.CDLL | None:
    """The C++, compiled for this processor and loaded; None where that cannot be.

    Compiled anew by every process that needs them, in a folder that nobody else writes to: a library that is found
    somewhere is never loaded.
    """
    compiler = shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        return None
    with tempfile.TemporaryDirectory(prefix="layerprobe-") as folder:
        library = Path(folder) / "winograd.so"
        command = [compiler, "-O3", "-march=native", "-ffp-contract=fast", "-shared", "-fPIC", "-o", str(library)]
        if torch.backends.cpu.get_cpu_capability() == "AVX2":
            command.append("-mno-avx512f")  # where torch may not use what the processor has
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
    tiles = _tiles(shape)
    saved = 9 * shape[2] * shape[3] / (36 * tiles)
    enough = shape[0] * tiles >= _FEWEST_TILES and saved >= _SAVED
    return enough and _has_form(convolution) and activation in ("none", "relu")


def _tiles(shape: torch.Size) -> int:
    """How many tiles one of such maps (N, C, H, W) has."""
    return -(-shape[2] // 4) * -(-shape[3] // 4)


class WinogradConvolution(nn.Module):
    """A convolution of 3 x 3 by Winograd, what is added to it, and its relu."""

    def __init__(self, convolution: nn.Conv2d, shape: torch.Size, activation: str) -> None:
        super().__init__()
        library = transforms()
        assert library is not None, "the recipe asked for it"
        self.library = library
        kernel = torch.tensor(_KERNEL, dtype=torch.float64)
        weight = convolution.weight.detach()
        # (36, C, K) in panels of outputs, in double precision until one is whole: all at once would take nine times the
        # memory of the weights, fresh from the system, and ten times as long.
        wide, narrow = library.wide(), library.narrow()
        edge = len(weight) // wide * wide
        self.weights, start = weight.new_empty(36, weight[..., 0, 0].numel()), 0
        for outputs in (*weight[:edge].split(wide), *weight[edge:].split(narrow)):
            panel = torch.einsum("ai,kcij,bj->abck", kernel, outputs.double(), kernel).reshape(36, -1)
            self.weights[:, start : start + panel.shape[1]] = panel
            start += panel.shape[1]
        bias = convolution.bias
        self.bias = weight.new_zeros(len(weight)) if bias is None else bias.detach().contiguous()
        self.relu = activation == "relu"
        # As many tiles at a time as a core's own cache has room for, shared out evenly.
        tiles = shape[0] * _tiles(shape)
        most = max(_LEAST_TOGETHER, _ROOM // (36 * 4 * sum(weight.shape[:2])))
        self.together = 6 * -(-tiles // (-(-tiles // most) * 6))

    def forward(self, images: torch.Tensor, other: torch.Tensor | None = None) -> torch.Tensor:
        """float32 (N, C, H, W), channels last."""
        images = images.contiguous(memory_format=torch.channels_last)
        count, channels, height, width = images.shape
        maps = torch.empty(count, len(self.bias), height, width, memory_format=torch.channels_last)
        if other is not None:
            other = other.contiguous(memory_format=torch.channels_last)
        between = torch.empty(36 * self.together * (channels + len(self.bias)))
        tensors = (images, self.weights, self.bias, other, maps, between)
        numbers = (self.relu, count, height, width, channels, len(self.bias), self.together)
        _call(self.library.convolve, *tensors, *numbers)
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
    return ctypes.c_long(int(value))  # type: ignore[call-overload]
