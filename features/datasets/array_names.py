"""Which arrays of a file hold images, labels and groups of which part, by their names."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from features.datasets.parts import PARTS, part_called
from features.errors import UserError

SEPARATE = {"train": ("x_train", "y_train"), "test": ("x_test", "y_test")}
IMAGES, _LABELS = ("x", "images", "imgs", "data"), ("y", "labels", "targets")
_GROUPS = ("groups", "group")


def groups_in(names: Sequence[str], pairs: dict[str, tuple[str, str]], path: Path) -> tuple[str, ...]:
    """The arrays that say which images belong together, one for each array of images; none where there are none.

    UserError where some of the images have theirs.
    """
    if not pairs:
        return ("groups",) if "groups" in names else ()
    own = {part: [name for name in names if part_of(name, _GROUPS) == part] for part in PARTS}
    # The part for validation may stand for the test set.
    arrays = {part: own[part_of(pair[0], IMAGES) or part] for part, pair in pairs.items()}
    if not any(arrays.values()):
        return ()
    if wrong := [part for part, members in arrays.items() if len(members) != 1]:
        has = f"several arrays ({', '.join(arrays[wrong[0]])})" if arrays[wrong[0]] else "no array"
        raise UserError(f"{path} has groups, and {has} of them for {wrong[0]}; give one for each part")
    return tuple(members[0] for members in arrays.values())


def pairs_in(names: Iterable[str], path: Path) -> dict[str, tuple[str, str]]:
    """The arrays of images and labels of each part, by their names; none where no two parts have both.

    UserError where a part has several.
    """
    by_part: dict[str, tuple[list[str], list[str]]] = {}
    for name in names:
        for place, kinds in enumerate((IMAGES, _LABELS)):
            if part := part_of(name, kinds):
                by_part.setdefault(part, ([], []))[place].append(name)
    for part, usual in SEPARATE.items():
        # What version 0.1.0 read stands before all else.
        images, labels = (
            [name] if name in names else others for name, others in zip(usual, by_part.get(part, ([], [])), strict=True)
        )
        by_part[part] = images, labels
    whole = {part: by_part[part] for part in PARTS if part in by_part and all(by_part[part])}
    if "train" not in whole or len(whole) < 2:
        return {}
    if "test" not in whole:
        whole["test"] = whole.pop("validation")
    for part, arrays in whole.items():
        for candidates in arrays:
            if len(candidates) > 1:
                raise UserError(
                    f"{path} holds several arrays for {part} ({', '.join(candidates)}); take one of them out"
                )
    return {part: (images[0], labels[0]) for part, (images, labels) in whole.items()}


def part_of(name: str, kinds: Iterable[str]) -> str | None:
    """The part that an array of these kinds is of, by its name: 'validation' of 'val_images'; None for another."""
    words = re.split(r"[\W_]+", name.casefold())
    kind = next((word for word in words if word in kinds), None)
    called = part_called("_".join(word for word in words if word != kind)) if kind else None
    return called[0] if called and not called[1] else None
