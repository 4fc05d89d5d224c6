"""Corruptions of test images at five severities: noise, blur, geometry, occlusion, contrast, inversion and stripes.

Lengths are shares of the image's side, so that digits of 28 pixels and photographs are hurt alike. What is drawn
(signs, places, noise) depends on the seed, the corruption and the severity alone: the same images give the same array
again. Uncovered corners are black. Geometry and colour are torchvision's own transforms (v2).
"""

from collections.abc import Callable

import numpy as np
import torch
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional

from features.errors import UserError

SEVERITIES = (1, 2, 3, 4, 5)

_BILINEAR = InterpolationMode.BILINEAR
# Batch (N, C, H, W) uint8, strength, generator -> the same shape.
_Change = Callable[[torch.Tensor, float, np.random.Generator], torch.Tensor]


def corrupt(images: np.ndarray, name: str, severity: int, seed: int = 0) -> np.ndarray:
    """uint8 images (N, H, W) or (N, H, W, 3), changed; a new array of the same shape. Raises UserError."""
    if name not in CORRUPTIONS:
        raise UserError(f"there is no corruption called {name!r}; choose from {', '.join(CORRUPTIONS)}")
    if severity not in SEVERITIES:
        raise UserError(f"severity {severity}: give one from {SEVERITIES[0]} to {SEVERITIES[-1]}")
    change, strengths = CORRUPTIONS[name]
    draw = np.random.default_rng([seed, list(CORRUPTIONS).index(name), severity])
    batch = torch.from_numpy(np.ascontiguousarray(images))
    batch = batch[:, None] if images.ndim == 3 else batch.permute(0, 3, 1, 2).contiguous()
    changed = change(batch, strengths[severity - 1], draw)
    changed = changed[:, 0] if images.ndim == 3 else changed.permute(0, 2, 3, 1)
    return np.ascontiguousarray(changed.numpy())


def _noise(batch: torch.Tensor, deviation: float, draw: np.random.Generator) -> torch.Tensor:
    noisy = batch.numpy() + 255 * deviation * draw.standard_normal(batch.shape, dtype=np.float32)
    return torch.from_numpy(np.clip(np.round(noisy), 0, 255).astype(np.uint8))


def _blur(batch: torch.Tensor, share: float, draw: np.random.Generator) -> torch.Tensor:
    deviation = share * min(batch.shape[-2:])
    most = min(batch.shape[-2:])
    # torchvision wants an odd kernel, and pads by reflection: it may not be wider than the image.
    size = min(2 * round(3 * deviation) + 1, most - 1 + most % 2)
    return functional.gaussian_blur(batch, [max(3, size)] * 2, [deviation] * 2)


def _moved(batch: torch.Tensor, draw: np.random.Generator, **moves: float) -> torch.Tensor:
    """An affine map of each image: angle and shear in degrees, translate as a share of the side, each with a sign of
    the image's own; scale as a factor."""
    signs = draw.integers(0, 2, (len(batch), 2)) * 2 - 1
    changed = torch.empty_like(batch)
    for sign in np.unique(signs, axis=0).tolist():
        rows = torch.from_numpy((signs == sign).all(axis=1))
        sides = batch.shape[-1], batch.shape[-2]
        shift = [
            round(moves.get("translate", 0.0) * side * direction) for side, direction in zip(sides, sign, strict=True)
        ]
        changed[rows] = functional.affine(
            batch[rows],
            angle=sign[0] * moves.get("angle", 0.0),
            translate=shift,
            scale=moves.get("scale", 1.0),
            shear=[sign[0] * moves.get("shear", 0.0), 0.0],
            interpolation=_BILINEAR,
        )
    return changed


def _occlusion(batch: torch.Tensor, share: float, draw: np.random.Generator) -> torch.Tensor:
    """A grey square at a place of the image's own."""
    height, width = batch.shape[-2:]
    side = max(1, round(share * min(height, width)))
    changed = batch.clone()
    tops, lefts = draw.integers(0, height - side + 1, len(batch)), draw.integers(0, width - side + 1, len(batch))
    for image, top, left in zip(changed, tops.tolist(), lefts.tolist(), strict=True):
        image[:, top : top + side, left : left + side] = 128
    return changed


def _inversion(batch: torch.Tensor, share: float, draw: np.random.Generator) -> torch.Tensor:
    mixed = (1 - share) * batch.float() + share * functional.invert(batch).float()
    return mixed.round().clamp(0, 255).to(torch.uint8)


def _stripes(batch: torch.Tensor, share: float, draw: np.random.Generator) -> torch.Tensor:
    """White upright stripes over that share of the image, an eighth of its side apart, from a place of its own."""
    width = batch.shape[-1]
    period = max(2, width // 8)
    places = (torch.arange(width)[None] + torch.from_numpy(draw.integers(0, period, (len(batch), 1)))) % period
    return batch.masked_fill((places < max(1, round(share * period)))[:, None, None], 255)


CORRUPTIONS: dict[str, tuple[_Change, tuple[float, ...]]] = {
    "noise": (_noise, (0.1, 0.2, 0.3, 0.45, 0.6)),
    "blur": (_blur, (0.02, 0.04, 0.06, 0.08, 0.11)),
    "rotation": (lambda batch, angle, draw: _moved(batch, draw, angle=angle), (10, 20, 30, 45, 60)),
    "shear": (lambda batch, angle, draw: _moved(batch, draw, shear=angle), (10, 20, 30, 40, 50)),
    "translation": (lambda batch, share, draw: _moved(batch, draw, translate=share), (0.04, 0.08, 0.13, 0.19, 0.25)),
    "scale": (lambda batch, factor, draw: _moved(batch, draw, scale=factor), (0.9, 0.8, 0.7, 0.6, 0.5)),
    "occlusion": (_occlusion, (0.15, 0.25, 0.35, 0.45, 0.55)),
    "contrast": (lambda batch, factor, draw: functional.adjust_contrast(batch, factor), (0.6, 0.4, 0.25, 0.15, 0.08)),
    "inversion": (_inversion, (0.2, 0.35, 0.65, 0.8, 1.0)),
    "stripes": (_stripes, (0.15, 0.3, 0.45, 0.6, 0.75)),
}
