"""How much memory a step took at its most: this process's resident set, and a GPU's allocations where one is used.

Linux lets a process forget its earlier peak; elsewhere the figure is the largest since the process began.
"""

import contextlib
import gc
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from features.memory import give_back_freed_memory

# To look for what only refers to itself takes a fifth of a second: it is done where so many bytes more are held than
# after the last time, that a step's figure would be another.
_WORTH_A_LOOK = 64 * 2**20
_held = 0


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
    global _held
    give_back_freed_memory()
    if (now := _resident()) > _held + _WORTH_A_LOOK:
        gc.collect()
        give_back_freed_memory()
        _held = _resident()
    else:
        _held = min(_held, now)
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _resident() -> int:
    """Bytes of memory that this process holds; where the system does not say, those that it held at its most."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return resident_peak() or 0


def _cuda() -> Any:
    torch = sys.modules.get("torch")
    return torch.cuda if torch and torch.cuda.is_available() and torch.cuda.is_initialized() else None
