"""What a search has tried: candidates with their trials, the steps that these make, and which is better."""

from collections.abc import Sequence
from dataclasses import dataclass

from classify.experiments.search.grid import Candidate
from classify.measure.choice import Merit, best_merit, merit_of
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
