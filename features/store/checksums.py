"""SHA-256 per MiB: made while a file is written, compared when it is read.

Sums are made from the bytes in memory, not read back, so that damage on the way to the disk is found as well. A reader
checks exactly the blocks it touches, each once per process.
"""

import hashlib
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

BLOCK = 1 << 20
SUM = hashlib.sha256().digest_size
_BLOCKS_AT_ONCE = 8


class RunningSums:
    """The sums of a stream of bytes, block by block."""

    def __init__(self) -> None:
        self.sums = bytearray()
        self._hash = hashlib.sha256()
        self._filled = 0

    def update(self, data: memoryview | bytes) -> None:
        """Take in the next bytes of the stream."""
        data = memoryview(data)
        while len(data):
            piece = data[: BLOCK - self._filled]
            self._hash.update(piece)
            self._filled += len(piece)
            data = data[len(piece) :]
            if self._filled == BLOCK:
                self._next_block()

    @property
    def tail(self) -> str:
        """The SHA-256, in hex, of the bytes after the last complete block."""
        return self._hash.hexdigest()

    def finish(self) -> bytes:
        """The sums of all blocks; the last may be shorter than the others."""
        if self._filled:
            self._next_block()
        return bytes(self.sums)

    def _next_block(self) -> None:
        self.sums += self._hash.digest()
        self._hash = hashlib.sha256()
        self._filled = 0


def read_exactly(descriptor: int, at: int, buffer: memoryview) -> int:
    """Fill a buffer from position `at` of a file; the number of bytes read, less only where the file ends."""
    done = 0
    while done < len(buffer):
        count = os.preadv(descriptor, [buffer[done:]], at + done)
        if count == 0:
            break
        done += count
    return done


def first_damaged(descriptor: int, start: int, size: int, sums: bytes, blocks: Iterable[int]) -> int | None:
    """The lowest of the given blocks whose bytes differ from its sum, or None; `start` is where block 0 begins.

    Blocks are read and hashed by several threads, with a few MiB of memory each.
    """
    wanted = sorted(blocks)
    groups = [wanted[i : i + _BLOCKS_AT_ONCE] for i in range(0, len(wanted), _BLOCKS_AT_ONCE)]

    def check(group: list[int]) -> int | None:
        buffer = memoryview(bytearray(BLOCK))
        for block in group:
            at = start + block * BLOCK
            length = min(BLOCK, size - at)
            count = read_exactly(descriptor, at, buffer[:length])
            if count < length or hashlib.sha256(buffer[:length]).digest() != sums[block * SUM : (block + 1) * SUM]:
                return block
        return None

    if len(groups) < 2:
        return check(wanted)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with ThreadPoolExecutor(min(cores, 8, len(groups))) as pool:
        return next((block for block in pool.map(check, groups) if block is not None), None)
