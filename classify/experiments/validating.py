"""What rows are chosen on: `--validate auto|holdout|cv:K|cv:KxR` in its strict form, and why it was taken.

'auto' is settled here, before a row is made, and is in no row's identity. What it takes depends on the data and on how
much there is to fit, never on what comes out.
"""

import dataclasses
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from classify.experiments.settings import Settings
from classify.measure.choice import LOG_LOSS
from classify.measure.record import RowConfig
from classify.measure.scores import SCORES
from classify.measure.wording import count
from features.datasets import Dataset, open_dataset
from features.digests import sha256_rows
from features.errors import UserError, unknown
from features.folds import draw_folds, most_folds
from features.notes import remembered_answer
from features.request import Request
from features.rows import limit_rows

AUTO, HOLDOUT, SPLIT = "auto", "holdout", "split"
FOLDS = 5
# `auto`: so many repeats while training rows x heads are at most so many; beyond the last a part is held out.
REPEATS = ((3, 2_000), (1, 50_000))
MOST_CROSS_TESTED = 2_000  # images of a folder or csv that names no test part, which are all tested
_FORM = re.compile(r"cv:([0-9]{1,4})(?:x([0-9]{1,4}))?")


@dataclass(frozen=True)
class Folds:
    """So many folds, drawn so many times."""

    count: int
    repeats: int = 1

    def __str__(self) -> str:
        return f"cv:{self.count}" + (f"x{self.repeats}" if self.repeats > 1 else "")

    @property
    def described(self) -> str:
        """'5 folds, drawn 3 times'."""
        return f"{self.count} folds" + (f", drawn {self.repeats} times" if self.repeats > 1 else "")


def parse_folds(text: str, option: str = "--validate") -> Folds | None:
    """The folds of 'cv:5' and 'cv:5x3', None of 'holdout' and 'auto'; UserError for anything else."""
    if text in (AUTO, HOLDOUT):
        return None
    match = _FORM.fullmatch(text)
    if match is None or int(match[1]) < 2 or match[2] and int(match[2]) < 1:
        others = "auto, holdout, " if option == "--validate" else ""
        raise UserError(
            f"{option} {text}: give {others}cv:5 for five folds or cv:5x3 for five folds drawn three times; folds are "
            "2 or more"
        )
    return Folds(int(match[1]), int(match[2] or 1))


def check_score(score: str) -> None:
    """Raise UserError for a score that there is not."""
    if score not in SCORES:
        raise unknown(f"--score {score}: there is no such score", score, SCORES)


def settle(settings: Settings, request: Request, heads: Sequence[str]) -> tuple[Settings, list[str]]:
    """The settings with what is chosen on and what is tested on in their strict forms, and what is to be said of it.

    heads: all that are to be fitted on one layer. UserError for what cannot be done, before anything is extracted.
    """
    refit = settings.refit
    chosen_on = _settled(settings.validate, request, heads, refit=refit, score=settings.score)
    test, tested = settled_test(settings.test, request, chosen_on.validate, refit=refit)
    if settings.validate == AUTO and test != SPLIT and chosen_on.folds and chosen_on.folds.repeats > 1:
        # All is done once more for each fold that is tested: drawn once they do.
        chosen_on = dataclasses.replace(chosen_on, folds=Folds(chosen_on.folds.count), reason="")
    lines = [remark for remark in (chosen_on.line, tested) if remark]
    return dataclasses.replace(settings, validate=chosen_on.validate, test=test), lines


def for_networks(settings: Settings, validate: str, test: str) -> Settings:
    """The same settings for networks, which are trained on folds only where these were asked for: validate and test,
    as they were typed."""
    asked = test not in (AUTO, SPLIT)
    return dataclasses.replace(
        settings,
        validate=settings.validate if parse_folds(validate) else HOLDOUT,
        test=settings.test if asked else SPLIT,
    )


def settled(
    validate: str, request: Request, heads: Sequence[str], *, refit: bool = True, score: str = RowConfig.score
) -> tuple[str, str]:
    """What is chosen on, 'holdout' or folds, and a line that says so.

    heads: all that are to be fitted on one layer. refit: whether the last fit is on all training rows; folds have no
    other. score: what is chosen by; the log loss is known out of folds alone. Fewer folds are taken than were asked for
    where a class, or its groups, cannot be dealt out to so many. UserError for what cannot be done, before anything is
    extracted.
    """
    chosen_on = _settled(validate, request, heads, refit=refit, score=score)
    return chosen_on.validate, chosen_on.line


@dataclass(frozen=True)
class _ChosenOn:
    """What is chosen on: folds, fewer of them than were asked for where `fewer` says so, or a hold-out; and why."""

    folds: Folds | None = None
    fewer: str = ""
    reason: str = ""

    @property
    def validate(self) -> str:
        return HOLDOUT if self.folds is None else str(self.folds)

    @property
    def line(self) -> str:
        if self.folds is None:
            return self.reason
        return f"chosen by cross-validation, {self.folds.described}{self.fewer}{self.reason}"


def _settled(validate: str, request: Request, heads: Sequence[str], *, refit: bool, score: str) -> _ChosenOn:
    chosen_on = _on_folds_or_not(validate, request, heads, refit)
    if score == LOG_LOSS and chosen_on.folds is None:
        raise UserError(
            f"--score {score} is measured out of folds, and here is {chosen_on.line or 'chosen on a hold-out'}; give "
            "--validate cv:5, or another score"
        )
    return chosen_on


def _on_folds_or_not(validate: str, request: Request, heads: Sequence[str], refit: bool) -> _ChosenOn:
    asked = parse_folds(validate)
    dataset = open_dataset(request.dataset)
    if validate == HOLDOUT or "train" not in dataset.splits:
        return _ChosenOn()
    if "validation" in dataset.splits:
        if asked is None:
            return _ChosenOn(reason=f"chosen on {dataset.name}'s own validation part")
        raise UserError(
            f"--validate {validate}: {request.dataset} brings a validation part of its own, and that is what is chosen "
            "on; leave the option out"
        )
    if not refit:
        if asked is None:
            return _ChosenOn(
                reason="chosen on a tenth of the training images, held out, since --no-refit wants a last fit without"
            )
        raise UserError(
            f"--validate {validate} fits on all training images in the end; leave out --no-refit, or give --validate "
            "holdout"
        )
    rows, reason = _TrainingRows(dataset, request), ""
    if asked is None:
        repeats = next((repeats for repeats, most in REPEATS if rows.count * len(heads) <= most), None)
        fitted = f"{count(rows.count)} training images x {len(heads)} head{'s' if len(heads) > 1 else ''}"
        if repeats is None:
            return _ChosenOn(
                reason=f"chosen on a tenth of the training images, held out: {fitted} are more than "
                f"{count(REPEATS[-1][1])}, and folds would take long (--validate cv:5 has them)"
            )
        asked = Folds(FOLDS, repeats)
        reason = f": {fitted} are few enough (--validate holdout holds a tenth out)"
    most, fewer = rows.most_folds, ""
    if most < asked.count:
        fewer = f"; not {asked.count}, since the smallest class has {most} {rows.units}"
        asked = Folds(most, asked.repeats)
    rows.require_folds(asked)
    return _ChosenOn(asked, fewer, reason)


@dataclass(frozen=True, eq=False)
class _TrainingRows:
    """What folds ask of the training rows that a request takes: worked out once for the same rows of the same data,
    whose labels are not opened again."""

    dataset: Dataset
    request: Request

    @cached_property
    def groups(self) -> np.ndarray | None:
        """Of all training rows."""
        together = self.dataset.together("train")
        return None if together is None else together[0]

    @property
    def units(self) -> str:
        """What is dealt out to folds, in the plural."""
        if self.groups is None:
            return "images"
        return "different images" if self.dataset.groups("train") is None else "groups"

    @cached_property
    def count(self) -> int:
        return int(self._remembered("how many", lambda: len(self._taken[0])))

    @cached_property
    def most_folds(self) -> int:
        """UserError as from `features.folds.most_folds`."""
        classes = self.dataset.classes
        return int(self._remembered("the most folds", lambda: most_folds(*self._taken, classes=classes)))

    def require_folds(self, folds: Folds) -> None:
        """UserError where groups cannot be dealt out to them."""
        if self.groups is not None:
            drawn = {"count": folds.count, "repeats": folds.repeats, "seed": self.request.seed}
            self._remembered(f"{folds}", lambda: draw_folds(self._taken[0], groups=self._taken[1], **drawn).shape)

    @cached_property
    def _taken(self) -> tuple[np.ndarray, np.ndarray | None]:
        """Labels and groups of the rows taken."""
        labels = self.dataset.load("train").labels
        rows = limit_rows(labels, self.request.limit, self.request.seed)
        return labels[rows], None if self.groups is None else self.groups[rows]

    def _remembered(self, what: str, work_out: Callable[[], Any]) -> str:
        rows = (
            f"{self.request.limit} of the training rows with seed {self.request.seed} of {self.dataset.fingerprint()}"
        )
        rows += "" if self.groups is None else f" in the groups {sha256_rows(self.groups)}"
        return remembered_answer(f"{what} of {rows}", lambda: str(work_out()))


def is_tested_on_folds(request: Request) -> bool:
    """Whether all images of a request are tested on folds where nothing else is said: few ones without a test part."""
    return settled_test(AUTO, request, AUTO)[0] != SPLIT


def settled_test(test: str, request: Request, validate: str, *, refit: bool = True) -> tuple[str, str]:
    """What is tested on, 'split' or folds of all images, and a line that says so.

    validate: what is chosen on, outside each fold as well. UserError where the data set names test images of its own,
    and where a class has too few images.
    """
    if test not in (AUTO, SPLIT) and ((folds := parse_folds(test, "--test")) is None or folds.repeats > 1):
        raise UserError(f"--test {test}: give auto, split, or cv:5 for five folds")
    dataset = open_dataset(request.dataset)
    if test == SPLIT or set(dataset.splits) < {"train", "test"}:
        return SPLIT, ""
    if test == AUTO:
        usual = request.dataset.startswith(("folder:", "csv:")) and dataset.cuts_test and refit
        if not usual or request.limit_test is not None or validate == HOLDOUT:
            return SPLIT, ""
    elif not dataset.cuts_test:
        raise UserError(
            f"--test {test}: {request.dataset} has test images of its own, and those are what is tested on; leave the "
            "option out, or put all images into one part"
        )
    elif not refit:
        raise UserError(f"--test {test} fits on all images in the end; leave out --no-refit or --test")
    # Opened only where it matters: labels may stand beside all images.
    parts = {split: dataset.load(split).labels for split in ("train", "test")}
    if test == AUTO and sum(map(len, parts.values())) >= MOST_CROSS_TESTED:
        return SPLIT, ""
    taken = {
        split: limit_rows(labels, limit, request.seed)
        for (split, labels), limit in zip(parts.items(), (request.limit, request.limit_test), strict=True)
    }
    labels = np.concatenate([parts[split][rows] for split, rows in taken.items()])
    together = dataset.together(*parts)
    groups = None
    if together is not None:
        groups = np.concatenate([codes[rows] for codes, rows in zip(together, taken.values(), strict=True)])
    folds = Folds(FOLDS) if test == AUTO else parse_folds(test, "--test")
    assert folds is not None
    try:
        count = min(folds.count, most_folds(labels, groups, classes=dataset.classes, where="among all images"))
        numbers = draw_folds(labels, count=count, seed=request.seed, groups=groups)[0]
        for fold in range(count):
            outside = numbers != fold
            inner = None if groups is None else groups[outside]
            most_folds(labels[outside], inner, classes=dataset.classes, where="outside a fold of --test")
    except UserError:
        if test == AUTO:
            return SPLIT, ""
        raise
    why = "no test part is named" if test == AUTO else "as asked"
    return (
        f"cv:{count}",
        f"tested by cross-validation of all {len(labels):,} images, {count} folds, the choice included: {why}",
    )
