"""A row made again from its record alone, somewhere else, and held against what the record says.

The configuration in a record is all that determines its numbers. The row is built from it, and made only if it comes to
the very same configuration (same data, same weights, by their SHA-256).
"""

import contextlib
import dataclasses
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from classify.experiments.evaluate import Row, Settings, fit_row, test_rows
from classify.experiments.network_row import NetworkRow
from classify.experiments.networks import evaluate_network
from classify.experiments.probing.entries import head2toe
from classify.experiments.sources import CachedLayer, Pixels
from classify.experiments.training_sets import Change, change_called
from classify.experiments.untouched import UntouchedRow, evaluate_untouched
from classify.experiments.width_matching import Reduction
from classify.heads import HEADS
from classify.heads.network import NETWORKS
from classify.heads.network.settings import TrainingSettings
from classify.heads.regularizers import parse_regularizers
from classify.measure.environment import this_environment
from classify.measure.outcome import Predictions, plain_json
from classify.measure.results import SavedResult
from classify.measure.wording import count, percent
from extract.commands.ensure import ensure_features
from extract.planning import plan
from features.errors import UserError
from features.home import home
from features.request import Request
from features.rows import VALIDATION_SHARE


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
            told = f"differ by up to {self.probability:.2g}" if self.probability else "are the same to the last bit"
            lines.append(f"probabilities {told}")
        if self.keys:
            lines.append(f"other cache keys: {', '.join(self.keys)}")
        changed = ", ".join(f"{name} {then} then and {now} now" for name, (then, now) in self.environment.items())
        lines.append(f"computed with: {changed or 'the same versions on the same processor'}")
        return "\n".join(lines)


def repeat(
    saved: SavedResult, *, dataset: str | None = None, weights: str | None = None, afresh: bool = False
) -> Repetition:
    """Make the row of a record again, in a folder that goes away, and compare.

    dataset, weights: where these stand now, as the command line has them; by default those of the name in the record.
    afresh: extract the features again as well, into a home that goes away. UserError where data or weights are not
    those of the record, and for a row that its configuration does not describe in full.
    """
    before = saved.predictions()
    with tempfile.TemporaryDirectory(prefix="repeat-") as aside, _own_home(Path(aside), afresh):
        made = _make(saved, dataset, weights, Path(aside) / "results")
        after, result = made.predictions(), made.result
    keys = {*saved.result.keys, *result.keys}
    environment, now = saved.result.environment, plain_json(this_environment())
    return Repetition(
        rows=len(before.rows),
        differing=_differing((before.rows, before.predicted), (after.rows, after.predicted)),
        validation_differing=_validation_differing(before, after),
        probability=_largest_difference(before.probabilities, after.probabilities),
        accuracies=(saved.result.metrics.accuracy, result.metrics.accuracy),
        keys=tuple(sorted(name for name in keys if saved.result.keys.get(name) != result.keys.get(name))),
        environment={
            name: (environment.get(name), now.get(name))
            for name in sorted({*environment, *now})
            if environment.get(name) != now.get(name)
        },
    )


def rebuild(config: dict[str, Any], dataset: str | None, weights: str | None) -> Row | NetworkRow | UntouchedRow:
    """The row that a configuration describes; UserError where it comes to another one here."""
    row = _built(config, _request(config, dataset, weights))
    here = plain_json(row.config)
    if here != config:
        names = [name for name in sorted({*here, *config}) if here.get(name) != config.get(name)]
        told = "; ".join(f"{name} is {here.get(name)!r} here and {config.get(name)!r} in the record" for name in names)
        raise UserError(
            f"the row cannot be made again: {told}; say with --dataset or --weights where the right ones are"
        )
    return row


def _request(config: dict[str, Any], dataset: str | None, weights: str | None) -> Request:
    name = str(config.get("weights"))
    known = {field: config[field] for field in ("backbone", "image_size", "precision", "dtype") if field in config}
    seed = config.get("row_seed", config["seed"])
    return Request(
        dataset=dataset or config["dataset"],
        # What was drawn is drawn again, whatever weights the rest of the table had.
        weights="random" if name.startswith("random (seed ") or "weights" not in config else weights or name,
        limit=config["limit"],
        limit_test=config["limit_test"],
        seed=seed,
        **known,
    ).normalised()


def _built(config: dict[str, Any], request: Request) -> Row | NetworkRow | UntouchedRow:
    name = config["head"]
    if name == "untouched":
        return UntouchedRow(request, config["reading"])
    if name in NETWORKS:
        return NetworkRow(
            request,
            name,
            TrainingSettings.from_json({**config["training"], "seed": request.seed}),
            unfreeze=config.get("unfreeze", "all"),
            regularizers=parse_regularizers(config.get("regularizers", ())),
            in_loop=config.get("maps") == "in the loop",
            keep=False,
            validation=config.get("validation", True),
            validation_share=config.get("validation_share", VALIDATION_SHARE),
            change=_change(config),
            fresh_above=config.get("fresh_above"),
            until=config.get("until"),
        )
    if config["layer"] == "pixels":
        source = Pixels(request, config["side"], config["colour"])
    else:
        wanted = dataclasses.replace(request, layers=(config["layer"],), pools=(config["pool"],))
        source = CachedLayer(plan(wanted), config["layer"], config["pool"])
    if name not in HEADS and name != "head2toe":
        raise UserError(f"there is no head called {name!r} in this version; take the one that wrote the record")
    settings = Settings(
        config["seed"],
        config["class_weight"],
        config["search"],
        config["refit"],
        search_rows=config.get("search_rows"),
        validation=config.get("validation", True),
        validation_share=config.get("validation_share", VALIDATION_SHARE),
    )
    kind = config.get("reduction")
    reduction = Reduction(kind, config["width"], config["seed"] if kind == "projection" else 0) if kind else None
    head = HEADS[name] if name in HEADS else head2toe(config["head_params"]["widths"])
    shuffled = config.get("labels") == "shuffled"
    return Row(source, head, settings, shuffled, reduction, keep_head=False, change=_change(config))


def _change(config: dict[str, Any]) -> Change | None:
    return change_called(config["training_set"]) if "training_set" in config else None


def _make(saved: SavedResult, dataset: str | None, weights: str | None, folder: Path) -> SavedResult:
    saved.bring_ranges()
    row = rebuild(saved.result.config, dataset, weights)
    if isinstance(row, NetworkRow):
        return evaluate_network(row, folder=folder, say=lambda line: None)
    if isinstance(row, UntouchedRow):
        return evaluate_untouched(row, folder=folder)
    if isinstance(row.source, CachedLayer):
        ensure_features(row.source.answer.request, quiet=True)
    return test_rows(row.source, [fit_row(row)], folder=folder)[0]


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


def _differing(before: tuple[np.ndarray, np.ndarray], after: tuple[np.ndarray, np.ndarray]) -> int:
    """How many rows are predicted otherwise; all of them where they are other rows."""
    if not np.array_equal(before[0], after[0]):
        return len(before[0])
    return int(np.count_nonzero(before[1] != after[1]))


def _validation_differing(before: Predictions, after: Predictions) -> int | None:
    if before.validation_rows is None or after.validation_rows is None:
        return None
    return _differing(
        (before.validation_rows, before.validation_predicted), (after.validation_rows, after.validation_predicted)
    )


def _largest_difference(before: np.ndarray | None, after: np.ndarray | None) -> float | None:
    if before is None or after is None or before.shape != after.shape:
        return None
    return float(np.abs(before - after).max(initial=0.0))
