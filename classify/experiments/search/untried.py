"""What a search had no time for, in a sentence that people can act on."""

from collections.abc import Iterable, Sequence

from classify.experiments.search.grid import DIMENSIONS, Candidate
from classify.experiments.search.halving import Halving
from classify.measure.wording import count, duration

_FEW = 4  # values of a dimension, named where all that is left out has them


def untried(search: Halving) -> str:
    """What was not tried for lack of time, by dimension and with counts; '' where nothing was left out."""
    parts = []
    if search.too_long:
        sizes = " and ".join(map(str, search.too_long))
        passes = "its passes" if len(search.too_long) == 1 else "their passes"
        parts.append(f"{sizes} ({passes} would have taken {duration(sum(search.too_long.values()))})")
    for number, rung in enumerate(search.rungs):
        tried = {entry.candidate for entry in rung.tried}
        if late := [candidate for candidate in rung.due if candidate not in tried]:
            where = f" on {count(rung.rows)} training images" if number else ""
            due = f"the {count(len(rung.due))} {'best' if number else 'configurations'}"
            of_them = f"{count(len(late))} of {due}" if rung.tried else f"any of {due}"
            parts.append(f"{of_them}{where}{_in_common(late, rung.due)}")
    if not parts:
        return ""
    return f"Not tried for lack of time: {'; '.join(parts)}. The same command with more minutes goes on from there."


def _in_common(late: Sequence[Candidate], due: Iterable[Candidate]) -> str:
    """The values of a dimension that all of them have, and none that was tried."""
    due = tuple(due)
    for dimension in DIMENSIONS:
        values = {getattr(candidate, dimension.name) for candidate in late}
        alike = sum(getattr(candidate, dimension.name) in values for candidate in due)
        if alike == len(late) < len(due) and len(values) <= _FEW:
            return f" ({', '.join(map(dimension.spelled, sorted(values)))})"
    return ""
