"""The form of image files, as their headers have it: colour mode, bits and size; and which of them are unlike the rest.

No pixel is decoded. What was found is noted for the files' content.
"""

import json
import math
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from features.datasets.findings import Finding, Item
from features.datasets.images import being_read, opened, warnings_by_file
from features.digests import sha256_json
from features.notes import remembered_answer

_RULE = 1
RARE = 0.02  # a mode that so small a share of the images has is unusual, where most have another one
_COMMON = 0.9  # so large a share has the same mode
FAR = 4.0  # times the usual side, or a part of it, at which a size is unusual
OBLONG = 2.5  # times the usual ratio of the long to the short side
_SPREAD = 5.0  # and so many robust standard deviations
TOLD = 0.25  # what the form alone may add to the share of the largest class before it is a finding
_FEW = 8  # images of a form, below which it says nothing of the classes


@dataclass(frozen=True)
class Form:
    """mode: Pillow's, with the bits where those are not 8: 'RGB', 'L', 'I;16'. width, height: in pixels."""

    mode: str
    width: int
    height: int

    def __str__(self) -> str:
        return f"{_WORDS.get(self.mode, self.mode)}, {self.width} x {self.height}"


_WORDS = {
    "RGB": "colour",
    "RGBA": "colour with transparency",
    "P": "palette",
    "L": "grey",
    "LA": "grey with transparency",
    "1": "black and white",
    "I": "32-bit grey",
    "I;16": "16-bit grey",
    "RGB;16": "16-bit colour",
    "RGBA;16": "16-bit colour with transparency",
    "F": "floating-point grey",
}


def forms_of(files: Mapping[str, Path]) -> dict[str, Form]:
    """The form of image files by their digests; those that cannot be opened have none."""

    def look() -> str:
        def form(digest: str, path: Path) -> tuple[str, int, int] | None:
            with being_read(digest):
                try:
                    with opened(path) as image:
                        deep = ";16" in str(image.tile) and ";16" not in image.mode
                        return f"{image.mode};16" if deep else image.mode, image.width, image.height
                except Exception:  # of every kind, as in `read_image`, which says it
                    return None

        with warnings_by_file(lambda name, warning: None), ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            return json.dumps(list(pool.map(form, ordered, ordered.values())))

    ordered = dict(sorted(files.items()))
    question = f"the modes and sizes of images by rule {_RULE}, {sha256_json(list(ordered))}"
    read = json.loads(remembered_answer(question, look))
    return {digest: Form(*fields) for digest, fields in zip(ordered, read, strict=True) if fields}


def find_forms(
    forms: Sequence[Form | None], items: Sequence[Item], labels: np.ndarray, classes: Sequence[str]
) -> Iterator[Finding]:
    """Images of an unusual form, and forms that tell the class. All of one length, labels (N,)."""
    known = [place for place, form in enumerate(forms) if form]
    those = [form for form in forms if form]
    if len(those) < 2:
        return
    modes = Counter(form.mode for form in those)
    usual, count = modes.most_common(1)[0]
    says: dict[int, list[str]] = {}
    if count >= _COMMON * len(those):
        for place, form in zip(known, those, strict=True):
            if form.mode != usual and modes[form.mode] <= max(1, RARE * len(those)):
                says.setdefault(place, []).append(_WORDS.get(form.mode, form.mode))
    sides = np.log([math.sqrt(form.width * form.height) for form in those])
    oblong = np.log([max(form.width / form.height, form.height / form.width) for form in those])
    for values, far, both in ((sides, math.log(FAR), True), (oblong, math.log(OBLONG), False)):
        beyond = values - np.median(values)
        spread = 1.4826 * np.median(np.abs(beyond))
        for number in np.flatnonzero((np.abs(beyond) if both else beyond) > max(far, _SPREAD * spread)).tolist():
            says.setdefault(known[number], []).append(f"{those[number].width} x {those[number].height} pixels")
    if says:
        side = round(math.exp(float(np.median(sides))))
        odd = tuple(replace(items[place], says=", ".join(dict.fromkeys(words))) for place, words in says.items())
        first = ", ".join(f"{item.path} ({item.says})" for item in odd[:3])
        more = f" and {len(odd) - 3} more" if len(odd) > 3 else ""
        verb = "image is" if len(odd) == 1 else "images are"
        yield Finding(
            "unusual form",
            f"{len(odd)} {verb} of another mode or size than most, which are {_WORDS.get(usual, usual)} of about "
            f"{side} pixels a side: {first}{more}",
            odd,
        )
    yield from _telling(those, [items[place] for place in known], labels[known], classes)


def _telling(
    forms: Sequence[Form], items: Sequence[Item], labels: np.ndarray, classes: Sequence[str]
) -> Iterator[Finding]:
    """A finding where an image's mode, or its exact size, tells its class better than chance by much."""
    for what, kinds in (
        ("colour mode", [_WORDS.get(form.mode, form.mode) for form in forms]),
        ("size", [f"{form.width} x {form.height}" for form in forms]),
    ):
        counts: dict[str, Counter[int]] = {}
        for kind, label in zip(kinds, labels.tolist(), strict=True):
            counts.setdefault(kind, Counter())[label] += 1
        large = {kind: own for kind, own in counts.items() if own.total() >= _FEW}
        overall = Counter(labels.tolist()).most_common(1)[0][1] / len(labels)
        hits: float = sum(own.most_common(1)[0][1] for own in large.values())
        hits += sum(own.total() for kind, own in counts.items() if kind not in large) * overall
        if len(large) < 2 or hits / len(labels) < overall + TOLD:
            continue
        kind, own = max(large.items(), key=lambda pair: pair[1].most_common(1)[0][1])
        label, count = own.most_common(1)[0]
        of_kind = tuple(item for item, other in zip(items, kinds, strict=True) if other == kind)
        yield Finding(
            f"{what} tells the class",
            f"the {what} alone tells the class of {hits / len(labels):.0%} of the images, where always saying the "
            f"largest one is right for {overall:.0%} ({count} of {own.total()} images that are {kind} are of class "
            f"'{classes[label]}'): a network may learn that instead of what is shown",
            of_kind,
        )
