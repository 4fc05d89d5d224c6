"""What cross-validation of networks takes, which is said before any of them is trained."""

import dataclasses
from collections.abc import Sequence

from classify.experiments.known import known_result
from classify.experiments.row import Row
from classify.experiments.settings import How, Settings
from classify.experiments.validating import HOLDOUT, SPLIT, parse_folds
from classify.measure.results import find_result
from classify.measure.wording import duration


def trainings(settings: Settings) -> int:
    """How often a network is trained for a row of these settings."""
    inner, outer = parse_folds(settings.validate), None
    if settings.test != SPLIT:
        outer = parse_folds(settings.test, "--test")
    return ((inner.count * inner.repeats if inner else 0) + 1) * ((outer.count if outer else 0) + 1)


def cost_of_folds(rows: Sequence[Row], how: How) -> str:
    """How many trainings are ahead and, where the folder has results on a hold-out to go by, how long they take, in a
    line; '' where no network is still to be trained more than once."""
    ahead = [
        row
        for row in rows
        if row.head.one_at_a_time
        and trainings(row.settings) > 1
        and (how.again or known_result(row, how.folder)[0] is None)
    ]
    if not ahead:
        return ""
    counts = [trainings(row.settings) for row in ahead]
    plain = [dataclasses.replace(row.settings, validate=HOLDOUT, test=SPLIT) for row in ahead]
    once = [
        find_result(how.folder, dataclasses.replace(row, settings=settings).config)
        for row, settings in zip(ahead, plain, strict=True)
    ]
    networks = "the network is" if len(ahead) == 1 else f"{len(ahead)} networks are"
    line = f"cross-validation: {networks} trained {counts[0]} times{' each' if len(ahead) > 1 else ''} instead of once"
    known = [times * saved.result.seconds.get("fit", 0.0) for times, saved in zip(counts, once, strict=True) if saved]
    if len(known) == len(ahead):
        return f"{line}, about {duration(sum(known))} by what once took"
    return f"{line}; how long that takes is said after the first fold"
