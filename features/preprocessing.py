"""What happens to an image before the network, as a value: part of a cache's identity and of a saved head.

The work itself is done by `extract.preprocess`; here it only has a name, so that it can be compared, printed and kept
without torch.
"""

import dataclasses
from dataclasses import dataclass

from features.digests import canonical_json
from features.errors import UserError

_MOST_PIXELS = 50_000_000


@dataclass(frozen=True)
class Preprocessing:
    """Resize, crop and normalise.

    An image with both sides below `crop` is resized straight to `crop` x `crop`; any other gets its short side
    resized to `resize` and its centre cropped. `mean` and `std` are per channel, in units of the range [0, 1].
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    resize: int
    crop: int
    interpolation: str = "bilinear"
    antialias: bool = True

    def at(self, image_size: int | None) -> "Preprocessing":
        """The same for another crop: the larger images are resized to 256/224 of it, as ImageNet networks have it."""
        if image_size is None or image_size == self.crop:
            return self
        return dataclasses.replace(self, crop=image_size, resize=round(256 * image_size / 224))

    def check(self, height: int, width: int) -> None:
        """Raise UserError for an image so long and thin that resizing its short side would take gigabytes."""
        short, long = sorted((height, width))
        resized = self.resize * self.resize * long // max(1, short)
        if long >= self.crop and resized > max(_MOST_PIXELS, 4 * self.resize * self.resize):
            raise UserError(
                f"an image of {width} x {height} pixels would become one of {resized:,} when its short side is resized "
                f"to {self.resize}; cut it into pieces nearer to a square, or take it out"
            )

    def describe(self) -> str:
        """Canonical JSON, for the cache's key."""
        return canonical_json(dataclasses.asdict(self))
