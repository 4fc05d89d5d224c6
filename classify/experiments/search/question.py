"""What a search was asked, checked before anything is computed."""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from classify.experiments.search.grid import Grid
from classify.experiments.settings import Settings
from classify.experiments.validating import AUTO, SPLIT, Folds, check_score, parse_folds, settle
from classify.heads import find_head
from classify.measure.record import RowConfig
from features.datasets import open_dataset
from features.errors import UserError
from features.pooling import parse_pool
from features.reading import require_training_rows
from features.request import Request
from features.rows import limit_rows

LEAST_ROWS, LEAST_OF_A_CLASS = 200, 20  # training rows of the first rung
TIMES = 3  # so many times as many rows in the next rung, and one of so many candidates
_ENOUGH = 1.5  # a rung whose rows are within this of all takes all


@dataclass(frozen=True, kw_only=True)
class SearchQuestion:
    """Everything that was asked, in its strict form.

    request: of the data and the network; its size, layers and poolings are those of no candidate. depth: what 'all'
    stands for among layers. sizes_named: the sizes were asked for, so that one the network cannot take is a mistake.
    """

    request: Request
    grid: Grid
    settings: Settings
    minutes: float
    depth: str = "stage"
    sizes_named: bool = False

    def to_json(self) -> dict[str, Any]:
        """Plain values, without what does not change the numbers."""
        fields = {**dataclasses.asdict(self), "request": self.request.to_json()}
        del fields["settings"]["jobs"], fields["request"]["device"], fields["sizes_named"]
        for name in ("validate", "score", "test"):
            if fields["settings"][name] == getattr(RowConfig, name):
                del fields["settings"][name]
        return fields

    def rungs(self) -> tuple[int | None, ...]:
        """The limits of the rungs, the last that of the request: few rows first, of which each class has some."""
        labels = open_dataset(self.request.dataset).load("train").labels
        labels = labels[limit_rows(labels, self.request.limit, self.request.seed)]
        rows = max(LEAST_ROWS, LEAST_OF_A_CLASS * len(np.unique(labels)))
        limits: list[int | None] = []
        while rows * _ENOUGH < len(labels):
            if self._can_be_chosen_on(rows):
                limits.append(rows)
            rows *= TIMES
        return (*limits, self.request.limit)

    def _can_be_chosen_on(self, rows: int) -> bool:
        """Whether so few training rows can be dealt out: rare classes may have one of them."""
        try:
            self.trial_settings(rows)
        except UserError:
            return False
        return True

    def trial_settings(self, limit: int | None) -> Settings:
        """How candidates are scored on so many training rows: each out of folds that are drawn once where nothing else
        is asked for, since there are many of them."""
        request = dataclasses.replace(self.request, limit=limit)
        settings, _ = settle(self.settings, request, self.grid.head[:1])
        folds = parse_folds(settings.validate)
        if self.settings.validate == AUTO and folds is not None:
            settings = dataclasses.replace(settings, validate=str(Folds(folds.count)))
        return settings

    def last_settings(self, head: str) -> Settings:
        """How the winner is fitted in the end: as `python -m classify` fits the one row."""
        return settle(self.settings, self.request, [head])[0]


def check_minutes(minutes: Any) -> float:
    """The minutes as a number; UserError for what is none, or nothing."""
    try:
        value = float(minutes)
    except (TypeError, ValueError):
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise UserError(f"--search {minutes}: give the minutes that it may take, a number above 0")
    return value


def check_choosing(settings: Settings) -> Settings:
    """The settings, tested on the test split; UserError for a value that no option takes, and for a test that the
    choice of a search would have seen."""
    parse_folds(settings.validate)
    check_score(settings.score)
    if settings.test not in (AUTO, SPLIT):
        raise UserError(
            f"--test {settings.test}: a search has chosen before anything is tested, on all images but those of the "
            "test split; leave one of --test and --search out"
        )
    return dataclasses.replace(settings, test=SPLIT)


def check_grid(heads: Sequence[str], pools: Sequence[str], settings: Settings) -> None:
    """UserError for a head that is not there or cannot weigh classes, and for whole maps."""
    for name in heads:
        find_head(name).build(seed=settings.seed, class_weight=settings.class_weight)
    for pool in pools:
        if parse_pool(pool) == "none":
            raise UserError("--pool none keeps whole maps, which no head of a search reads; give avg, max or grid:4")


def check_rows(request: Request) -> None:
    """UserError unless there are training rows of two classes, and a test split."""
    require_training_rows(request)
    labels = open_dataset(request.dataset).load("train").labels
    rows = limit_rows(labels, request.limit, request.seed)
    if (classes := len(np.unique(labels[rows]))) < 2:
        raise UserError(
            f"the {len(rows)} training rows are of {classes} class; a search needs two to tell apart: raise --limit or "
            "take another data set"
        )
