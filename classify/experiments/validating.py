"""What rows are chosen on: `--validate auto|holdout|cv:K|cv:KxR` in its strict form, and why it was taken.

'auto' is settled here, before a row is made, and is in no row's identity. What it takes depends on the data and on how
much there is to fit, never on what comes out.
"""

import dataclasses
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from classify.experiments.settings import Settings
from classify.measure.choice import LOG_LOSS
from classify.measure.record import RowConfig
from classify.measure.scores import SCORES
from classify.measure.wording import count
from features.datasets import open_dataset
from features.errors import UserError, unknown
from features.folds import draw_folds, most_folds
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
    validate, line = settled(settings.validate, request, heads, refit=refit, score=settings.score)
    test, tested = settled_test(settings.test, request, validate, refit=refit)
    folds = parse_folds(validate)
    if settings.validate == AUTO and test != SPLIT and folds and folds.repeats > 1:
        # All is done once more for each fold that is tested: drawn once they do.
        validate, line = settled(str(Folds(FOLDS)), request, heads, score=settings.score)
    lines = [remark for remark in (line, tested) if remark]
    return dataclasses.replace(settings, validate=validate, test=test), lines


def settled(
    validate: str, request: Request, heads: Sequence[str], *, refit: bool = True, score: str = RowConfig.score
) -> tuple[str, str]:
    """What is chosen on, 'holdout' or folds, and a line that says so.

    heads: all that are to be fitted on one layer. refit: whether the last fit is on all training rows; folds have no
    other. score: what is chosen by; the log loss is known out of folds alone. Fewer folds are taken than were asked for
    where a class, or its groups, cannot be dealt out to so many. UserError for what cannot be done, before anything is
    extracted.
    """
    on, line = _settled(validate, request, heads, refit)
    if score == LOG_LOSS and on == HOLDOUT:
        raise UserError(
            f"--score {score} is measured out of folds, and here is {line or 'chosen on a hold-out'}; give --validate "
            "cv:5, or another score"
        )
    return on, line


def _settled(validate: str, request: Request, heads: Sequence[str], refit: bool) -> tuple[str, str]:
    asked = parse_folds(validate)
    dataset = open_dataset(request.dataset)
    if validate == HOLDOUT or "train" not in dataset.splits:
        return HOLDOUT, ""
    if "validation" in dataset.splits:
        if asked is None:
            return HOLDOUT, f"chosen on {dataset.name}'s own validation part"
        raise UserError(
            f"--validate {validate}: {request.dataset} brings a validation part of its own, and that is what is chosen "
            "on; leave the option out"
        )
    if not refit:
        if asked is None:
            return (
                HOLDOUT,
                "chosen on a tenth of the training images, held out, since --no-refit wants a last fit without",
            )
        raise UserError(
            f"--validate {validate} fits on all training images in the end; leave out --no-refit, or give --validate "
            "holdout"
        )
    labels = dataset.load("train").labels
    rows = limit_rows(labels, request.limit, request.seed)
    groups = dataset.groups("train")
    n, reason = len(rows), ""
    if asked is None:
        repeats = next((repeats for repeats, most in REPEATS if n * len(heads) <= most), None)
        fitted = f"{count(n)} training images x {len(heads)} head{'s' if len(heads) > 1 else ''}"
        if repeats is None:
            return HOLDOUT, (
                f"chosen on a tenth of the training images, held out: {fitted} are more than {count(REPEATS[-1][1])}, "
                "and folds would take long (--validate cv:5 has them)"
            )
        asked = Folds(FOLDS, repeats)
        reason = f": {fitted} are few enough (--validate holdout holds a tenth out)"
    groups = None if groups is None else groups[rows]
    most = most_folds(labels[rows], groups, classes=dataset.classes)
    fewer = ""
    if most < asked.count:
        what = "images" if groups is None else "groups"
        fewer = f"; not {asked.count}, since the smallest class has {most} {what}"
        asked = Folds(most, asked.repeats)
    if groups is not None:
        # That they cannot be dealt out is said now.
        draw_folds(labels[rows], count=asked.count, repeats=asked.repeats, seed=request.seed, groups=groups)
    return str(asked), f"chosen by cross-validation, {asked.described}{fewer}{reason}"


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
    n = sum(map(len, parts.values()))
    if test == AUTO and n >= MOST_CROSS_TESTED:
        return SPLIT, ""
    taken = {
        split: limit_rows(labels, limit, request.seed)
        for (split, labels), limit in zip(parts.items(), (request.limit, request.limit_test), strict=True)
    }
    labels = np.concatenate([parts[split][rows] for split, rows in taken.items()])
    of_parts = [dataset.groups(split) for split in parts]
    groups = None
    if all(codes is not None for codes in of_parts):
        groups = np.concatenate([codes[rows] for codes, rows in zip(of_parts, taken.values(), strict=True)])  # type: ignore[index]
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
    return f"cv:{count}", f"tested by cross-validation of all {n:,} images, {count} folds, the choice included: {why}"
