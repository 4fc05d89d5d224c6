"""From images to the network's input, a batch at a time, as tensor operations on the device that runs the trunk.

Follows torchvision's own transforms for the weights, on uint8 tensors. The short side of an image that is smaller than
the target is resized straight to it: resizing it to more and cropping would cut off a part of a digit.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch.nn.functional import interpolate
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as transforms

from extract.levels import Levels
from features.datasets import ImageFiles
from features.preprocessing import Preprocessing

_LARGE = 1 << 20  # pixels; below, an image is in the cache as it is
_STRIPE = 128  # rows


class Preprocessor:
    """Applies a `Preprocessing` to batches of uint8 images."""

    def __init__(self, steps: Preprocessing, device: torch.device | str = "cpu") -> None:
        self.steps = steps
        self.device = torch.device(device)
        self._interpolation = InterpolationMode(steps.interpolation)
        self._channels = len(steps.mean)
        self._mean = torch.tensor(steps.mean, device=self.device).view(1, -1, 1, 1)
        self._std = torch.tensor(steps.std, device=self.device).view(1, -1, 1, 1)

    def __call__(self, images: np.ndarray | Iterable[np.ndarray]) -> torch.Tensor:
        """(N, 3, S, S) float32 from uint8 images (H, W) or (H, W, 3): one array, or several of any sizes."""
        if isinstance(images, np.ndarray):
            return self._normalise(self.resized(images))
        return torch.cat([self._normalise(self.resized(image[None])) for image in images])

    def decoded(self, images: Any) -> Any:
        """Images in files as they are to be decoded for these steps; arrays as they are."""
        return images.decoded_at(self.steps.decoded) if isinstance(images, ImageFiles) else images

    def cropped(self, images: np.ndarray | Iterable[np.ndarray]) -> torch.Tensor:
        """The same images resized and cropped alone: uint8 (N, 3, S, S), as they stand before the normalisation."""
        parts = [images] if isinstance(images, np.ndarray) else (image[None] for image in images)
        return torch.cat([self.resized(part).expand(-1, self._channels, -1, -1) for part in parts])

    def resized(self, images: np.ndarray) -> torch.Tensor:
        """uint8 (N, 1 or 3, S, S) from images (N, H, W) or (N, H, W, 3): grey ones stay one channel."""
        return self._resize(self._to_tensor(images))

    def network_input(
        self, resized: torch.Tensor, dtype: torch.dtype, *, levels: Levels | None = None, grey: bool = False
    ) -> torch.Tensor:
        """What `__call__` gives, in another type and channels last, from images resized before: the same numbers.

        levels: of the bytes to give instead, as `Levels.to_pixels` has them. grey: what `take_grey` reads instead, in
        bfloat16, of images of one channel.

        On a processor, where this takes a core's time from the network, a grey image's values are looked up in a table
        of all 256, and a colour image is worked on while it is in the cache.
        """
        if resized.device.type != "cpu":
            return self._normalise(resized).to(dtype, memory_format=torch.channels_last)
        count, channels, height, width = resized.shape
        if grey:
            return _looked_up(torch.stack([torch.arange(256), torch.ones(256)], 1).to(dtype), resized)
        if channels == 1:
            table = self._normalise(torch.arange(256).view(-1, 1, 1, 1))
            if levels:
                return _looked_up(levels.to_pixels(table).permute(0, 2, 3, 1).reshape(256, 4), resized)
            table = table.view(256, -1).to(dtype)
            looked_up = torch.embedding(table, resized.reshape(-1).to(torch.int32))
            return looked_up.view(count, height, width, -1).permute(0, 3, 1, 2)
        rows = resized.permute(0, 2, 3, 1).reshape(count, height, width * channels)
        mean, std = (numbers.flatten().repeat(width) for numbers in (self._mean, self._std))
        if levels:
            ready = torch.empty((count, height, width, 4), dtype=torch.uint8)
            for row, target in zip(rows, ready, strict=True):
                normalised = row.float().div_(255).sub_(mean).div_(std).view(1, height, width, channels)
                target.copy_(levels.to_pixels(normalised.permute(0, 3, 1, 2))[0].permute(1, 2, 0))
            return ready.permute(0, 3, 1, 2)
        ready = torch.empty(rows.shape, dtype=dtype)
        for row, target in zip(rows, ready, strict=True):
            target.copy_(row.float().div_(255).sub_(mean).div_(std))
        return ready.view(count, height, width, channels).permute(0, 3, 1, 2)

    def pixels(self, ready: torch.Tensor) -> torch.Tensor:
        """The pixels 0 to 255, float32 (N, C, S, S), of which `__call__` made what is given."""
        return (ready * self._std + self._mean).mul_(255).round_()

    def normalised(self, pixels: torch.Tensor) -> torch.Tensor:
        """What `__call__` makes of images whose pixels these are."""
        return self._normalise(pixels)

    def normalisation(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and standard deviation of pixels from 0 to 255, (C,) each, by which `__call__` normalises."""
        return torch.tensor(self.steps.mean) * 255, torch.tensor(self.steps.std) * 255

    def _to_tensor(self, images: np.ndarray) -> torch.Tensor:
        """(N, 1 or 3, H, W) uint8 on the device."""
        contiguous = np.require(images, requirements=("C", "W"))
        tensor = torch.from_numpy(contiguous)
        # Copies from pinned memory go on while a GPU computes; torch keeps such a block until its copy is done.
        tensor = tensor.pin_memory() if self.device.type == "cuda" else tensor
        tensor = tensor.to(self.device, non_blocking=True)
        return tensor.unsqueeze(1) if tensor.ndim == 3 else tensor.permute(0, 3, 1, 2)

    def _resize(self, images: torch.Tensor) -> torch.Tensor:
        crop = self.steps.crop
        self.steps.check(*images.shape[-2:])
        size = list(self.steps.resized(*images.shape[-2:]))
        resized = self._in_stripes(images, size)
        return self._filled(resized) if min(size) < crop else transforms.center_crop(resized, [crop, crop])

    def _in_stripes(self, images: torch.Tensor, size: list[int]) -> torch.Tensor:
        """What torchvision's `resize` gives, bit for bit.

        It takes a whole image to float32 first, 12 bytes a pixel; of a large one a few rows at a time are made narrower
        here, which stay in the cache, and only what is left of them is made lower.
        """
        mode, height = self.steps.interpolation, images.shape[-2]
        large = images.device.type == "cpu" and height * images.shape[-1] >= _LARGE and self.steps.antialias
        if not large or size[0] > height or size[1] > images.shape[-1] or mode == "nearest":
            return transforms.resize(images, size, self._interpolation, antialias=self.steps.antialias)
        narrow = torch.empty(*images.shape[:-1], size[1])
        for start in range(0, height, _STRIPE):
            stripe = images[..., start : start + _STRIPE, :].float()
            narrow[..., start : start + _STRIPE, :] = interpolate(
                stripe, (stripe.shape[-2], size[1]), mode=mode, antialias=True
            )
        low = interpolate(narrow, size, mode=mode, antialias=True)
        return (low.clamp_(0, 255) if mode == "bicubic" else low).round_().to(torch.uint8)

    def _filled(self, images: torch.Tensor) -> torch.Tensor:
        """Images in the middle of a square of the mean, which the normalisation makes zero, or nearly."""
        count, channels, height, width = images.shape
        mean = self._mean if channels == self._channels else self._mean.mean(1, keepdim=True)
        mean = (255 * mean).round().clamp(0, 255).to(torch.uint8)
        square = mean.repeat(count, 1, self.steps.crop, self.steps.crop)
        top, left = (self.steps.crop - height) // 2, (self.steps.crop - width) // 2
        square[..., top : top + height, left : left + width] = images
        return square

    def _normalise(self, images: torch.Tensor) -> torch.Tensor:
        """Grey images become three equal channels here, after the resizing, which so costs a third."""
        return (images.float().div_(255).expand(-1, self._channels, -1, -1) - self._mean).div_(self._std)


def _looked_up(pixels: torch.Tensor, grey: torch.Tensor) -> torch.Tensor:
    """(N, C, H, W), channels last, of grey images: for each value one of the 256 pixels (256, C), a word of 32 bits."""
    count, _, height, width = grey.shape
    words = pixels.view(torch.int32).flatten().index_select(0, grey.reshape(-1).to(torch.int32))
    return words.view(pixels.dtype).view(count, height, width, -1).permute(0, 3, 1, 2)
