"""Which of several results is chosen: one rule for a run, a probe, a comparison, a folder of models and the report.

By what was reached on validation rows alone. Nothing heavy is imported; records are read, and no predictions.
"""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from classify.measure.intervals import proven
from classify.measure.outcome import Result
from classify.measure.record import RowConfig

T = TypeVar("T")
LOG_LOSS = "log-loss"
# Scores within so many standard errors are a near-tie. Over ten seeds of 245 ants and bees in folds, nothing between 0
# and 1 made a difference of more than a test image.
NEAR = 0.25


@dataclass(frozen=True)
class Merit:
    """What a result, or one over several seeds, is chosen by.

    rank: the lower end of the 95 % interval of its score on its validation rows (`proven`), so that few rows prove
    less than many; of the log loss its negative. near: how much less another's rank may be for the two to be a
    near-tie. loss: expected log loss, infinite where it is not known. numbers: that the head reads
    of an image. name: 64 hex digits, which settle what is left, so that the order of a list never does.
    """

    rank: float
    near: float
    loss: float
    numbers: float
    name: str


def merit(results: Sequence[Result], score: str) -> Merit:
    """The merit of the results of one row, a seed each, by a score's name in `classify.measure.scores.SCORES`."""
    scores = [_scores(result) for result in results]
    means = {
        name: statistics.fmean(of_result[name] for of_result in scores)
        for name in scores[0]
        if all(name in of_result for of_result in scores)
    }
    means["rows"] = min(result.rows.get("validation", 0) for result in results)
    numbers = max((result.extra.features or math.inf) for result in results)
    return merit_of(means, score, numbers=numbers, name=min(result.digest for result in results))


def merit_of(scores: Mapping[str, float], score: str, *, numbers: float | None, name: str) -> Merit:
    """The merit of what reached these scores, by their names in records, on so many `rows`."""
    loss, numbers = scores.get("log_loss", math.inf), numbers or math.inf
    if score == LOG_LOSS:
        return Merit(-loss, 0.0, loss, numbers, name)
    n, value = int(scores.get("rows", 0)), scores.get(score.replace("-", "_"))
    if value is None:
        return Merit(-1.0, 0.0, loss, numbers, name)
    # Records come from anybody; and what is below chance in a score of somebody's own is as bad as nothing right.
    value = min(max(value, 0.0), 1.0)
    if n < 1:
        # Of how many rows is not known: behind all that prove something.
        return Merit(value - 1, 0.0, loss, numbers, name)
    # Two rows more, one of them wrong: where all came out right, one row is still no difference.
    smoothed = (value * n + 1) / (n + 2)
    near = NEAR * math.sqrt(smoothed * (1 - smoothed) / (n + 2))
    return Merit(proven(value, n), near, loss, numbers, name)


def best_merit(merits: Sequence[Merit]) -> int:
    """The place of the one to choose: of those that are as good as the highest rank or nearly so that with the least
    expected loss; of equal losses (unknown ones are) that of higher rank, then the one that reads fewer numbers."""
    highest = max(merits, key=lambda own: (own.rank, own.name))
    near = [
        (own.loss, -own.rank, own.numbers, own.name, place)
        for place, own in enumerate(merits)
        if own.rank >= highest.rank - highest.near
    ]
    return min(near)[-1]


def best_of(items: Sequence[T], results: Callable[[T], Sequence[Result]], score: str | None = None) -> T:
    """The one to choose, see `best_merit`.

    results: of one item, a seed each. score: by default that by which all of them were chosen, accuracy where they
    differ.
    """
    score = score or score_of([result for item in items for result in results(item)])
    return items[best_merit([merit(results(item), score) for item in items])]


def by_rank(items: Sequence[T], results: Callable[[T], Sequence[Result]]) -> list[T]:
    """All of them, the one to choose first, the others by their ranks."""
    if not items:
        return []
    best, score = best_of(items, results), score_of([result for item in items for result in results(item)])

    def order(item: T) -> tuple:
        own = merit(results(item), score)
        return item is not best, -own.rank, own.loss, own.numbers, own.name

    return sorted(items, key=order)


def score_of(results: Sequence[Result]) -> str:
    """The score by which these are chosen."""
    scores = {result.config.score for result in results}
    return scores.pop() if len(scores) == 1 else RowConfig.score


def _scores(result: Result) -> dict[str, float]:
    """The scores on its validation rows; of records of version 0.1.0 the accuracy alone."""
    accuracy = {} if result.validation_accuracy is None else {"accuracy": result.validation_accuracy}
    return {**(result.extra.validation_scores or {}), **accuracy}
