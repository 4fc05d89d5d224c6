"""Where a network's input comes from, a batch at a time: uint8 images, or the cached maps of the layer at the cut.

Whole batches are tensor operations on the thread that trains, because two teams of threads get in each other's way.
Image files alone are read and resized one by one, by several threads: a batch of photographs is never in memory at
their own size. A batch is read while the one before it trains. What augmentation draws depends on the seed, the epoch
and the place in it alone.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

from classify.heads.estimator import FitError
from extract.preprocess import Preprocessor
from extract.views import affine_places, warped
from features.datasets import ImageFiles
from features.datasets.pixels import pixels_held

# Degrees, share of the side, and factor: far enough to matter, near enough that a 6 stays no 9.
_ROTATION, _SHIFT, _SCALE = 15.0, 0.1, 0.1

Seen = Callable[[torch.Tensor], torch.Tensor]


class Inputs(Protocol):
    """Rows that a network can be fed with."""

    def __len__(self) -> int: ...

    def read(self, rows: np.ndarray) -> Any:
        """These rows in memory, as they are kept."""
        ...

    def prepare(self, read: Any, draw: np.random.Generator | None = None) -> torch.Tensor:
        """The network's input for what was read, float32, on its device; augmented where a generator is given."""
        ...


@dataclass(eq=False)
class ImageSource:
    """uint8 images, preprocessed, augmented on demand, and run through the frozen trunk where there is one.

    preprocess: an array or a list of images to the network's input; several threads call it. seen: what makes several
    of each image, one after the other, over which is decided.
    """

    images: np.ndarray | ImageFiles
    preprocess: Callable[[Any], torch.Tensor]
    trunk: Callable[[torch.Tensor], torch.Tensor] | None = None
    augment: Sequence[str] = ()
    seen: Seen | None = None

    def __post_init__(self) -> None:
        self._readers = ThreadPoolExecutor(8, "decode")  # no thread is started before there is work

    def __len__(self) -> int:
        return len(self.images)

    def read(self, rows: np.ndarray) -> np.ndarray | torch.Tensor:
        """uint8 images, or preprocessed ones where they come from files."""
        files = self.images
        if isinstance(files, np.ndarray):
            return files[rows]

        def preprocessed(row: int) -> torch.Tensor:
            with pixels_held():
                return self.preprocess([files.read(row)])

        return torch.cat(list(self._readers.map(preprocessed, rows.tolist())))

    def prepare(self, read: np.ndarray | torch.Tensor, draw: np.random.Generator | None = None) -> torch.Tensor:
        ready = self.preprocess(read) if isinstance(read, np.ndarray) else read
        if draw is not None and self.augment:
            ready = augment_images(ready, self.augment, draw)
        ready = ready if self.seen is None else self.seen(ready)
        return ready if self.trunk is None else self.trunk(ready)


@dataclass(frozen=True, eq=False)
class Ready:
    """Preprocessed images, float32 (N, 3, S, S), run through the frozen trunk where there is one; seen as above."""

    images: torch.Tensor
    trunk: Callable[[torch.Tensor], torch.Tensor] | None = None
    seen: Seen | None = None

    def __len__(self) -> int:
        return len(self.images)

    def read(self, rows: np.ndarray) -> torch.Tensor:
        return self.images[torch.from_numpy(rows)]

    def prepare(self, read: torch.Tensor, draw: np.random.Generator | None = None) -> torch.Tensor:
        ready = read if self.seen is None else self.seen(read)
        return ready if self.trunk is None else self.trunk(ready)


@dataclass(frozen=True, eq=False)
class Part:
    """Some rows of cached maps, read from the whole when they are needed: a part of a large file is never copied."""

    whole: np.ndarray
    rows: np.ndarray

    @property
    def dtype(self) -> np.dtype:
        return self.whole.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.rows), *self.whole.shape[1:])

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, places: Any) -> np.ndarray:
        return self.whole[self.rows[places]]


class MapSource:
    """Cached maps (N, C, H, W), float32 or float16, for a tail that takes `shape` for one image."""

    def __init__(
        self, maps: np.ndarray | Part, shape: tuple[int, ...], layout: str, device: torch.device | str = "cpu"
    ) -> None:
        stored = (shape[2], *shape[:2]) if layout == "map last" else shape
        if maps.dtype not in (np.float32, np.float16) or maps.size != len(maps) * math.prod(shape):
            raise FitError(
                f"features of shape {maps.shape} and type {maps.dtype} are not what the network takes above the cut, "
                f"(N, {', '.join(map(str, stored))}) in float32 or float16; extract that layer with --pool none at the "
                "same --image-size, or give images as uint8"
            )
        if tuple(maps.shape[1:]) not in (stored, tuple(side for side in stored if side > 1)):
            raise FitError(f"features of shape {maps.shape} are not maps of {stored}; extract them with --pool none")
        self.maps = maps
        self.stored = stored
        self.last = layout == "map last"
        self.device = torch.device(device)

    def __len__(self) -> int:
        return len(self.maps)

    def read(self, rows: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(self.maps[rows])

    def prepare(self, read: np.ndarray, draw: np.random.Generator | None = None) -> torch.Tensor:
        """The tail's input, float32, in the tail's own layout."""
        batch = torch.from_numpy(read).to(self.device, non_blocking=True).float().view(len(read), *self.stored)
        return batch.permute(0, 2, 3, 1) if self.last else batch


def source_for(
    X: Any,
    *,
    shape: tuple[int, ...],
    layout: str,
    preprocessor: Preprocessor,
    trunk: Callable[[torch.Tensor], torch.Tensor] | None,
    augment: Sequence[str] = (),
    seen: Seen | None = None,
) -> Inputs:
    """A source for uint8 images (N, H, W), (N, H, W, 3) or ImageFiles, or for cached maps (an array or a `Part` of
    one), which are not augmented."""
    if is_images(X):
        return ImageSource(preprocessor.decoded(X), preprocessor, trunk, augment, seen)
    if seen is not None:
        raise FitError("several views are made of images, and cached maps hold each as it is; give uint8 images")
    X = X if isinstance(X, Part) else np.asanyarray(X)
    if trunk is None:
        raise FitError(
            f"a network that is trained from its input on takes uint8 images (N, H, W) or (N, H, W, 3), not "
            f"{X.dtype} of shape {X.shape}"
        )
    return MapSource(X, shape, layout, preprocessor.device)


def is_images(X: Any) -> bool:
    """Whether these are images as a data set gives them, rather than features."""
    return isinstance(X, ImageFiles) or (isinstance(X, np.ndarray) and X.dtype == np.uint8 and X.ndim in (3, 4))


def channels_last(batch: torch.Tensor) -> torch.Tensor:
    """A batch laid out as convolutions like it best; tokens and rows stay as they are."""
    return batch.contiguous(memory_format=torch.channels_last) if batch.ndim == 4 else batch


def even_batches(order: np.ndarray, size: int) -> list[np.ndarray]:
    """Cut an epoch into batches of nearly equal size, at most `size`: none is so small that its statistics mislead."""
    count = max(1, math.ceil(len(order) / size))
    if len(order) // count < 2:
        count = max(1, len(order) // 2) if size > 1 else count
    return np.array_split(order, count)


def read_ahead(
    source: Inputs, batches: Sequence[tuple[np.ndarray, np.random.Generator | None]]
) -> Iterator[torch.Tensor]:
    """The batches in order, each read while the caller works on the one before."""
    if not batches:
        return
    with ThreadPoolExecutor(1, "read") as pool:
        ahead = pool.submit(source.read, batches[0][0])
        for place, (_, draw) in enumerate(batches):
            current = ahead
            if place + 1 < len(batches):
                ahead = pool.submit(source.read, batches[place + 1][0])
            yield source.prepare(current.result(), draw)


def augment_images(images: torch.Tensor, kinds: Sequence[str], draw: np.random.Generator) -> torch.Tensor:
    """One affine map for each image (B, C, H, W), drawn from `draw`; pixels from outside repeat the border."""
    count = len(images)
    rotate, scale, shift, flip = (name in kinds for name in ("rotate", "scale", "shift", "flip"))
    angle = np.deg2rad(draw.uniform(-_ROTATION, _ROTATION, count)) * rotate
    factor = 1 + draw.uniform(-_SCALE, _SCALE, count) * scale
    # The grid spans -1 .. 1, so a share of the side counts twice.
    move = 2 * draw.uniform(-_SHIFT, _SHIFT, (count, 2)) * shift
    sign = np.where(draw.random(count) < 0.5, -1.0, 1.0) if flip else np.ones(count)
    return warped(images, affine_places(angle, factor, move, sign, images.shape[-2:]).to(images.device))
