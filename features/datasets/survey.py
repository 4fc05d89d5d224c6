"""What the image files of a data set hold, found out once: which cannot be read, which are of one colour or nearly
black, what is white where there are more than 8 bits, and what Pillow warns of.

Every file is decoded for that before a network runs, JPEGs at an eighth of their size. What was found is noted for the
files' content and these decoders, so that another run decodes none.
"""

import contextlib
import dataclasses
import importlib.metadata
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from features.commands.progress import progress_if_slow
from features.datasets.dataset import Dataset
from features.datasets.findings import Finding, Item
from features.datasets.images import (
    READING,
    Pixels,
    being_read,
    may_hold_more,
    opened,
    pixels_of,
    reason_for,
    warnings_by_file,
)
from features.datasets.pixels import MAX_PIXELS
from features.datasets.tree import some
from features.datasets.white import FULL, White, beyond, is_flat, is_nearly_black
from features.digests import sha256_json
from features.errors import UserError
from features.notes import Notes

_NOTES = Notes("images")
_RULE = 2  # of what is looked at
_BRIGHT = 64  # of 255: an image that is so bright at an eighth of its size is not nearly black
_KINDS = ("shallow", "deep", "real")
_MOST = 5  # files that a line names
# From so many files on, those whose digests begin alike are noted together: one more file is one group's work.
_MANY = 4096


@dataclass(frozen=True)
class Held:
    """What image files hold, by the SHA-256 of their content.

    unreadable: why they cannot be read. warned: what is said of them. flat: those of one colour, or all but. dark: the
    others of which nothing can be seen.
    """

    white: White
    unreadable: Mapping[str, str]
    warned: Mapping[str, str]
    flat: Sequence[str]
    dark: Sequence[str]

    def unreadable_of(self, digests: Mapping[Path, str]) -> dict[Path, str]:
        """Why files cannot be read, of those with these digests that cannot."""
        return {path: self.unreadable[digest] for path, digest in digests.items() if digest in self.unreadable}

    def findings(self, items: Mapping[str, Item]) -> Iterator[Finding]:
        """What is wrong with those that can be read, or may be; items: the images by their digests."""
        lookless = {"of one colour, or all but": self.flat, "nearly black": self.dark}
        yield from nothing_seen({look: [items[digest] for digest in digests] for look, digests in lookless.items()})
        warned = [dataclasses.replace(items[digest], says=warning) for digest, warning in self.warned.items()]
        for item in warned[:_MOST]:
            yield Finding("warning", f"{item.path} was read with a warning: {item.says}", (item,))
        if more := warned[_MOST:]:
            yield Finding("warning", f"{len(more)} more images were read with a warning", tuple(more))


def nothing_seen(looking: Mapping[str, Sequence[Item]]) -> Iterator[Finding]:
    """Images that show nothing, by how they look."""
    for look, items in looking.items():
        if items:
            are = "1 image is" if len(items) == 1 else f"{len(items):,} images are"
            line = f"{are} {look} ({some([item.path for item in items], _MOST)})"
            yield Finding("nothing to see", line, tuple(dataclasses.replace(item, says=look) for item in items))


def white_remarks(white: White) -> Iterator[str]:
    """What is taken for white, where the type of the numbers does not say so."""
    if white.shallow != FULL:
        yield f"no image holds whole numbers beyond {white.shallow:g}, which is taken for white"
    if "deep" in white.unlike_0_1_0:
        yield f"no image of more than 8 bits holds numbers beyond {white.deep:,}, which is taken for white"
    if white.real not in (None, 1):
        yield f"no image of floating-point numbers holds any beyond {white.real:g}, which is taken for white"


def white_among(paths: Iterable[Path], white: White) -> White:
    """`white` with what it leaves open said by all of some image files together; what cannot be read says nothing."""
    if white.deep is not None and white.real is not None:
        return white

    def look(path: Path) -> Pixels | None:
        try:
            with being_read(str(path)), opened(path) as image:
                return pixels_of(image, path) if may_hold_more(image) else None
        except Exception:  # of every kind, as in `read_image`, which will say it
            return None

    highest: dict[str, float] = {}
    with warnings_by_file(lambda name, warning: None), ThreadPoolExecutor(min(8, os.cpu_count() or 1), "look") as pool:
        for pixels in pool.map(look, paths):
            if pixels is not None:
                with contextlib.suppress(ValueError):
                    highest[pixels.kind] = max(highest.get(pixels.kind, 0), pixels.extremes[1], pixels.least_white)
    measured = White.of(deep=highest.get("deep"), real=highest.get("real"))
    return dataclasses.replace(
        white,
        deep=measured.deep if white.deep is None else white.deep,
        real=measured.real if white.real is None else white.real,
    )


class UnreadableImages(UserError):
    """Images that cannot be read; reasons: why not, by their paths."""

    def __init__(self, reasons: Mapping[Path, str]) -> None:
        self.reasons = dict(reasons)
        files = [f"{path} ({reason})" for path, reason in reasons.items()]
        count = "the image" if len(files) == 1 else f"{len(files):,} images:"
        super().__init__(
            f"cannot read {count} {some(files, _MOST)}; replace or remove what is broken, or go on without with "
            "--skip-unreadable"
        )


class AbsentImages(UserError):
    """Images of a list that are not there; others: gives the data set without them, for `readable:`."""

    ADVICE = "; or go on without with --skip-unreadable"

    def __init__(self, message: str, others: Callable[[], Dataset]) -> None:
        self.others = others
        super().__init__(f"{message}{self.ADVICE}")


def why_not_opened(path: Path) -> str | None:
    """Why a file cannot be read at all; None where it can."""
    try:
        if not path.is_file():
            path.stat()  # for its own reason
            return "is no regular file"
        path.open("rb").close()
    except OSError as error:
        return error.strerror
    return None


def held_by(digests: Mapping[Path, str]) -> Held:
    """What image files hold; digests: the SHA-256 of each. Equal ones are looked at once."""
    files = {digest: path for path, digest in digests.items()}
    groups: dict[str, dict[str, Path]] = defaultdict(dict)
    start = 0 if len(files) < _MANY else 2
    for digest in sorted(files):
        groups[digest[:start]][digest] = files[digest]
    names = ("pillow", "pillow-heif")
    decoders = {name: [package.version for package in importlib.metadata.distributions(name=name)] for name in names}
    seen: dict[str, dict[str, Any]] = {}
    done = 0
    limits = [os.environ[MAX_PIXELS]] if MAX_PIXELS in os.environ else []
    with progress_if_slow() as advance:
        for group in groups.values():
            question = sha256_json([sorted(group), decoders, READING, _RULE, *limits])
            noted = _NOTES.get(question)
            if not isinstance(noted, dict):

                def looked(count: int, before: int = done) -> None:
                    advance("looked at", before + count, len(files))

                noted, lasting = _looked_at(group, looked)
                if lasting:
                    _NOTES.put(question, noted)
            seen |= noted
            done += len(group)
    return summed_up(seen)


def _looked_at(files: Mapping[str, Path], advance: Callable[[int], None]) -> tuple[dict[str, dict[str, Any]], bool]:
    """What there is to note of files, by their digests; and whether it holds for another time as well.

    advance: told how many have been looked at.
    """
    warned: dict[str, str] = {}
    lasting = True

    def look(digest: str, path: Path) -> dict[str, Any]:
        nonlocal lasting
        with being_read(digest):
            try:
                return _out_of_the_common(path)
            except Exception as error:  # of every kind, as in `read_image`
                # Memory and permissions come and go.
                lasting = lasting and not (isinstance(error, MemoryError) or getattr(error, "errno", None))
                return {"unreadable": reason_for(error)}

    with warnings_by_file(warned.setdefault), ThreadPoolExecutor(min(8, os.cpu_count() or 1), "look") as pool:
        seen = {}
        for digest, notes in zip(files, pool.map(look, files, files.values()), strict=True):
            seen[digest] = notes
            advance(len(seen))
    for digest, warning in warned.items():
        if "unreadable" not in seen[digest]:
            seen[digest]["warned"] = warning
    return {digest: notes for digest, notes in seen.items() if notes}, lasting


def look_at(source: Path | BinaryIO) -> dict[str, Any]:
    """What there is to note of an image: nothing, of most."""
    try:
        return _out_of_the_common(source)
    except Exception as error:  # of every kind, as in `read_image`
        return {"unreadable": reason_for(error)}


def _out_of_the_common(path: Path | BinaryIO) -> dict[str, Any]:
    with opened(path) as image:
        width, height = image.size
        if image.format == "JPEG" and min(width, height) >= 64:
            image.draft(None, (width // 8, height // 8))
            bands = image.getextrema()
            bands = bands if isinstance(bands[0], tuple) else (bands,)
            image.getexif()  # says so where it is damaged
            # Means of 8 x 8 pixels lie closer together than the pixels.
            if any(high >= _BRIGHT and not is_flat(high - low, FULL) for low, high in bands):
                return {}
    with opened(path) as image:
        pixels = pixels_of(image, path)
    (low, high), spread = pixels.extremes, pixels.spread
    if pixels.kind == "shallow" and not (is_flat(spread, FULL) or is_nearly_black(high, FULL)):
        return {}
    return {pixels.kind: [low, high, spread, max(high, pixels.least_white)]}


def summed_up(seen: Mapping[str, Mapping[str, Any]]) -> Held:
    """What images hold by what was noted of each, by its digest or its number."""

    def highest(kind: str) -> float | None:
        return max((notes[kind][3] for notes in seen.values() if kind in notes), default=None)

    white = White.of(deep=highest("deep"), real=highest("real"))
    flat, dark = [], []
    unreadable = {digest: notes["unreadable"] for digest, notes in seen.items() if "unreadable" in notes}
    for digest, notes in seen.items():
        for kind in notes.keys() & _KINDS:
            low, high, spread, _ = notes[kind]
            scale = getattr(white, kind)
            if reason := beyond(low, high, scale):
                unreadable[digest] = reason
            elif is_flat(spread, scale):
                flat.append(digest)
            elif is_nearly_black(high, scale):
                dark.append(digest)
    return Held(
        white=white,
        unreadable=unreadable,
        warned={digest: notes["warned"] for digest, notes in seen.items() if "warned" in notes},
        flat=flat,
        dark=dark,
    )
