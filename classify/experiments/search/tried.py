"""What a search has tried: candidates with their trials, the steps that these make, and which is better."""

from collections.abc import Sequence
from dataclasses import dataclass

from classify.experiments.search.grid import Candidate
from classify.measure.choice import Merit, best_merit, merit_of
from classify.measure.standing import alike_where_chosen
from classify.measure.trials import Trial


@dataclass(frozen=True, eq=False)
class Tried:
    """A candidate on so many training rows, and what it came to. rung: from 0."""

    candidate: Candidate
    rung: int
    rows: int
    trial: Trial

    def score(self, name: str) -> float | None:
        """The score of that name; None where it has none."""
        return self.trial.scores.get(name.replace("-", "_"))

    def merit(self, score: str) -> Merit:
        """What it is chosen by."""
        return merit_of(self.trial.scores, score, numbers=self.trial.extra.features, name=self.trial.digest)


@dataclass(frozen=True, eq=False)
class Rung:
    """A step of the search: so many training rows, the candidates that came as far, those of them that there was time
    to try, the best first, and the seconds of passes and heads."""

    rows: int
    due: tuple[Candidate, ...]
    tried: tuple[Tried, ...] = ()
    extract_seconds: float = 0.0
    seconds: float = 0.0


def by_merit(tried: Sequence[Tried], score: str) -> list[Tried]:
    """The one to choose first, as `classify.measure.choice` says, the others by their ranks."""
    if not tried:
        return []
    merits = [entry.merit(score) for entry in tried]
    best = best_merit(merits)

    def order(place: int) -> tuple:
        own = merits[place]
        return place != best, -own.rank, own.loss, own.numbers, own.name

    return [tried[place] for place in sorted(range(len(tried)), key=order)]


def best_of(rungs: Sequence[Rung]) -> Tried | None:
    """The best of the most rows; None where nothing was tried.

    Where the best of fewer rows was not tried on more, there being no time for it, it stays the best if it is better
    there than what was, and not by chance.
    """
    best: Tried | None = None
    before: dict[Candidate, Trial] = {}
    for rung in rungs:
        here = {entry.candidate: entry.trial for entry in rung.tried}
        if best is not None and best.candidate not in here:
            rival = rung.tried[0].candidate if rung.tried else None
            if rival not in before or not alike_where_chosen(best.trial, [before[rival]]):
                break
        best, before = rung.tried[0] if rung.tried else best, here
    return best
