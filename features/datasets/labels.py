"""From labels as people write them to class numbers."""

from collections.abc import Iterable


def ordered_classes(names: Iterable[str]) -> tuple[str, ...]:
    """The different names, sorted: as numbers where all are whole numbers ('2' before '10'), else as text."""
    different = set(names)
    try:
        return tuple(sorted(different, key=lambda name: (int(name), name)))
    except ValueError:
        return tuple(sorted(different))
