"""What rows are chosen on: `--validate auto|holdout|cv:K|cv:KxR` in its strict form, and why it was taken.

'auto' is settled here, before a row is made, and is in no row's identity. What it takes depends on the data and on how
much there is to fit, never on what comes out.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from classify.measure.choice import LOG_LOSS
from classify.measure.record import RowConfig
from classify.measure.scores import SCORES
from classify.measure.wording import count
from features.datasets import open_dataset
from features.errors import UserError, unknown
from features.folds import draw_folds, most_folds
from features.request import Request
from features.rows import limit_rows

AUTO, HOLDOUT = "auto", "holdout"
FOLDS = 5
# `auto`: so many repeats while training rows x heads are at most so many; beyond the last a part is held out.
REPEATS = ((3, 2_000), (1, 50_000))
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
