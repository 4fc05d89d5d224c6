"""What happens to an image before the network, as a value: part of a cache's identity and of a saved head.

The work itself is done by `extract.preprocess`; here it only has a name, so that it can be compared, printed and kept
without torch.
"""

import dataclasses
import json
import math
from dataclasses import dataclass
from typing import Any

from features.digests import canonical_json
from features.errors import UserError

CROP_MODES = ("center", "squash", "pad")
DECODE = ("full", "draft")
INTERPOLATIONS = ("bilinear", "bicubic", "nearest")
# What version 0.1.0 did: it squashed an image with both sides below the crop, and enlarged and cropped one with one
# side below. Models that it trained go on being given that.
EARLIER = "center, small ones squashed"

_MOST_PIXELS = 50_000_000
# Of what a JPEG is resized to, on each side: so much is decoded at the least. Reduced further, its pixels differ more
# from those of the whole (a photograph of 12 megapixels for a network of 224 pixels: by 0.44 of 255 levels on average
# instead of 0.16), and entropy decoding, which always is of the whole, takes most of the time as it is.
_DRAFT = 2


@dataclass(frozen=True)
class Preprocessing:
    """Resize, crop and normalise.

    crop_mode: 'center' resizes the short side to `resize`, or to `crop` where it is below that (a digit must not lose
    its edges), and crops the centre; 'squash' resizes to `crop` x `crop`; 'pad' resizes the long side to `crop` and
    fills up with the mean. `mean` and `std` are per channel, in units of the range [0, 1]. decode: 'draft' has JPEG
    files decoded at a half, a quarter or an eighth of their size where that leaves twice of what they are resized to.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    resize: int
    crop: int
    interpolation: str = "bilinear"
    antialias: bool = True
    crop_mode: str = "center"
    decode: str = "full"

    def at(self, image_size: int | None) -> "Preprocessing":
        """The same for another crop: the larger images are resized to 256/224 of it, as ImageNet networks have it."""
        if image_size is None or image_size == self.crop:
            return self
        return dataclasses.replace(self, crop=image_size, resize=round(256 * image_size / 224))

    def resized(self, height: int, width: int) -> tuple[int, int]:
        """The height and width that an image is resized to, before it is cropped or filled up."""
        short, long = sorted((height, width))
        if self.crop_mode == "squash" or (self.crop_mode == EARLIER and long < self.crop):
            return self.crop, self.crop
        if self.crop_mode == "pad":
            scale = self.crop / long
            return max(1, round(height * scale)), max(1, round(width * scale))
        target = self.crop if short < self.crop and self.crop_mode != EARLIER else self.resize
        # As torchvision rounds where it is given the short side.
        return (target, int(target * width / height)) if height <= width else (int(target * height / width), target)

    def decoded(self, height: int, width: int) -> tuple[int, int]:
        """The height and width that an image is decoded at, at the least."""
        if self.decode == "full":
            return height, width
        low, narrow = self.resized(height, width)
        return _DRAFT * low, _DRAFT * narrow

    def check(self, height: int, width: int) -> None:
        """Raise UserError for an image so long and thin that resizing its short side would take gigabytes."""
        new_height, new_width = self.resized(max(1, height), max(1, width))
        pixels = new_height * new_width
        if pixels > max(_MOST_PIXELS, 4 * self.resize * self.resize):
            raise UserError(
                f"an image of {width} x {height} pixels would become one of {pixels:,} when its short side is resized "
                f"to {min(new_height, new_width)}; cut it into pieces nearer to a square, take it out, or give "
                "--crop-mode squash or pad"
            )

    def describe(self, oblong: int | None = None) -> str:
        """Canonical JSON, for the cache's key.

        oblong: the shortest side of the images that are no squares; None where all are. The crop mode is left out
        where version 0.1.0, whose keys had none, did the same to all images, and so is what is decoded in full.
        """
        fields = dataclasses.asdict(self)
        if self.decode == "full":
            del fields["decode"]
        if self.crop_mode == EARLIER or (self.crop_mode == "center" and (oblong is None or oblong >= self.crop)):
            del fields["crop_mode"]
        return canonical_json(fields)

    @classmethod
    def parse(cls, described: str, crop_mode: str = EARLIER) -> "Preprocessing":
        """What `describe` wrote; crop_mode: where it was left out. ValueError, KeyError or TypeError for other text."""
        fields = {"crop_mode": crop_mode, **json.loads(described)}
        steps = cls(**{**fields, "mean": tuple(fields["mean"]), "std": tuple(fields["std"])})
        numbers = (*steps.mean, *steps.std)
        if len(steps.mean) != len(steps.std) or not all(type(number) in (int, float) for number in numbers):
            raise ValueError(described)
        if type(steps.crop) is not int or type(steps.resize) is not int:
            raise ValueError(described)
        if steps.interpolation not in INTERPOLATIONS or steps.crop_mode not in (*CROP_MODES, EARLIER):
            raise ValueError(described)
        if steps.decode not in DECODE:
            raise ValueError(described)
        return steps

    def in_words(self) -> str:
        """What happens to an image's size, for people who have to do the same elsewhere."""
        square = f"{self.crop} x {self.crop}"
        words = {
            "squash": f"an image is resized to {square}, whatever its shape",
            "pad": f"an image has its long side resized to {self.crop} and is filled up to {square}, itself in the "
            "middle, with the mean",
            EARLIER: f"an image with both sides below {self.crop} pixels is resized to {square}; any other has its "
            f"short side resized to {self.resize} and its centre cropped to {square}",
            "center": f"an image has its short side resized to {self.resize}, or to {self.crop} where it is below "
            f"{self.crop}, and its centre cropped to {square}",
        }
        how = f"{self.interpolation}{', antialiased' if self.antialias else ''}"
        if self.decode == "draft":
            how += f", a JPEG decoded at a half, a quarter or an eighth where that leaves {_DRAFT} times as many pixels"
        return f"{words[self.crop_mode]} ({how})"


class Scaled(Preprocessing):
    """Of networks whose larger images are resized to the same multiple of any crop as of their own."""

    def at(self, image_size: int | None) -> "Preprocessing":
        """The same for another crop."""
        if image_size is None or image_size == self.crop:
            return self
        return dataclasses.replace(self, crop=image_size, resize=round(self.resize * image_size / self.crop))


@dataclass(frozen=True)
class Preparation:
    """What is asked for in place of a network's own preprocessing; None: what that has.

    The fields are those of `Preprocessing`, with image_size for `crop`; mean and std of one number are that of every
    channel. crop_mode 'center' is the network's own, which a few have as 'squash'.
    """

    image_size: int | None = None
    crop_mode: str = "center"
    resize: int | None = None
    interpolation: str | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    decode: str = "full"

    def require_legal(self) -> None:
        """Raise UserError for what no network can be given, naming the option."""
        for name, side in (("--image-size", self.image_size), ("--resize", self.resize)):
            if side is not None and not 8 <= side <= 4096:
                raise UserError(f"{name} {side}: give a number of pixels between 8 and 4096")
        if self.crop_mode not in CROP_MODES:
            raise UserError(
                f"--crop-mode {self.crop_mode}: images are brought to a square by {', '.join(CROP_MODES)}; give one"
            )
        if self.resize is not None and self.crop_mode != "center":
            raise UserError(
                f"--resize {self.resize} is about --crop-mode center; with {self.crop_mode} images are resized to "
                "--image-size, so leave it out"
            )
        if self.decode not in DECODE:
            raise UserError(f"--decode {self.decode}: JPEG files are decoded in {' or in '.join(DECODE)}; give one")
        if self.interpolation not in (None, *INTERPOLATIONS):
            raise UserError(f"--interpolation {self.interpolation}: give one of {', '.join(INTERPOLATIONS)}")
        for name, numbers, least in (("--mean", self.mean, -math.inf), ("--std", self.std, 0.0)):
            if numbers is None:
                continue
            shown = " ".join(f"{number:g}" for number in numbers)
            if len(numbers) not in (1, 3):
                raise UserError(f"{name} {shown}: give three numbers, for red, green and blue, or one for all")
            if not all(least < number <= 1 and math.isfinite(number) for number in numbers):
                raise UserError(
                    f"{name} {shown}: pixels are taken as 0 to 1; give numbers "
                    f"{'above 0 and ' if least == 0 else ''}up to 1, divided by 255 where yours are of 0 to 255"
                )

    @classmethod
    def exactly(cls, steps: Preprocessing) -> "Preparation":
        """What is asked for to have these steps with whatever weights."""
        resize = steps.resize if steps.crop_mode == "center" else None
        return cls(steps.crop, steps.crop_mode, resize, steps.interpolation, steps.mean, steps.std, steps.decode)

    @property
    def is_complete(self) -> bool:
        """Whether nothing of a network's own is left but the size of its input."""
        sized = self.resize is not None or self.crop_mode != "center"
        return sized and None not in (self.interpolation, self.mean, self.std)

    def of(self, own: Preprocessing) -> Preprocessing:
        """A network's own preprocessing with what was asked for; UserError where the two do not go together."""
        own_mode = own.crop_mode if self.crop_mode == "center" else self.crop_mode
        steps = dataclasses.replace(own.at(self.image_size), crop_mode=own_mode, decode=self.decode)
        channels = len(own.mean)
        mean, std = (
            numbers * channels if numbers is not None and len(numbers) == 1 else numbers
            for numbers in (self.mean, self.std)
        )
        asked = {"resize": self.resize, "interpolation": self.interpolation, "mean": mean, "std": std}
        given: dict[str, Any] = {name: value for name, value in asked.items() if value is not None}
        steps = dataclasses.replace(steps, **given)
        if self.resize is not None and self.resize < steps.crop:
            raise UserError(
                f"--resize {self.resize}: a crop of {steps.crop} pixels would reach beyond the image; give "
                f"{steps.crop} or more, or a smaller --image-size"
            )
        return steps


AS_THE_WEIGHTS_WANT = Preparation()
