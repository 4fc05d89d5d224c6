"""A row made again from its record alone, somewhere else, and held against what the record says.

The configuration in a record is all that determines its numbers. The row is built from it, and made only if it comes to
the very same configuration (same data, same weights, by their SHA-256).
"""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from classify.experiments.making import make
from classify.experiments.row import Row
from classify.experiments.settings import How
from classify.measure.environment import this_environment
from classify.measure.outcome import Predictions, plain_json
from classify.measure.results import SavedResult
from classify.measure.wording import count, percent
from features.home import home
from features.named_code import trusting


@dataclass(frozen=True)
class Repetition:
    """What came of making a row again.

    differing: of the `rows` test predictions, how many are others now; validation_differing likewise, None where there
    was no validation. probability: the largest difference of a probability, None where there are none. accuracies: of
    the record and of now. keys: names of cache keys that differ. environment: what differs, name -> (then, now).
    """

    rows: int
    differing: int
    validation_differing: int | None
    probability: float | None
    accuracies: tuple[float, float]
    keys: tuple[str, ...]
    environment: dict[str, tuple[Any, Any]]

    @property
    def same(self) -> bool:
        """Whether every prediction is what it was, from features under the same keys."""
        return not (self.differing or self.validation_differing or self.keys)

    def __str__(self) -> str:
        then, now = self.accuracies
        if self.same:
            lines = [f"the same: all {count(self.rows)} test predictions are what they were ({percent(then)} % right)"]
        else:
            lines = [
                f"NOT the same: {count(self.differing)} of {count(self.rows)} test predictions differ; "
                f"{percent(then)} % were right, {percent(now)} % are now"
            ]
        if self.validation_differing:
            lines.append(f"{count(self.validation_differing)} validation predictions differ")
        if self.probability is not None:
            difference = (
                f"differ by up to {self.probability:.2g}" if self.probability else "are the same to the last bit"
            )
            lines.append(f"probabilities {difference}")
        if self.keys:
            lines.append(f"other cache keys: {', '.join(self.keys)}")
        changed = ", ".join(f"{name} {then} then and {now} now" for name, (then, now) in self.environment.items())
        lines.append(f"computed with: {changed or 'the same versions on the same processor'}")
        return "\n".join(lines)


def repeat(
    saved: SavedResult,
    *,
    dataset: str | None = None,
    weights: str | None = None,
    afresh: bool = False,
    trust: bool = False,
) -> Repetition:
    """Make the row of a record again, in a folder that goes away, and compare.

    dataset, weights: where these stand now, as the command line has them; by default those of the name in the record.
    afresh: extract the features again as well, into a home that goes away. trust: run the code that the record names
    (`features.named_code`). UserError where data or weights are not
    those of the record, and for a row that its configuration does not describe in full.
    """
    before = saved.predictions()
    with tempfile.TemporaryDirectory(prefix="repeat-") as aside, _own_home(Path(aside), afresh), trusting(trust):
        saved.bring_ranges()
        row = Row.from_config(saved.result.config, dataset=dataset, weights=weights, keep=False)
        made = make(row, How(folder=Path(aside) / "results"))
        after, result = made.predictions(), made.result
    keys = {*saved.result.keys, *result.keys}
    environment, now = saved.result.environment, plain_json(this_environment())
    return Repetition(
        rows=len(before.rows),
        differing=_differing(before, after) or 0,
        validation_differing=_differing(before, after, "validation_rows", "validation_predicted"),
        probability=_largest_difference(before.probabilities, after.probabilities),
        accuracies=(saved.result.metrics.accuracy, result.metrics.accuracy),
        keys=tuple(sorted(name for name in keys if saved.result.keys.get(name) != result.keys.get(name))),
        environment={
            name: (environment.get(name), now.get(name))
            for name in sorted({*environment, *now})
            if environment.get(name) != now.get(name)
        },
    )


@contextlib.contextmanager
def _own_home(aside: Path, afresh: bool) -> Iterator[None]:
    """A home without features, whose data sets and weights are those of the real one."""
    if not afresh:
        yield
        return
    before, real = os.environ.get("LAYERPROBE_HOME"), home()
    (aside / "home" / "notes").mkdir(parents=True)
    for name in ("datasets", "weights", "known.json", "notes/known"):
        if (real / name).exists():
            (aside / "home" / name).symlink_to(real / name)
    os.environ["LAYERPROBE_HOME"] = str(aside / "home")
    try:
        yield
    finally:
        os.environ.pop("LAYERPROBE_HOME")
        if before is not None:
            os.environ["LAYERPROBE_HOME"] = before


def _differing(before: Predictions, after: Predictions, rows: str = "rows", predicted: str = "predicted") -> int | None:
    """How many rows are predicted otherwise; all of them where they are other rows, None where there are none."""
    then, now = ((getattr(made, rows), getattr(made, predicted)) for made in (before, after))
    if then[0] is None or now[0] is None:
        return None
    return int(np.count_nonzero(then[1] != now[1])) if np.array_equal(then[0], now[0]) else len(then[0])


def _largest_difference(before: np.ndarray | None, after: np.ndarray | None) -> float | None:
    if before is None or after is None or before.shape != after.shape:
        return None
    return float(np.abs(before - after).max(initial=0.0))
