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
# What no screen shows: soft hyphen, zero-width space, marks of direction, word joiner, byte order mark. Joiners that
# change how their neighbours look (Persian, Hindi, emoji) are not among them.
_UNSEEN = re.compile("[\u00ad\u200b\u200e\u200f\u2060\ufeff]")
_VARIANTS = frozenset(map(chr, range(0xFE00, 0xFE10)))  # of how the character before is drawn


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
    """Labels (N) with each number and each name spelled in one way, and what is to be said of them.

    '1' and '1.0' are one class, '1', as they are when a program reads a column with gaps. UserError for labels that
    stand for none, and for several in one cell.
    """
    joined, remarks = alike_joined(names)
    names = [joined.get(name, name) for name in names]
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
    spelled, more = _spelled_once(different, numbers)
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


def as_seen(name: str) -> str:
    """A name as it looks: in Unicode's composed form, without spaces around it and characters that show nothing."""
    return unicodedata.normalize("NFC", _UNSEEN.sub("", name)).strip() or name


def alike_joined(different: Iterable[str]) -> tuple[dict[str, str], list[str]]:
    """For class names that look the same (an accent beside its letter, or in it; a space behind), the one name of all
    of them, and a line on it. A name that stands in one form alone keeps it."""
    forms: dict[str, list[str]] = {}
    for name in dict.fromkeys(different):
        forms.setdefault(as_seen(name), []).append(name)
    several = {form: names for form, names in forms.items() if len(names) > 1}
    if not several:
        return {}, []
    words = ", ".join(f"'{form}'" for form in sorted(several)[:3])
    remark = (
        f"names that look the same are one class: {words} (they differ in Unicode's form, in spaces around them or in "
        "characters that show nothing)"
    )
    return {name: form for form, names in several.items() for name in names}, [remark]


def alike_classes(classes: Sequence[str]) -> str | None:
    """A line on classes whose names differ in nothing but case, spaces, how letters are encoded or what joins them;
    None without any."""
    same: dict[str, list[str]] = {}
    for name in classes:
        shown = "".join(sign for sign in name if unicodedata.category(sign) != "Cf" and sign not in _VARIANTS)
        plain = re.sub(r"[\s_-]+", " ", unicodedata.normalize("NFKC", shown).casefold()).strip()
        same.setdefault(plain, []).append(name)
    several = [names for names in same.values() if len(names) > 1]
    if not several:
        return None
    first = " and ".join(f"'{name}'" for name in several[0])
    more = f", and {len(several) - 1} more likewise" if len(several) > 1 else ""
    return f"the classes {first} are called almost alike and are read as different ones{more}"
