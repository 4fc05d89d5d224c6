"""Images in files, read one at a time into arrays.

What a file becomes: 'L' stays greyscale, black-and-white becomes greyscale 0 or 255, more than 8 bits and
floating-point numbers are scaled to 8 bits, everything else becomes RGB. What is white then, the data set says
(`features.datasets.white`). Transparent pixels are laid over white, since the colour stored below full transparency is
arbitrary. The orientation in a photograph's EXIF data is applied. Of an animation the first picture is taken. Whoever
changes any of this changes the features: raise `READING`, which is part of the fingerprints.
"""

import contextlib
import dataclasses
import functools
import io
import stat
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Self

import numpy as np

from features.datasets.content import LOOK, kind_of
from features.datasets.pixels import most_pixels, pixels_held, take_pixels
from features.datasets.white import DEEPEST, White, as_bytes, extremes, real_white, whole_white
from features.errors import UserError

READING = 1
FIRST_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".pbm")  # of 0.1.0
IMAGE_SUFFIXES = (*FIRST_SUFFIXES, ".jfif", ".jpe", ".avif", ".jp2", ".j2k", ".heic", ".heif", ".pnm")
# Of what Pillow knows: pixels alone. Drawings would be run (PostScript) or need a size (WMF). Nothing else asks Pillow
# to open anything.
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "DIB", "GIF", "TIFF", "PPM", "AVIF", "JPEG2000", "HEIF", "ICO")
_TWELVE_BITS = 4095
_UNKNOWN = White()
_DIM = 64  # of the 256 levels that Pillow leaves of 16-bit colours; below this all 16 bits are looked at


# From an image's height and width to another.
Least = Callable[[int, int], tuple[int, int]]


@dataclass(frozen=True)
class ImageFiles:
    """Images that stay in their files; row i is the file paths[i]. Can be pickled and read from several threads. A loop
    over them reads each when it is its turn: photographs are never in memory together.

    white: of the data set that they belong to. least: of an image's height and width, those to decode it at, at the
    least.
    """

    paths: tuple[Path, ...]
    white: White = _UNKNOWN
    least: Least | None = None

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, rows: slice) -> "ImageFiles":
        return self.take(np.arange(len(self))[rows])

    def __iter__(self) -> Iterator[np.ndarray]:
        return map(self.read, range(len(self)))

    @property
    def identity(self) -> str:
        """What tells them from others, without reading one."""
        return "\n".join(map(str, self.paths))

    def take(self, rows: np.ndarray) -> "ImageFiles":
        """These rows of them."""
        return dataclasses.replace(self, paths=tuple(self.paths[row] for row in rows.tolist()))

    def joined(self, other: "ImageFiles") -> "ImageFiles":
        """These, and others of the same data set behind them."""
        return dataclasses.replace(self, paths=self.paths + other.paths)

    def decoded_at(self, least: Least) -> Self:
        """The same, of which JPEG files are decoded at a half, a quarter or an eighth where `least` allows it."""
        return dataclasses.replace(self, least=least)

    def source(self, row: int) -> Path | BinaryIO:
        """What an image is read from."""
        return self.paths[row]

    def name(self, row: int) -> str:
        """What people call an image."""
        return str(self.paths[row])

    def read(self, row: int) -> np.ndarray:
        """One image as uint8 (H, W) if it is greyscale, else (H, W, 3); UserError with the path if it is unreadable."""
        source = self.source(row)
        return read_image(
            source, "" if isinstance(source, Path) else self.name(row), white=self.white, least=self.least
        )


class ReadingWarning(UserWarning):
    """What should be known of an image that was read all the same."""


@dataclass(frozen=True)
class Pixels:
    """The numbers in an image before they are scaled to 8 bits.

    kind: 'shallow' for up to 8 bits, 'deep' for more, 'real' for floating-point numbers. values: (H, W) or (H, W, 3).
    alpha: of 16 bits, (H, W), where it is still to be laid over white. is_coarse: whether values are the higher 8 of
    16 bits. least_white: what is white at the least, where the file says how many bits it has.
    """

    kind: str
    values: np.ndarray
    alpha: np.ndarray | None = None
    is_coarse: bool = False
    least_white: int = 0

    @property
    def extremes(self) -> tuple[float, float]:
        """The least and the largest number."""
        low, high = extremes(self.values)
        return (257 * low, 257 * high) if self.is_coarse else (low, high)

    @property
    def spread(self) -> float:
        """How far the numbers of a channel lie apart; of several channels the largest such distance."""
        channels = self.values.reshape(-1, self.values.shape[2] if self.values.ndim == 3 else 1)
        spread = (channels.max(axis=0).astype(float) - channels.min(axis=0)).max()
        return float(257 * spread if self.is_coarse else spread)


def read_image(
    source: Path | BinaryIO, name: str = "", white: White = _UNKNOWN, least: Least | None = None
) -> np.ndarray:
    """The image in a file or stream as uint8 (H, W) if it is greyscale, else (H, W, 3).

    white: of what it belongs to. least: as `ImageFiles` has it. UserError with its path, or the name given, if it is
    unreadable.
    """
    with being_read(name or str(source)):
        try:
            with opened(source) as image:
                if least:
                    draft(image, least)
                return _scaled(pixels_of(image, source, white.deep), white)
        except Exception as error:
            # Decoders meet damaged files with exceptions of every kind; all of them mean this file.
            reason = reason_for(error)
            raise UserError(f"cannot read the image {name or source} ({reason}); replace it or take it out") from error


def draft(image: Any, least: Least) -> None:
    """Have Pillow's image, not read yet, decoded at a half, a quarter or an eighth, by the means of so many pixels,
    where that leaves `least` of the upright image: JPEG alone can, in the decoder's own transform."""
    from PIL import ExifTags

    if image.format not in ("JPEG", "MPO"):
        return
    turned = image.getexif().get(ExifTags.Base.Orientation, 1) in (5, 6, 7, 8)
    height, width = least(image.width, image.height)[::-1] if turned else least(image.height, image.width)
    image.draft(None, (width, height))


def pillow_in_8_bits(image: Any, name: str) -> np.ndarray:
    """The pixels of Pillow's image, wherever it is from, as `read_image` gives them; UserError where there are none."""
    try:
        return _scaled(pixels_of(image, io.BytesIO()), _UNKNOWN)
    except Exception as error:
        raise UserError(f"cannot read {name} ({reason_for(error)}); replace it or take it out") from error


def reason_for(error: Exception) -> str:
    """What an exception says of a file, in one line without its path."""
    if isinstance(error, MemoryError):
        # A few bytes can ask for any amount.
        return "it asks for more memory than there is"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split()) or type(error).__name__


@contextlib.contextmanager
def warnings_by_file(note: Callable[[str, str], object]) -> Iterator[None]:
    """Meanwhile have `note` called with an image's name and the text of what Pillow, or this module, warns of it, in
    the thread that reads it; other warnings go their way."""
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        show = warnings.showwarning

        def tell(message: Any, category: Any, filename: str, *rest: Any, **named: Any) -> None:
            name = getattr(_reading, "name", None)
            if category.__name__ == "DecompressionBombWarning":
                # Such images are refused.
                return
            if name is not None and ("PIL" in Path(filename).parts or issubclass(category, ReadingWarning)):
                note(name, " ".join(str(message).split()))
            else:
                show(message, category, filename, *rest, **named)

        warnings.showwarning = tell
        yield


_reading = threading.local()


@contextlib.contextmanager
def being_read(name: str) -> Iterator[None]:
    """Meanwhile this thread reads the image of this name, for `warnings_by_file`."""
    _reading.name = name
    try:
        yield
    finally:
        del _reading.name


@contextlib.contextmanager
def opened(source: Path | BinaryIO) -> Iterator[Any]:
    """Pillow's image of a file or stream, whose pixels are not read yet; errors of many kinds.

    What it is, its content says and not its name; ValueError that says so where it is something else than an image.
    """
    from PIL import Image, UnidentifiedImageError

    if isinstance(source, Path) and not stat.S_ISREG(source.stat().st_mode):
        # A pipe under an image's name would be waited for without end.
        raise ValueError("it is no regular file")
    limit = most_pixels()
    try:
        image = Image.open(source, formats=_formats())
    except UnidentifiedImageError as error:
        raise ValueError(kind_of(_start_of(source))) from error
    with image, pixels_held():
        if limit and image.width * image.height > limit:
            raise Image.DecompressionBombError(
                f"its {image.width} x {image.height} pixels are more than the {limit} that are taken for harmless; "
                "--max-pixels takes more"
            )
        yield image


@functools.cache
def _formats() -> tuple[str, ...]:
    from PIL import Image

    Image.init()
    with contextlib.suppress(ImportError):
        import pillow_heif

        pillow_heif.register_heif_opener()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


def _start_of(source: Path | BinaryIO) -> bytes:
    if isinstance(source, Path):
        with source.open("rb") as stream:
            return stream.read(LOOK)
    source.seek(0)
    return source.read(LOOK)


def may_hold_more(image: Any) -> bool:
    """Whether Pillow's image, not read yet, holds more than 8 bits or floating-point numbers."""
    return image.mode.startswith(("I", "F")) or ";16" in str(image.tile)


def pixels_of(image: Any, source: Path | BinaryIO, deep: int | None = None) -> Pixels:
    """The pixels of Pillow's image, which was opened from this source, turned upright; ValueError for what cannot be
    shown.

    deep: what is white in images of more than 8 bits, where that is known.
    """
    take_pixels(image.width * image.height)
    raw_mode = str(getattr(image, "tile", ""))  # what was made by hand has none
    has_deep_colours = image.mode in ("RGB", "RGBA") and ";16" in raw_mode
    image = _upright(image)
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.int64)
        return Pixels("deep", values, least_white=_TWELVE_BITS if "I;12" in raw_mode else 0)
    if image.mode == "F":
        return Pixels("real", np.asarray(image))
    if not has_deep_colours:
        return Pixels("shallow", _in_8_bits(image))
    if deep == DEEPEST or (deep is None and max(high for _, high in image.getextrema()[:3]) >= _DIM):
        return Pixels("deep", _in_8_bits(image), is_coarse=True)
    return _deep_colours(image, source)


def _upright(image: Any) -> Any:
    """Pillow's image turned as its EXIF data says; itself, where Pillow would copy what is upright."""
    from PIL import ExifTags, ImageOps

    image.load()
    is_turned = image.getexif().get(ExifTags.Base.Orientation, 1) in range(2, 9)
    return ImageOps.exif_transpose(image) if is_turned else image


def _in_8_bits(image: Any) -> np.ndarray:
    from PIL import Image

    if image.mode == "1":
        image = image.convert("L")
    grey = image.mode in ("L", "LA", "La")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    mode = "L" if grey else "RGB"
    return np.array(image if image.mode == mode else image.convert(mode))


def _deep_colours(image: Any, source: Path | BinaryIO) -> Pixels:
    """All 16 bits of colours, of which Pillow gives the higher 8: the lower ones are read as if they were those.

    image: the same with its higher bits, upright.
    """
    if not isinstance(source, Path):
        source.seek(0)
    with opened(source) as other:
        is_grey = "LA;16" in str(other.tile)
        other.tile = [_with_lower_bytes(tile) for tile in other.tile]
        lower = np.asarray(_upright(other)).astype(np.int64)
    if is_grey:
        # Its four bytes: grey and alpha, the higher byte first.
        values, alpha = lower[..., 0] * 256 + lower[..., 1], lower[..., 2] * 256 + lower[..., 3]
        return Pixels("deep", np.stack([values] * 3, axis=-1), alpha)
    values = np.asarray(image).astype(np.int64) * 256 + lower
    if values.shape[-1] == 4:
        return Pixels("deep", values[..., :3], values[..., 3])
    clear = np.asarray(image.convert("RGBA"))[..., 3].astype(np.int64) * 257 if image.has_transparency_data else None
    return Pixels("deep", values, clear)


def _with_lower_bytes(tile: Any) -> Any:
    """What Pillow is told to decode, with its numbers' bytes in the other order; grey and alpha as four bytes."""
    mode = tile[3] if isinstance(tile[3], str) else tile[3][0]
    native = "L" if sys.byteorder == "little" else "B"
    order = {"L": "B", "B": "L"}[native if mode.endswith("N") else mode[-1]]
    mode = "RGBA" if mode.startswith("LA") else mode[:-1] + order
    arguments = mode if isinstance(tile[3], str) else (mode, *tile[3][1:])
    return tile._replace(args=arguments) if hasattr(tile, "_replace") else (*tile[:3], arguments)


def _scaled(pixels: Pixels, white: White) -> np.ndarray:
    """Pixels as uint8, by what is white in what they belong to; ValueError for those that are beyond it."""
    if pixels.is_coarse or pixels.kind == "shallow":
        return pixels.values
    highest = max(pixels.extremes[1], pixels.least_white)
    known = white.deep if pixels.kind == "deep" else white.real
    if known is None:
        known = whole_white(highest) if pixels.kind == "deep" else real_white(highest)
        if known not in (1, DEEPEST):
            numbers = "more than 8 bits" if pixels.kind == "deep" else "floating-point numbers"
            warnings.warn(
                f"it holds {numbers}, and nothing says what is white: {known:g} is taken for it, going by this image",
                ReadingWarning,
                stacklevel=4,
            )
    if not white.certain and pixels.kind == "deep" and highest < known / 4:
        raise ValueError(
            f"its values reach to {highest:,.0f} of {known:,}, and the model was trained by version 0.1.0, which did "
            "not note what is white in images of more than 8 bits: train it again"
        )
    scaled = as_bytes(pixels.values, known)
    if pixels.alpha is None:
        return scaled
    return _over_white(scaled, as_bytes(pixels.alpha, known if pixels.alpha.max() <= known else DEEPEST))


def _over_white(colours: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    from PIL import Image

    image = Image.fromarray(np.dstack([colours, alpha]), "RGBA")
    return np.array(Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB"))
