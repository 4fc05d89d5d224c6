"""Features on a GPU, for the heads that are products of matrices: numpy outside, torch inside.

A head that has a `device` keeps its features there and brings back what is small: scores, sums, nearest rows. Where
there is no such device (a head fitted on another machine) the head computes with numpy as ever, and without a GPU's
driver torch is not even imported.
"""

import ctypes
import re
import sys
from typing import Any, TypeGuard

import numpy as np

from classify.heads.estimator import OneOf, row_blocks

ROWS = 8192  # in one product: float32 products in blocks are summed in float64


class DeviceName:
    """Legal names of devices."""

    def admits(self, value: Any) -> bool:
        """Whether it is one."""
        return isinstance(value, str) and re.fullmatch(r"cpu|cuda(:\d+)?", value) is not None

    def __str__(self) -> str:
        return "a name like 'cuda', 'cuda:1' or 'cpu' (torch on the processor)"


DEVICE = (OneOf((None,)), DeviceName())


def gpu_for_heads(asked: str) -> str | None:
    """The device for heads where `asked` is wanted for the trunk; None for others than CUDA, or where auto finds none.

    Looks for the driver first: importing torch takes longer than many a head.
    """
    if asked.startswith("cuda"):
        return asked
    if asked != "auto" or not _has_driver():
        return None
    import torch

    return "cuda" if torch.cuda.is_available() else None


def _has_driver() -> bool:
    try:
        ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return False
    return True


def is_there(device: str | None) -> TypeGuard[str]:
    """Whether a head's device can be used in this process."""
    if device is None or device == "cpu":
        return device is not None
    import torch

    return torch.cuda.is_available() and (torch.device(device).index or 0) < torch.cuda.device_count()


class DeviceRows:
    """Rows (N, D) that are on a device as float32; what goes in and comes out are numpy arrays."""

    def __init__(self, Z: np.ndarray, device: str) -> None:
        import torch

        self._torch, self.device = torch, torch.device(device)
        self._rows = torch.empty(Z.shape, dtype=torch.float32, device=self.device)
        for rows in row_blocks(len(Z), ROWS):
            self._rows[rows] = self._there(np.ascontiguousarray(Z[rows], dtype=np.float32))
        self.shape = Z.shape

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
        """float32 (n, D), here."""
        chosen = rows if isinstance(rows, slice) else self._torch.from_numpy(rows).to(self.device)
        return self._rows[chosen].cpu().numpy()

    def _there(self, array: np.ndarray) -> Any:
        return self._torch.from_numpy(array).to(self.device)

    def scores(self, weights: np.ndarray) -> np.ndarray:
        """The rows times weights (D, K), as float32 (K, N)."""
        return (self._rows @ self._there(weights)).T.contiguous().cpu().numpy()

    def weighted(self, shares: np.ndarray) -> np.ndarray:
        """shares (K, N) times the rows, float64 (K, D)."""
        moved = self._there(shares)
        total = self._torch.zeros((len(shares), self.shape[1]), dtype=self._torch.float64, device=self.device)
        for rows in row_blocks(len(self), ROWS):
            total += moved[:, rows] @ self._rows[rows]
        return total.cpu().numpy()

    def nearest(self, queries: np.ndarray, lengths: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Of each query (n, D) the numbers of the k rows with the least |row|^2 - 2 row . query, and these, (n, k)."""
        distances = self._there(queries) @ self._rows.T
        distances *= -2
        distances += self._there(lengths)
        nearest = distances.topk(k, dim=1, largest=False)
        return nearest.indices.cpu().numpy(), nearest.values.cpu().numpy()


def squares_on(device: str, block: np.ndarray) -> np.ndarray:
    """block' block in float64, computed on a device."""
    import torch

    moved = torch.from_numpy(block).to(device)
    return (moved.T @ moved).cpu().numpy()
