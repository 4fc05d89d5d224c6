"""What a probe was asked, checked before anything is computed, and what `--quick` leaves out of it."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from classify.experiments.learning_rows import limits_that_cut
from classify.experiments.settings import Settings
from classify.experiments.validating import AUTO, SPLIT, check_score, is_tested_on_folds, parse_folds, settle
from classify.heads import find_head
from classify.measure.record import RowConfig
from features.datasets import open_dataset
from features.errors import UserError
from features.pooling import parse_pool
from features.reading import require_splits
from features.request import Request
from features.rows import limit_rows, validation_split

DEFAULT_HEADS = ("logistic", "linear-svm", "ridge", "knn")
CONTROL_HEADS = ("ridge", "logistic")
QUICK_HEADS = ("ridge", "lda")
QUICK_ROWS = 10_000
QUICK_TEST_ROWS = 2_000
SCORE_ROWS = 10_000
QUICK_SCORE_ROWS = 2_000
# A score takes decompositions of (width, width): beyond this width fewer rows make them small on the other side.
WIDE = 2_048
SEARCH_ROWS = 10_000
# The fields of a question that say what is probed, as options of `probe` call them.
PARTS = ("depth", "controls", "widths", "scores", "head2toe", "select")


@dataclass(frozen=True, kw_only=True)
class Question:
    """Everything that was asked, in its strict form.

    controls: random weights, raw pixels, shuffled labels. widths: the readings at one common width. scores: those that
    need no training, and CKA. head2toe, select: rows of all layers together, and of layers selected greedily.
    control_heads: of the shuffled and width-matched readings. score_rows: the most training rows that scores see.
    networks: each (backbone, weights) beside that of the request. sizes: of the images, in pixels, likewise. notes:
    what `quick` cut, what cannot be had, and what is chosen on.
    """

    request: Request
    heads: tuple[str, ...]
    settings: Settings
    depth: str = "stage"
    controls: bool = True
    random: bool = True
    widths: bool = True
    scores: bool = True
    head2toe: bool = False
    select: bool = False
    control_heads: tuple[str, ...] = CONTROL_HEADS
    score_rows: int = SCORE_ROWS
    quick: bool = False
    networks: tuple[tuple[str, str], ...] = ()
    sizes: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain values, without what does not change the numbers."""
        fields = {**dataclasses.asdict(self), "request": self.request.to_json()}
        del fields["settings"]["jobs"], fields["request"]["device"]
        for name in ("networks", "sizes"):
            if not fields[name]:
                del fields[name]
        for name in ("validate", "score", "test"):  # Earlier documents lack them, at these values.
            if fields["settings"][name] == getattr(RowConfig, name):
                del fields["settings"][name]
        return fields


def ask(request: Request, heads: Sequence[str] | None, settings: Settings, quick: bool, **parts: Any) -> Question:
    """The question in its strict form; UserError for whatever could not be answered in the end.

    heads None means the usual ones, fewer where it is to be `quick`. parts: the fields of `Question` from depth to
    select.
    """
    request, limited = _quick(request) if quick else (request, [])
    usual = QUICK_HEADS if quick else DEFAULT_HEADS
    question = Question(
        request=request.normalised(),
        heads=tuple(dict.fromkeys(usual if heads is None else heads)),
        settings=dataclasses.replace(settings, search_rows=SEARCH_ROWS),
        quick=quick,
        **parts,
    )
    _check_options(question)
    notes: list[str] = []
    cuts: list[str] = []
    if quick:
        if heads is None:
            cuts.append(f"heads {' and '.join(QUICK_HEADS)} instead of {', '.join(DEFAULT_HEADS)}")
        if question.controls:
            cuts.append("no random weights")
        if question.widths or question.controls:
            cuts.append("shuffled labels and matched widths with ridge alone")
        if question.scores:
            cuts.append(f"scores on at most {QUICK_SCORE_ROWS:,} rows instead of {SCORE_ROWS:,}")
    random = question.controls and not quick
    networks = ((request.backbone, request.weights), *question.networks)
    if random and (drawn := [backbone for backbone, weights in networks if weights == "random"]):
        random = len(drawn) < len(networks)
        whose = f" of {', '.join(drawn)}" if random else ""
        notes.append(f"no random-weights control{whose}, since the weights asked for are random")
    question = dataclasses.replace(
        question,
        random=random,
        control_heads=CONTROL_HEADS[:1] if quick else CONTROL_HEADS,
        score_rows=QUICK_SCORE_ROWS if quick else SCORE_ROWS,
        notes=tuple(notes),
    )
    _check_heads(question)
    _check_rows(question.request)
    if question.select and settings.test == AUTO:
        settings = dataclasses.replace(settings, test=SPLIT)
    elif question.select and settings.test != SPLIT:
        raise UserError(
            "--select joins layers before anything is tested, and --test cv would not; leave one of them out"
        )
    settings, lines = settle(
        dataclasses.replace(question.settings, test=settings.test), question.request, question.heads
    )
    cuts = limits_that_cut(question.request, limited) + cuts
    cut = [f"cut to be quick: {'; '.join(cuts)}"] if cuts else []
    return dataclasses.replace(question, settings=settings, notes=(*cut, *question.notes, *lines))


def _check_options(question: Question) -> None:
    """UserError for a value that no option takes."""
    settings = question.settings
    if not question.heads:
        raise UserError("no head was asked for; give --model ridge, or leave the option out")
    if question.depth not in ("stage", "block"):
        raise UserError(f"--depth {question.depth}: give stage or block")
    parse_folds(settings.validate)
    check_score(settings.score)
    if settings.class_weight not in (None, "balanced"):
        raise UserError(f"--class-weight {settings.class_weight}: give balanced, or leave it out")
    if settings.jobs is not None and settings.jobs < 1:
        raise UserError(f"--jobs {settings.jobs}: give a number of processor cores of 1 or more")
    for pool in question.request.pools:
        if parse_pool(pool) == "none":
            raise UserError("--pool none keeps whole maps, which no head of a probe reads; give avg, max or grid:4")


def _quick(request: Request) -> tuple[Request, list[str]]:
    """A request of fewer rows where none were named, and of which splits: none of a few images without a test part,
    which would be tested otherwise for it."""
    if is_tested_on_folds(request):
        return request, []
    limited = []
    if request.limit is None:
        request = dataclasses.replace(request, limit=QUICK_ROWS)
        limited.append("train")
    if request.limit_test is None:
        request = dataclasses.replace(request, limit_test=QUICK_TEST_ROWS)
        limited.append("test")
    return request, limited


def _check_heads(question: Question) -> None:
    """UserError for a head that is not there or cannot weigh classes: before anything is extracted in vain."""
    settings = question.settings
    extra = question.control_heads if question.controls or question.widths else ()
    for name in dict.fromkeys((*question.heads, *extra)):
        find_head(name).build(seed=settings.seed, class_weight=settings.class_weight)
    if question.head2toe and settings.class_weight is not None:
        raise UserError("Head2Toe cannot weight classes; leave out --head2toe or --class-weight")


def _check_rows(request: Request) -> None:
    """UserError unless there are training, validation and test rows of two classes at least."""
    require_splits(request, "train", "test")
    dataset = open_dataset(request.dataset)
    labels = dataset.load("train").labels
    rows = limit_rows(labels, request.limit, request.seed)
    classes = len(np.unique(labels[rows]))
    if classes < 2:
        raise UserError(
            f"the {len(rows)} training rows are of {classes} class; a probe needs two to tell apart: raise --limit or "
            "take another data set"
        )
    if "validation" not in dataset.splits:
        together = dataset.together("train")
        groups = None if together is None else together[0]
        validation_split(labels, rows, request.seed, classes=dataset.classes, groups=groups)
