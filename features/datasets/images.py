"""Images in files, read one at a time into arrays.

What a file becomes: 'L' stays greyscale, black-and-white becomes greyscale 0 or 255, 16-bit greyscale is scaled to 8
bits, everything else becomes RGB. Transparent pixels are laid over white, since the colour stored below full
transparency is arbitrary. The orientation in a photograph's EXIF data is applied. Of an animation the first picture
is taken. Whoever changes any of this changes the features: raise `READING`, which is part of the fingerprints.
"""

import stat
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from features.errors import UserError

READING = 1
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".pbm")


@dataclass(frozen=True)
class ImageFiles:
    """Images that stay in their files; row i is the file paths[i]. Can be pickled and read from several threads."""

    paths: tuple[Path, ...]

    def __len__(self) -> int:
        return len(self.paths)

    def read(self, row: int) -> np.ndarray:
        """One image as uint8 (H, W) if it is greyscale, else (H, W, 3); UserError with the path if it is unreadable."""
        return read_image(self.paths[row])


def read_image(source: Path | BinaryIO, name: str = "") -> np.ndarray:
    """The image in a file or stream as uint8 (H, W) if it is greyscale, else (H, W, 3).

    UserError with its path, or the name given, if it is unreadable.
    """
    from PIL import Image

    try:
        if isinstance(source, Path) and not stat.S_ISREG(source.stat().st_mode):
            # A pipe under an image's name would be waited for without end.
            raise ValueError("it is no regular file")
        with Image.open(source) as image:
            if Image.MAX_IMAGE_PIXELS and image.width * image.height > Image.MAX_IMAGE_PIXELS:
                raise Image.DecompressionBombError(
                    f"its {image.width} x {image.height} pixels are more than the {Image.MAX_IMAGE_PIXELS} that "
                    "Pillow takes for harmless"
                )
            return _pixels(image)
    except Exception as error:
        # Decoders meet damaged files with exceptions of every kind; all of them mean this file. A few bytes can ask for
        # any amount of memory.
        reason = " ".join(str(error).split()) or type(error).__name__
        reason = "it asks for more memory than there is" if isinstance(error, MemoryError) else reason
        raise UserError(f"cannot read the image {name or source} ({reason}); replace it or take it out") from error


def _pixels(image) -> np.ndarray:
    from PIL import Image, ImageOps

    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise ValueError(f"its values reach from {values.min()} to {values.max()}, beyond 16 bits")
        return np.round(values / 257).astype(np.uint8)
    if image.mode == "F":
        raise ValueError("it holds floating-point numbers; save it with 8 or 16 bits")
    if image.mode == "1":
        image = image.convert("L")
    grey = image.mode in ("L", "LA", "La")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    if grey:
        return np.array(image.convert("L"))
    return np.array(image.convert("RGB"))


def is_image(name: str) -> bool:
    """Whether a file's name is that of an image; hidden files are not."""
    return not name.startswith(".") and name.lower().endswith(IMAGE_SUFFIXES)
