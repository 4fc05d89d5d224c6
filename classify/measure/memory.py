"""How much memory a step took at its most: this process's resident set, and a GPU's allocations where one is used.

Linux lets a process forget its earlier peak; elsewhere the figure is the largest since the process began.
"""

import contextlib
import ctypes
import gc
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass
class Peak:
    """Bytes at the most, on the host and on a GPU (None where none was used); set when the block is left."""

    host: int | None = None
    device: int | None = None

    def to_json(self) -> dict[str, int]:
        """The measured ones as plain values."""
        return {f"peak_{name}_bytes": value for name, value in vars(self).items() if value is not None}


@contextlib.contextmanager
def peak_memory() -> Iterator[Peak]:
    """Measure the block inside; torch is looked at only where it is in use already."""
    _forget()
    cuda = _cuda()
    if cuda:
        cuda.reset_peak_memory_stats()
    peak = Peak()
    yield peak
    peak.host = resident_peak()
    if cuda := _cuda():
        peak.device = int(cuda.max_memory_allocated()) or None


def resident_peak() -> int | None:
    """Bytes of memory that this process held at its most; None where the system does not say."""
    try:
        import resource
    except ImportError:
        return None
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else 1024 * most


def _forget() -> None:
    """Give back what earlier steps have freed, and forget their peak."""
    gc.collect()
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def _cuda() -> Any:
    torch = sys.modules.get("torch")
    return torch.cuda if torch and torch.cuda.is_available() and torch.cuda.is_initialized() else None
