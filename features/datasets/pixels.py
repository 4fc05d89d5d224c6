"""How many pixels an image may have, and how many are worked on at a time: a small file can ask for any number.

Both are limits of this machine and change no number. They stand in the environment, where processes that are started
find them, too: `$LAYERPROBE_MAX_PIXELS` and `$LAYERPROBE_PIXELS_IN_FLIGHT`.
"""

import contextlib
import os
import threading
from collections.abc import Iterator

from features.errors import UserError
from features.memory import give_back_freed_memory

MAX_PIXELS, IN_FLIGHT = "LAYERPROBE_MAX_PIXELS", "LAYERPROBE_PIXELS_IN_FLIGHT"
# Decoded, as a tensor and being resized, a pixel takes about 30 bytes.
_AT_A_TIME = 100_000_000
_LARGE = 20_000_000

_changed = threading.Condition()
_pillows: list[int | None] = []  # its own limit, while another one is set
_in_flight = 0


class _Mine(threading.local):
    depth = 0
    pixels = 0


_mine = _Mine()


def most_pixels() -> int | None:
    """Of one image; by default what Pillow takes for harmless, which is as it was once the limit is gone."""
    from PIL import Image

    if MAX_PIXELS in os.environ:
        _pillows.append(Image.MAX_IMAGE_PIXELS)
        del _pillows[1:]
        Image.MAX_IMAGE_PIXELS = _number(MAX_PIXELS, 0)
    elif _pillows:
        Image.MAX_IMAGE_PIXELS = _pillows.pop()
    return Image.MAX_IMAGE_PIXELS


@contextlib.contextmanager
def limits_put_back() -> Iterator[None]:
    """What a command sets is gone with it, where it was run from a program of somebody's."""
    before = {variable: os.environ.get(variable) for variable in (MAX_PIXELS, IN_FLIGHT)}
    try:
        yield
    finally:
        for variable, value in before.items():
            os.environ.pop(variable, None)
            if value is not None:
                os.environ[variable] = value


@contextlib.contextmanager
def pixels_held() -> Iterator[None]:
    """Meanwhile the pixels that this thread takes stay taken: around decoding one image, and what is made of it."""
    _mine.depth += 1
    try:
        yield
    finally:
        _mine.depth -= 1
        if not _mine.depth:
            _give_back()


def take_pixels(count: int) -> None:
    """Wait until the threads together have room for an image of so many pixels; one alone always has. The same image
    taken again in the block is not counted twice; outside of a block, where nobody gives it back, nothing stays taken.
    """
    global _in_flight
    more = count - _mine.pixels
    if more <= 0:
        return
    with _changed:
        # Whoever holds some already would wait for himself.
        _changed.wait_for(lambda: _mine.pixels or not _in_flight or _in_flight + more <= _number(IN_FLIGHT, _AT_A_TIME))
        if _mine.depth:
            _in_flight += more
            _mine.pixels += more


def _give_back() -> None:
    global _in_flight
    if _mine.pixels > _LARGE:
        # Each thread's allocator would keep its gigabytes.
        give_back_freed_memory()
    with _changed:
        _in_flight -= _mine.pixels
        _mine.pixels = 0
        _changed.notify_all()


def _number(name: str, default: int) -> int:
    text = os.environ.get(name, str(default))
    if not text.isdecimal() or not 0 < len(text) < 16:
        raise UserError(f"${name} is {text[:40]!r}; give a whole number of pixels, or unset it")
    return int(text)
