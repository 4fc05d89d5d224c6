"""Numbers as bytes: a range of values cut into 255 equal steps, as oneDNN's convolutions of bytes take them."""

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Levels:
    """A byte b stands for `scale * (b - zero)`; zero itself is always one of the values."""

    scale: float
    zero: int

    @classmethod
    def between(cls, low: float, high: float) -> "Levels":
        """The levels of a range around zero."""
        scale = (high - low) / 255
        return cls(scale, round(-low / scale))

    def to_bytes(self, values: torch.Tensor) -> torch.Tensor:
        """uint8: the nearest levels; what lies outside the range becomes its end."""
        return (values.float() / self.scale).add_(self.zero).round_().clamp_(0, 255).to(torch.uint8)

    def to_steps(self, levels: torch.Tensor) -> torch.Tensor:
        """float32: how many steps above zero. Sums of them are exact, in whatever order they are taken."""
        return levels.float().sub_(self.zero)

    def to_values(self, levels: torch.Tensor) -> torch.Tensor:
        """float32."""
        return self.to_steps(levels).mul_(self.scale)

    def to_pixels(self, images: torch.Tensor) -> torch.Tensor:
        """The network's input (N, 3, H, W) as bytes (N, 4, H, W), channels last; the fourth channel holds nothing.

        So a pixel is one word of 32 bits, and a table of the 256 grey values gives it in one look.
        """
        count, channels, height, width = images.shape
        pixels = images.new_full((count, height, width, 4), self.zero, dtype=torch.uint8)
        pixels[..., :channels] = self.to_bytes(images).permute(0, 2, 3, 1)
        return pixels.permute(0, 3, 1, 2)
