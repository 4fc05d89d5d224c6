"""The views of images, of `features.views`, made of images that are resized and cropped already."""

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import nn
from torch.nn.functional import affine_grid, grid_sample

from features.views import Views

# Degrees, share of the side, and factors: far enough to matter, near enough that a 6 stays no 9.
_ROTATION, _SHIFT, _SCALE, _COLOR = 12.0, 0.075, 0.1, 0.2
_LEAST_SIDE = 0.7
_DRAWN = 11  # numbers for a view of an image


def seen(images: torch.Tensor, views: Views, view: int, rows: Iterable[int] | None = None) -> torch.Tensor:
    """One view of uint8 images (N, C, S, S), in the same form; view 0 is the images themselves.

    rows: those of the images in the training split (N,), on which the view depends beside its number; None where it
    depends on that alone, as of images that are tested, so that new ones are seen in the same way. Views 1 and 2 change
    an image in opposite directions, and so do 3 and 4: an average over an odd number of views leans to no side.
    """
    if not view:
        return images
    drawn = np.stack([_drawn(view, int(row)) for row in rows]) if rows is not None else _drawn(view)[None]
    grid = _grid(drawn, views, images.shape[-2:]).to(images.device)
    return _changed(images.float(), grid, _tints(drawn, views)).to(torch.uint8)


class TestViews(nn.Module):
    """The first `count` views of images that are tested, or of new ones, of a size (height, width).

    It takes floating pixels 0 to 255 (N, C, H, W) and gives (N * count, C, H, W), whole numbers, those of one image one
    after the other.
    """

    __test__ = False  # pytest would take the name for that of a test

    def __init__(self, views: Views, count: int, size: Sequence[int]) -> None:
        super().__init__()
        self.count = count
        self.tints = []
        for view in range(1, count):
            drawn = _drawn(view)[None]
            self.register_buffer(f"grid{view}", _grid(drawn, views, size))
            self.tints.append(_tints(drawn, views))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        grids = [self.get_buffer(f"grid{view}") for view in range(1, self.count)]
        changed = [_changed(images, grid, tints) for grid, tints in zip(grids, self.tints, strict=True)]
        return torch.stack([images, *changed], 1).flatten(0, 1)


def warped(images: torch.Tensor, grid: torch.Tensor) -> torch.Tensor:
    """Images (N, C, H, W), floating, at the places of grids (N, H, W, 2), or all at those of one (1, H, W, 2), from -1
    to 1; what lies outside repeats the border."""
    # Not `len`: torch's exporter makes a constant of it.
    grid = grid if grid.shape[0] > 1 else grid.expand(images.shape[0], -1, -1, -1)
    return grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)


def affine_places(
    angle: np.ndarray, factor: np.ndarray, move: np.ndarray, sign: np.ndarray, size: Sequence[int]
) -> torch.Tensor:
    """Grids (N, H, W, 2) of images of a size (height, width) that are turned by an angle (N,) in radians, made smaller
    by a factor (N,), moved by (N, 2), of which the whole side is 2, and mirrored where the sign (N,) is -1."""
    height, width = size
    cosine, sine = factor * np.cos(angle), factor * np.sin(angle)
    rows = [[sign * cosine, -sine * (height / width), move[:, 0]], [sign * sine * (width / height), cosine, move[:, 1]]]
    theta = torch.from_numpy(np.stack(rows).transpose(2, 0, 1).astype(np.float32))
    return affine_grid(theta, [len(theta), 1, height, width], align_corners=False)


def _drawn(view: int, *row: int) -> np.ndarray:
    """The numbers from -1 to 1 (11,) that decide a view of a row, or of any image."""
    pair, second = divmod(view + 1, 2)
    drawn = np.random.default_rng([pair, *row]).uniform(-1, 1, _DRAWN)
    return -drawn if second else drawn


def _grid(drawn: np.ndarray, views: Views, size: Sequence[int]) -> torch.Tensor:
    rotate, scale, shift, flip, crop = (name in views.augment for name in ("rotate", "scale", "shift", "flip", "crop"))
    angle = np.deg2rad(_ROTATION * drawn[:, 0]) * rotate
    factor = 1 + _SCALE * drawn[:, 1] * scale
    # The grid spans -1 .. 1, so a share of the side counts twice.
    move = 2 * _SHIFT * drawn[:, 2:4] * shift
    sign = np.where(drawn[:, 4] < 0, -1.0, 1.0) if flip else np.ones(len(drawn))
    if crop:
        taken = 1 - (1 - _LEAST_SIDE) * (1 + drawn[:, 5]) / 2
        factor, move = factor * taken, move + drawn[:, 6:8] * (1 - taken)[:, None]
    return affine_places(angle, factor, move, sign, size)


def _tints(drawn: np.ndarray, views: Views) -> torch.Tensor | None:
    """Factors of brightness, contrast and saturation, (3, N, 1, 1, 1), where colours are changed."""
    if "color" not in views.augment:
        return None
    return torch.from_numpy(1 + _COLOR * drawn[:, 8:11].T.astype(np.float32)).reshape(3, -1, 1, 1, 1)


def _changed(images: torch.Tensor, grid: torch.Tensor, tints: torch.Tensor | None) -> torch.Tensor:
    """Pixels from 0 to 255, whole numbers, of such pixels (N, C, S, S)."""
    changed = warped(images, grid)
    if tints is not None:
        brightness, contrast, saturation = tints.to(images.device)
        changed = (changed * brightness).clamp(0, 255)
        middle = changed.mean((1, 2, 3), keepdim=True)
        changed = ((changed - middle) * contrast + middle).clamp(0, 255)
        grey = changed.mean(1, keepdim=True)
        changed = (changed - grey) * saturation + grey
    return changed.round().clamp(0, 255)
