"""Images at a glance: small grey ones, as vectors that tell a copy from another image of the same thing.

A copy that was made smaller, compressed again, brightened or turned grey looks the same at a glance, though the
features of a network that sees detail and colour may be as far away as another image's.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

SIDE = 32  # pixels


def glances(images: Any, rows: Sequence[int]) -> np.ndarray:
    """These rows of a split's images, an array or `ImageFiles`, float32 (N, 1024): grey, SIDE x SIDE whatever their
    form, without their mean. The distance of two at length 1 is that of their correlation, and a blank image is like
    none, not even a blank one."""
    read = images.__getitem__ if isinstance(images, np.ndarray) else images.read
    with ThreadPoolExecutor(8, "glance") as pool:
        grey = list(pool.map(lambda row: _small(read(row)), map(int, rows)))
    taken = np.array(grey, np.float32).reshape(len(grey), SIDE * SIDE)
    return taken - taken.mean(axis=1, keepdims=True)


def _small(image: np.ndarray) -> np.ndarray:
    from PIL import Image

    return np.asarray(Image.fromarray(image).convert("L").resize((SIDE, SIDE), Image.Resampling.BOX), np.float32)
