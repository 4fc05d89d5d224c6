"""What came of a fault: how often it was tried, how often nothing was lost, and every loss by name."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.faults.bench import Bench


@dataclass
class Tally:
    """Counts of one fault. lost: what was lost, in words, a line each. let_in: how often somebody's code ran, or what
    is private was opened. remarks: what else was seen."""

    tried: int = 0
    survived: int = 0
    let_in: int = 0
    lost: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    skipped: str = ""

    def count(self, losses: list[str] | str) -> None:
        """One more attempt, with what it lost (nothing: it survived)."""
        losses = [losses] if isinstance(losses, str) else losses
        losses = [loss for loss in losses if loss]
        self.tried += 1
        self.survived += not losses
        self.lost += losses

    def to_json(self) -> dict[str, Any]:
        """The fields as plain values."""
        return dataclasses.asdict(self)


@dataclass(frozen=True)
class Fault:
    """One way to hurt: what is done, by which function, how often in the short and in the long form."""

    name: str
    told: str
    run: Callable[["Bench", Tally, int], None]
    short: int
    long: int


FAULTS: dict[str, Fault] = {}


def fault(told: str, *, short: int, long: int) -> Callable:
    """Register a function (bench, tally, count) as a fault, under its own name."""

    def register(function: Callable) -> Callable:
        FAULTS[function.__name__] = Fault(function.__name__, told, function, short, long)
        return function

    return register
