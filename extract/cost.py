"""What an extraction costs: bytes said before it starts, seconds remembered after it ended."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from features.key import CacheKey
from features.notes import Notes
from features.request import Wanted

_ITEM = {"float32": 4, "float16": 2}
# The libraries, a network and one batch of its maps; what comes on top does not grow with the number of images.
_RESIDENT = 1_200_000_000
# Beside the files, not in them: a file's bytes depend on its key and recipe alone.
_SECONDS = Notes("seconds", old="features/seconds.json")


@dataclass(frozen=True)
class Cost:
    """Bytes on disk, per file (layer, split, rows, numbers in a row, bytes) and in all."""

    files: tuple[tuple[str, str, int, int, int], ...]

    @classmethod
    def of(cls, wanted: Sequence[Wanted]) -> "Cost":
        """The cost of making these files."""
        entries = []
        for file in wanted:
            numbers = math.prod(file.shape)
            # Beside each row of features stand its label and its position.
            size = file.rows * (numbers * _ITEM[file.key.dtype] + 16)
            entries.append((file.layer, file.split, file.rows, numbers, size))
        return cls(tuple(entries))

    @property
    def disk(self) -> int:
        """Bytes on disk in all."""
        return sum(entry[-1] for entry in self.files)


def record_seconds(wanted: Sequence[Wanted], images: int, seconds: float) -> None:
    """Note how long a pass took, for the tables that set accuracy against cost."""
    entry = {"seconds": round(seconds, 3), "images": images, "layers": len(wanted)}
    for file in wanted:
        _SECONDS.put(file.key.digest, entry)


def seconds_to_extract(key: CacheKey, rows: int) -> float | None:
    """Seconds that the pass that made a file would take for so many rows; None where it was not measured."""
    entry = _SECONDS.get(key.digest)
    try:
        return float(entry["seconds"]) * rows / entry["images"]
    except (TypeError, KeyError, ValueError, ZeroDivisionError):
        # Nothing, or nothing that can be understood: these are notes beside the files, not part of them.
        return None


def memory_needed(cost: Cost) -> int:
    """About how many bytes of memory a pass takes: the libraries and one batch; rows go to the disk as they come."""
    largest = max((numbers for *_, numbers, _ in cost.files), default=0)
    return _RESIDENT + 512 * 4 * largest
