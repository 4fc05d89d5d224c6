"""The rows that a row's head learns from, and those that it is chosen on.

Where a data set brings a validation part of its own it is chosen on that, and every training row is learnt from; else a
part of the training rows is held out. On folds every training row is both.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from classify.experiments.settings import Settings
from classify.experiments.sources import Rows, Source, take_images
from classify.experiments.validating import SPLIT, parse_folds
from features.blocks import Blocks, Stacked
from features.datasets import ImageFiles, open_dataset
from features.errors import UserError
from features.folds import draw_folds
from features.request import Request
from features.rows import train_and_validation

VALIDATION = "validation"


def limits_that_cut(request: Request, splits: Sequence[str]) -> list[str]:
    """What a request's limits leave of these splits, for people; nothing of a limit that cuts nothing."""
    cuts, limits = [], {"train": ("training", request.limit), "test": ("test", request.limit_test)}
    for split in splits:
        (words, limit), images = limits[split], len(open_dataset(request.dataset).load(split).labels)
        cuts += [f"{limit:,} of {images:,} {words} images"] if limit is not None and limit < images else []
    return cuts


def learning_rows(
    source: Source, settings: Settings, worsened: Callable[[Rows], Rows] = lambda rows: rows
) -> tuple[Rows, np.ndarray, np.ndarray]:
    """All rows to learn from and to choose on, and the sorted numbers of either among them.

    worsened: what is done to the training rows first. The second numbers are none where nothing is to be chosen.
    """
    rows = worsened(
        source.read("train", settings.blocks) if settings.test == SPLIT else all_rows(source, settings.blocks)
    )
    if settings.validation and parse_folds(settings.validate):
        return rows, np.arange(len(rows.labels)), np.arange(len(rows.labels))
    if not (settings.validation and brings_validation(source)):
        cut = train_and_validation(
            rows.labels, settings.seed, settings.validation, settings.validation_share, source.classes, rows.groups
        )
        return rows, *cut
    held = _of_classes(source.read(VALIDATION, settings.blocks), rows.labels)
    if not len(held.labels):
        raise UserError(
            f"the validation part of {source.request.dataset} has no image of the classes of the {len(rows.labels)} "
            "training rows; raise --limit, or add some"
        )
    codes = source.together("train", VALIDATION)
    joined = Rows(
        _below(rows.features, held.features),
        np.concatenate([rows.labels, held.labels]),
        np.concatenate([rows.index, held.index]),
        None if codes is None else np.concatenate([codes[0][rows.index], codes[1][held.index]]),
    )
    numbers = np.arange(len(joined.labels))
    return joined, numbers[: len(rows.labels)], numbers[len(rows.labels) :]


def all_rows(source: Source, blocks: str = "off") -> Rows:
    """The training rows and below them the test rows; the training rows' places are counted down from -1."""
    train, test = source.read("train", blocks), source.read("test", blocks)
    codes = source.together("train", "test")
    groups = None if codes is None else np.concatenate([codes[0][train.index], codes[1][test.index]])
    return Rows(
        _below(train.features, test.features),
        np.concatenate([train.labels, test.labels]),
        np.concatenate([-1 - train.index, test.index]),
        groups,
    )


def folds_of_rows(rows: Rows, settings: Settings) -> np.ndarray | None:
    """The folds that rows are chosen on, (R, N); None where they are not."""
    folds = parse_folds(settings.validate) if settings.validation else None
    if folds is None:
        return None
    return draw_folds(rows.labels, count=folds.count, repeats=folds.repeats, seed=settings.seed, groups=rows.groups)


def training_numbers(
    source: Source, labels: np.ndarray, settings: Settings, groups: np.ndarray | None = None
) -> np.ndarray:
    """The sorted numbers of the rows to learn from among all training rows, whose labels (N,) and groups these are."""
    own = brings_validation(source)
    return train_and_validation(labels, settings.seed, not own, settings.validation_share, source.classes, groups)[0]


def brings_validation(source: Source) -> bool:
    """Whether the data set has a validation part of its own."""
    return VALIDATION in open_dataset(source.request.dataset).splits


def _of_classes(held: Rows, labels: np.ndarray) -> Rows:
    """Those of the classes of some labels: nothing is right about a class that few training rows happen to lack."""
    if (wanted := np.isin(held.labels, labels)).all():
        return held
    taken = np.flatnonzero(wanted)
    inputs = held.features
    is_files = isinstance(inputs, ImageFiles)
    inputs = take_images(inputs, taken) if is_files else inputs.take(taken, axis=0)
    return Rows(inputs, held.labels[taken], held.index[taken], None if held.groups is None else held.groups[taken])


def _below(first: Any, second: Any) -> Any:
    """Inputs with others below them: images, or features, which stay where they are if they are large."""
    if isinstance(first, ImageFiles):
        return first.joined(second)
    if isinstance(first, Blocks) or isinstance(second, Blocks) or first.ndim == 4 and first.dtype != np.uint8:
        return Stacked([first, second])
    return np.concatenate([first, second])
