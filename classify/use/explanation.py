"""What was found of one image's decision, and a picture of it; `classify.use.explaining` finds it."""

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image

_SMALLEST = 224  # pixels of a picture's side
_FOR, _AGAINST = np.array([215, 48, 39], np.float32), np.array([69, 117, 180], np.float32)
_STRONGEST = 0.8  # of the colour over the image


@dataclass(frozen=True, eq=False)
class Explanation:
    """Why one class and not another, of one image.

    over: the other class. margin: of the class over it. places: the part of each place in the margin, float32 (H, W),
    of one map, or of several together, brought to the size of the largest. pixels: the image as the network took it,
    uint8 (S, S, 3).
    """

    over: str
    margin: float
    places: np.ndarray
    pixels: np.ndarray

    def picture(self) -> Image.Image:
        """The image, and beside it in grey with what speaks for the class in red and against it in blue, as strong as
        the strongest of its places lets it be."""
        image = Image.fromarray(self.pixels)
        size = image.width * max(1, math.ceil(_SMALLEST / image.width))
        image = image.resize((size, size), Image.Resampling.BICUBIC)
        strength = np.asarray(
            Image.fromarray(self.places.astype(np.float32)).resize((size, size), Image.Resampling.BILINEAR)
        )
        strength = strength / (np.abs(strength).max() or 1.0)
        colour = np.where(strength[..., None] > 0, _FOR, _AGAINST)
        share = _STRONGEST * np.abs(strength)[..., None]
        grey = np.asarray(image.convert("L"), np.float32)[..., None]
        laid_over = Image.fromarray(np.uint8((1 - share) * grey + share * colour))
        both = Image.new("RGB", (2 * size + 8, size), "white")
        both.paste(image, (0, 0))
        both.paste(laid_over, (size + 8, 0))
        return both
