"""What the machine can do at best: matrix products at a precision, and bytes copied, each by the best library at hand.

A limit that is measured with one library alone can be beaten by another: so each is the best of five products over all
libraries that are here, by all cores together and by each core at products of its own, and the contest measures it
again in every round.
"""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from extract.trunk import torch_threads

# Rows, inner length and columns: a square, and what convolutions of ResNet18's first and third stage come to.
_SHAPES = ((3072, 3072, 3072), (2 * 3136, 576, 64), (3136, 2304, 256))
_TIMES = 5


def matrix_rate(precision: str, clock: str = "wall") -> Callable[[], float]:
    """A measurement: operations a second of matrix products, by oneDNN, MKL and OpenBLAS as far as they are here.

    clock: 'wall', or 'cpu' for operations a second of a core, which a busy machine changes little.
    """
    now = time.perf_counter if clock == "wall" else time.process_time

    def measure() -> float:
        best = 0.0
        for rows, inner, columns in _SHAPES:
            for product in _products(precision, rows, inner, columns):
                product()
                for _ in range(_TIMES):
                    started = now()
                    product()
                    best = max(best, 2 * rows * inner * columns / (now() - started))
        return max(best, _of_each_core(precision)) if clock == "wall" else best

    return measure


def _of_each_core(precision: str) -> float:
    """Operations a second of torch's products where every core computes its own."""
    cores, best = torch.get_num_threads(), 0.0
    with torch_threads(1), ThreadPoolExecutor(cores, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        for rows, inner, columns in _SHAPES:
            product = next(_products(precision, rows, inner, columns))

            def some(product: Callable[[], object] = product) -> None:
                for _ in range(_TIMES):
                    product()

            for _ in range(_TIMES):
                started = time.perf_counter()
                for share in [pool.submit(some) for _ in range(cores)]:
                    share.result()
                best = max(best, cores * _TIMES * 2 * rows * inner * columns / (time.perf_counter() - started))
    return best


def copy_rate() -> float:
    """Bytes a second of copying an array that no cache holds (each byte is read once and written once)."""
    source = np.ones(1 << 28, np.uint8)
    target, best = np.empty_like(source), 0.0
    for _ in range(_TIMES):
        started = time.perf_counter()
        np.copyto(target, source)
        best = max(best, len(source) / (time.perf_counter() - started))
    return best


def _products(precision: str, rows: int, inner: int, columns: int) -> Iterator[Callable[[], object]]:
    generator = torch.Generator().manual_seed(0)
    if precision == "int8":
        # oneDNN computes its convolutions of bytes in the same way; without VNNI `torch._int_mm` is a plain loop.
        drawn = torch.randint(0, 127, (rows, inner), dtype=torch.uint8, generator=generator)
        weight = torch.randint(-63, 63, (columns, inner), dtype=torch.int8, generator=generator)
        packed = torch.ops.onednn.qlinear_prepack(weight, [rows, inner])
        steps, zeros = torch.ones(columns), torch.zeros(columns, dtype=torch.int64)
        told = (drawn, 1.0, 0, packed, steps, zeros, None, 1.0, 0, torch.float32, "none", [], "")
        yield lambda: torch.ops.onednn.qlinear_pointwise(*told)
        return
    left, right = (torch.randn(size, generator=generator) for size in ((rows, inner), (inner, columns)))
    one, other = left.to(getattr(torch, precision)), right.to(getattr(torch, precision))
    yield lambda: one @ other
    if hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        # oneDNN's, which torch's own product of float32 is not.
        packed = torch.ops.mkldnn._reorder_linear_weight(other.T.contiguous(), rows)
        yield lambda: torch.ops.mkldnn._linear_pointwise(one, packed, None, "none", [], "")
    if precision == "float32":
        # torch's product is MKL's, numpy's is OpenBLAS's.
        yield lambda: left.numpy() @ right.numpy()
