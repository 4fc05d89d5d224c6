"""From labels as people and their programs write them to class numbers."""

import re
import unicodedata
from collections.abc import Iterable, Sequence

from features.errors import UserError

# What pandas and spreadsheets write where there is nothing. `None` and `NA` may be the names of classes.
_MISSING = frozenset(("nan", "<na>", "nat", "#n/a", "null", "-nan", "1.#qnan"))
_PERHAPS_MISSING = frozenset(("none", "na", "n/a", "?"))
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE)
_BETWEEN = re.compile(r"\s*[,;|]\s*")


def stands_for_none(text: str) -> bool:
    """Whether a cell is empty, or holds what programs write where there is nothing."""
    return text.casefold() in ("", *_MISSING)


def ordered_classes(names: Iterable[str]) -> tuple[str, ...]:
    """The different names, sorted: as numbers where all are whole numbers ('2' before '10'), else as text."""
    different = set(names)
    try:
        return tuple(sorted(different, key=lambda name: (int(name), name)))
    except ValueError:
        return tuple(sorted(different))


def settled_labels(names: Sequence[str], where: object) -> tuple[list[str], list[str]]:
    """Labels (N) with each number spelled in one way, and what is to be said of them.

    '1' and '1.0' are one class, '1', as they are when a program reads a column with gaps. UserError for labels that
    stand for none, and for several in one cell.
    """
    different = dict.fromkeys(names)
    numbers = {name for name in different if _NUMBER.fullmatch(name)}
    for name in different:
        lowered = name.casefold()
        if lowered in _MISSING or (lowered in _PERHAPS_MISSING and len(numbers) == len(different) - 1 > 0):
            raise UserError(
                f"{where}: {names.count(name)} rows have the label '{name}', which stands for none; fill it in or take "
                "them out"
            )
        several = [part for part in _BETWEEN.split(name) if part]
        if len(several) > 1 and all(part in different for part in several):
            raise UserError(
                f"{where}: the label '{name}' is {len(several)} labels ('{several[0]}' is a class as well), and an "
                "image has one here; choose one of them or take these rows out"
            )
    spelled, remarks = _spelled_once(different, numbers)
    composed, more = composed_once(different)
    spelled |= composed
    remarks += more
    remarks += [
        f"'{name}' is read as a class like others ({names.count(name)} rows)"
        for name in different
        if name.casefold() in _PERHAPS_MISSING
    ]
    return [spelled.get(name, name) for name in names], remarks


def _spelled_once(different: Iterable[str], numbers: set[str]) -> tuple[dict[str, str], list[str]]:
    """The spelling to take for each number that has several, and a line on them."""
    spellings: dict[float, list[str]] = {}
    for name in different:
        if name in numbers:
            spellings.setdefault(float(name), []).append(name)
    several = [sorted(names, key=lambda name: (len(name), name)) for names in spellings.values() if len(names) > 1]
    spelled = {name: names[0] for names in several for name in names}
    if not several:
        return {}, []
    first = " and ".join(f"'{name}'" for name in several[0])
    more = f", and {len(several) - 1} more numbers likewise" if len(several) > 1 else ""
    return spelled, [f"the labels {first} are one number and one class, '{several[0][0]}'{more}"]


def composed_once(different: Iterable[str]) -> tuple[dict[str, str], list[str]]:
    """For labels that are one text in Unicode's several forms (an accent beside its letter, or in it), the composed
    form, and a line on them. A label that stands in one form alone keeps it."""
    forms: dict[str, list[str]] = {}
    for name in different:
        forms.setdefault(unicodedata.normalize("NFC", name), []).append(name)
    several = {form: names for form, names in forms.items() if len(names) > 1}
    words = ", ".join(f"'{form}'" for form in sorted(several)[:3])
    remarks = [f"labels that are one text in two of Unicode's forms are one class: {words}"] if several else []
    return {name: form for form, names in several.items() for name in names}, remarks


def alike_classes(classes: Sequence[str]) -> str | None:
    """A line on classes whose names differ in nothing but case, spaces or how letters are encoded; None without any."""
    same: dict[str, list[str]] = {}
    for name in classes:
        plain = re.sub(r"[\s_-]+", " ", unicodedata.normalize("NFKC", name).casefold()).strip()
        same.setdefault(plain, []).append(name)
    several = [names for names in same.values() if len(names) > 1]
    if not several:
        return None
    first = " and ".join(f"'{name}'" for name in several[0])
    more = f", and {len(several) - 1} more likewise" if len(several) > 1 else ""
    return f"the classes {first} are called almost alike and are read as different ones{more}"
