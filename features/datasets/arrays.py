"""Arrays of images as people have them, to uint8: what shapes and types are read, and how their numbers are scaled."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from features.datasets.white import FULL, White, as_bytes, extremes, is_flat, is_nearly_black
from features.errors import UserError

_ROWS = 1024  # worked on at once: copies of everything as float64 would take eight times the memory of the result


def with_channels_last(images: np.ndarray, which: str) -> np.ndarray:
    """Images as (N, H, W) or (N, H, W, 3), from those or (N, H, W, 1), (N, 1, H, W) or (N, 3, H, W); UserError for
    other shapes, and for types that are no numbers."""
    if images.dtype.kind not in "biuf":
        raise UserError(f"{which} is of type {images.dtype}; images should be uint8, or float from 0 to 1")
    shape = images.shape
    if images.ndim == 4 and shape[1] in (1, 3) and shape[-1] not in (1, 3):
        images = np.moveaxis(images, 1, -1)
    if images.ndim == 4 and images.shape[-1] == 1:
        images = images[..., 0]
    if images.ndim not in (3, 4) or (images.ndim == 4 and images.shape[-1] != 3) or 0 in images.shape[1:]:
        raise UserError(f"{which} has the shape {shape}; images should be (N, H, W) or (N, H, W, 3)")
    return images


def images_in_8_bits(images: np.ndarray, white: White, which: str = "the array of images") -> np.ndarray:
    """Images of any shape and type that is read, as uint8 (N, H, W) or (N, H, W, 3); UserError for others.

    white: of the data set that they belong to.
    """
    images = with_channels_last(images, which)
    limit = _white_of(images, white)
    if images.dtype == np.uint8 and limit == FULL:
        return np.ascontiguousarray(images)
    result = np.empty(images.shape, np.uint8)
    try:
        for start in range(0, len(images), _ROWS):
            result[start : start + _ROWS] = as_bytes(images[start : start + _ROWS], limit)
    except ValueError as error:
        raise UserError(
            f"cannot read {which} as images ({images.dtype}: {error}); scale the numbers to 0 to 255"
        ) from error
    return result


def white_in(arrays: Iterable[tuple[str, np.ndarray]]) -> White:
    """What is white in arrays of one data set, by their names: by the largest number of those of a type.

    UserError for numbers that are none, and where an array would be nearly black beside another one.
    """
    highest: dict[str, dict[str, float]] = {"whole": {}, "real": {}}
    for which, images in arrays:
        if images.dtype.kind == "b":
            continue
        try:
            kind = "real" if images.dtype.kind == "f" else "whole"
            highest[kind][which] = extremes(images)[1]
            White.of(deep=highest[kind][which])
        except ValueError as error:
            raise UserError(f"cannot read {which} as images ({error}); scale the numbers to 0 to 255") from error
    whole, real = (max(values.values(), default=None) for values in highest.values())
    deep = whole if whole is not None and whole > FULL else None
    white = White.of(shallow=0 if deep or whole is None else whole, deep=deep, real=real)
    for kind, values in highest.items():
        limit = white.real if kind == "real" else white.deep or white.shallow
        for which, high in values.items():
            if limit is not None and high > 0 and is_nearly_black(high, limit):
                other = max(values, key=values.__getitem__)
                raise UserError(
                    f"{which} holds numbers up to {high:g}, and {other} up to {values[other]:g}: these are not of one "
                    "scale; bring both to 0 to 255, or to 0 to 1 as floats"
                )
    return white


def without_content(images: np.ndarray, white: White) -> tuple[list[int], list[int]]:
    """The rows of images (N, H, W) or (N, H, W, 3) that are all but of one colour, and of the others those that are
    nearly black."""
    limit = _white_of(images, white)
    flat, dark = [], []
    for start, part in _parts(images):
        high, low = part.max(axis=1).astype(float), part.min(axis=1).astype(float)
        for row, (spread, brightest) in enumerate(zip((high - low).max(axis=1), high.max(axis=1), strict=True), start):
            if is_flat(spread, limit):
                flat.append(row)
            elif is_nearly_black(brightest, limit):
                dark.append(row)
    return flat, dark


def _parts(images: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Some rows at a time with the number of the first, (n, pixels, channels)."""
    channels = images.shape[3] if images.ndim == 4 else 1
    for start in range(0, len(images), _ROWS):
        part = images[start : start + _ROWS]
        yield start, part.reshape(len(part), -1, channels)


def _white_of(images: np.ndarray, white: White) -> float:
    """What is white in an array of this type."""
    by_type: dict[Any, float] = {"b": 1, "f": white.real or 1}
    whole = white.shallow if images.dtype == np.uint8 else white.deep or white.shallow
    return by_type.get(images.dtype.kind, whole)
