"""What the machine can do at best: matrix products at a precision, and bytes copied, each by the best library at hand.

A limit that is measured with one library alone can be beaten by another: so each is the best of five products over all
libraries that are here, and the contest measures it again in every round.
"""

import time
from collections.abc import Callable, Iterator

import numpy as np
import torch

_SIDE, _TIMES = 3072, 5


def matrix_rate(precision: str) -> Callable[[], float]:
    """A measurement: operations a second of square products, by oneDNN, MKL and OpenBLAS as far as they are here."""

    def measure() -> float:
        best = 0.0
        for product in _products(precision):
            product()
            for _ in range(_TIMES):
                started = time.perf_counter()
                product()
                best = max(best, 2 * _SIDE**3 / (time.perf_counter() - started))
        return best

    return measure


def copy_rate() -> float:
    """Bytes a second of copying an array that no cache holds (each byte is read once and written once)."""
    source = np.ones(1 << 28, np.uint8)
    target, best = np.empty_like(source), 0.0
    for _ in range(_TIMES):
        started = time.perf_counter()
        np.copyto(target, source)
        best = max(best, len(source) / (time.perf_counter() - started))
    return best


def _products(precision: str) -> Iterator[Callable[[], object]]:
    generator = torch.Generator().manual_seed(0)
    if precision == "int8":
        a, b = (torch.randint(-128, 127, (_SIDE, _SIDE), dtype=torch.int8, generator=generator) for _ in range(2))
        yield lambda: torch._int_mm(a, b)
        return
    values = [torch.randn(_SIDE, _SIDE, generator=generator) for _ in range(2)]
    left, right = (each.to(getattr(torch, precision)) for each in values)
    yield lambda: left @ right
    if precision == "float32":
        # oneDNN's own product, where torch's takes MKL, and numpy's OpenBLAS.
        packed = torch.nn.functional.linear
        one, other = (each.numpy() for each in values)
        yield lambda: packed(left.to_mkldnn(), right.to_mkldnn())
        yield lambda: one @ other
