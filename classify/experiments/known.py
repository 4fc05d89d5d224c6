"""Which result in a folder stands for a row: what is known to be wrong does not, and what other versions made does.

Both are said. What a row takes the place of is moved out of the way when it is made, and read by nothing any more.
"""

import contextlib
import shutil
from pathlib import Path

from classify.experiments.row import Row
from classify.measure.results import SavedResult, find_read_otherwise, find_result
from classify.measure.soundness import OTHER_IMAGES, OTHER_ROWS, SUPERSEDED, WRITTEN_OVER, tested_on_other_rows
from features.datasets import open_dataset
from features.errors import UserError
from features.versions import made_with_others

_VERSIONS = ("layerprobe", "torch", "scikit-learn")


def known_result(row: Row, folder: Path | str) -> tuple[SavedResult | None, str]:
    """The result in a folder that is taken for a row's, and what is to be said of it or of the one that is not."""
    saved = find_result(folder, row.config)
    if saved is not None and tested_on_other_rows(saved.result, lambda: saved.predictions().rows):
        return None, f"{saved.path.name}: {OTHER_ROWS}; made again"
    if saved is not None:
        return saved, _made_with(saved)
    wrong = _superseded(row, folder)
    return None, "" if wrong is None else f"{wrong.path.name}: {_reason(row, wrong)}; made again"


def set_aside_superseded(row: Row, folder: Path | str) -> None:
    """Move what version 0.1.0 wrongly called this row into a folder of its own in the folder of results."""
    if (wrong := _superseded(row, folder)) is None:
        return
    place = Path(folder) / SUPERSEDED
    place.mkdir(exist_ok=True)
    record = wrong.path
    # The record goes first: what it names is then found by nothing.
    for path in (record, *(record.with_suffix(ending) for ending in (".npz", ".joblib", ".skops", ""))):
        if path.exists():
            target = place / path.name
            shutil.rmtree(target, ignore_errors=True)
            path.replace(target)


def _superseded(row: Row, folder: Path | str) -> SavedResult | None:
    # What is damaged is not to be used anyway.
    with contextlib.suppress(UserError):
        if row.superseded is not None and (saved := find_result(folder, row.superseded)):
            return saved
        dataset = open_dataset(row.source.request.dataset)
        if dataset.survey().rule > 1:
            return find_read_otherwise(folder, row.superseded or row.config, dataset.spec)
    return None


def _reason(row: Row, before: SavedResult) -> str:
    if before.fault:
        return before.fault
    if row.source.superseded and "preprocessing" not in row.head.unread:
        return OTHER_IMAGES
    return WRITTEN_OVER


def _made_with(saved: SavedResult) -> str:
    """A line on results that other versions made; '' for those of the versions here."""
    versions = [(name, saved.result.environment.get(name)) for name in _VERSIONS]
    return made_with_others(versions, what="results", again="--again makes them again")
