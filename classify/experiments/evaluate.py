"""One row of every table: a head on features, searched on validation rows, refitted, and tested once.

`evaluate` does it all for one row. An experiment with many rows fits them first (`fit_row`) and tests them at its very
end (`test_rows`): nothing but `test_rows` opens the test split.
"""

import dataclasses
import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from classify.experiments.sources import CachedLayer, Rows, Source
from classify.experiments.timing import seconds_for_one
from classify.experiments.training_sets import Change
from classify.heads import HEADS, Head
from classify.heads.estimator import trained_parameters
from classify.heads.on_axes import Axes, OnAxes, Reduction
from classify.heads.on_device import gpu_for_heads
from classify.heads.search import Search, search
from classify.measure.memory import peak_memory
from classify.measure.metrics import measure
from classify.measure.outcome import Predictions, Result
from classify.measure.results import SavedResult, find_result, save_result
from extract.cluster import where_this_runs
from features.blocks import Blocks
from features.request import Plan
from features.rows import VALIDATION_SHARE, train_and_validation


@dataclass(frozen=True)
class Settings:
    """How heads are fitted, the same for every row of a table.

    class_weight: None or 'balanced'. search: look for hyper-parameters on validation (else the untuned default).
    refit: fit the chosen head again on training and validation rows together. jobs: processor cores (None: all).
    search_rows: for heads that search on a part of the rows, a smaller part than their own. validation: False trains
    on every row; as there is nothing to choose on, the head takes its untuned default. validation_share: of the
    training rows, held out. blocks: 'auto' leaves features in the store that would not fit into memory, 'on' all, 'off'
    none; the same numbers to rounding, so no part of what a row is.
    """

    seed: int = 0
    class_weight: str | None = None
    search: bool = True
    refit: bool = True
    jobs: int | None = None
    search_rows: int | None = None
    validation: bool = True
    validation_share: float = VALIDATION_SHARE
    blocks: str = "auto"


@dataclass(frozen=True)
class Row:
    """What a row is, before anything is computed.

    shuffled: the training split's labels are permuted, so that a head can only learn by heart. reduction: features are
    brought to a width first. keep_head: the fitted head is kept with the result. searched: what the search of a row
    that differs in nothing but its refit has found; it is not repeated. change: the training set is made worse first.
    """

    source: Source
    head: Head
    settings: Settings = Settings()
    shuffled: bool = False
    reduction: Reduction | None = None
    keep_head: bool = True
    searched: Search | None = None
    change: Change | None = None

    @property
    def search_rows(self) -> int | None:
        """The most rows that the search takes."""
        own, cap = self.head.search_rows, self.settings.search_rows
        return own if own is None or cap is None else min(own, cap)

    @property
    def config(self) -> dict[str, Any]:
        """All that determines the row: two rows with equal configurations are one."""
        config = {
            **self.source.config,
            "head": self.head.name,
            "seed": self.settings.seed,
            "class_weight": self.settings.class_weight,
            "search": self.settings.search,
            "refit": self.settings.refit,
        }
        # What most rows do not have is left out, so that such a row is the same one in every experiment.
        if self.search_rows != self.head.search_rows:
            config["search_rows"] = self.search_rows
        if self.head.name not in HEADS:
            config["head_params"] = dict(self.head.grid[0])
        if not self.settings.validation:
            config["validation"] = False
        if self.settings.validation_share != VALIDATION_SHARE:
            config["validation_share"] = self.settings.validation_share
        if self.shuffled:
            config["labels"] = "shuffled"
        if self.change:
            config["training_set"] = self.change.name
        if self.reduction:
            config |= {"reduction": self.reduction.kind, "width": self.reduction.width}
        return config


@dataclass(frozen=True, eq=False)
class FittedRow:
    """A row whose head stands, with all that was found on training and validation rows; the test is still to come.

    head: the fitted classifier. axes: what brings features to the row's width first, or None. fields: of the `Result`.
    validation_rows and validation_predicted: int64 (V,) or None, as in `Predictions`. blocks: as in `Settings`.
    """

    head: Any
    axes: Axes | None
    keep_head: bool
    fields: dict[str, Any]
    validation_rows: np.ndarray | None
    validation_predicted: np.ndarray | None
    blocks: str = "auto"


def row_config(answer: Plan, layer: str, head: str, pool: str, settings: Settings) -> dict[str, Any]:
    """All that determines the row of a head (by name) on a layer."""
    return Row(CachedLayer(answer, layer, pool), HEADS[head], settings).config


def evaluate(
    answer: Plan,
    layer: str,
    head: Head,
    *,
    pool: str | None = None,
    settings: Settings = Settings(),
    reduction: Reduction | None = None,
    folder: Path | str = "results",
    command: str = "",
    again: bool = False,
) -> SavedResult:
    """Fit and test a head on the cached features of a layer, reduced first if asked, and keep the result in `folder`.

    A row that stands there already is returned as it is, unless it is to be made `again`.
    """
    source = CachedLayer(answer, layer, pool or answer.request.pools[0])
    row = Row(source, head, settings, reduction=reduction)
    return evaluate_row(row, folder=folder, command=command, again=again)


def evaluate_row(row: Row, *, folder: Path | str = "results", command: str = "", again: bool = False) -> SavedResult:
    """Fit and test one row and keep the result in `folder`; one that stands there is returned, unless `again`."""
    if not again and (known := find_result(folder, row.config)) is not None:
        return known
    return test_rows(row.source, [fit_row(row)], folder=folder, command=command)[0]


def fit_row(row: Row) -> FittedRow:
    """Search, fit and refit the head of a row on the training split; the test split is not opened."""
    with peak_memory() as peak:
        fitted = _fit(row)
    fitted.fields["extra"] |= peak.to_json()
    if (cluster := where_this_runs()) is not None:
        fitted.fields["extra"]["cluster"] = cluster
    return fitted


def _fit(row: Row) -> FittedRow:
    head, settings = row.head, row.settings
    rows = row.source.read("train", settings.blocks)
    features, labels, index = rows.features, rows.labels, rows.index
    if row.change:
        kept, labels = row.change.apply(labels, settings.seed)
        features, index = features.take(kept, axis=0), index[kept]
    held_out = settings.validation_share
    train, validation = train_and_validation(labels, settings.seed, settings.validation, held_out)
    if row.shuffled:
        labels = shuffled_labels(labels, settings.seed)
    axes = row.reduction.fit(features.take(train, axis=0)) if row.reduction else None
    if axes:
        features = axes.apply(features)
    fitting = {"seed": settings.seed, "class_weight": settings.class_weight, "jobs": settings.jobs}
    fitting["device"] = gpu_for_heads(row.source.device)
    # A single candidate is not searched for.
    if row.searched is not None:
        found = row.searched
    elif settings.search and settings.validation and len(head.grid) > 1:
        searched = dataclasses.replace(head, search_rows=row.search_rows)
        parts = [part for taken in (train, validation) for part in (features.take(taken, axis=0), labels[taken])]
        found = search(searched, *parts, **fitting)
    else:
        found = Search(params=dict(head.grid[0]), accuracy=float("nan"), trials=(), rows=0, seconds=0.0)
    started = time.perf_counter()
    chosen = head.build(**fitting, **found.params)
    guessed, fitted = found.predicted if settings.refit else None, None
    if guessed is None:
        fitted = chosen.fit(features.take(train, axis=0), labels[train])
        guessed = fitted.predict(features.take(validation, axis=0)) if len(validation) else None
    if settings.refit and guessed is not None:
        started = time.perf_counter()
        fitted = head.build(**fitting, **found.params).fit(features, labels)
    seconds = {"search": found.seconds, "fit": time.perf_counter() - started}
    if (extracting := row.source.extract_seconds()) is not None:
        seconds["extract"] = extracting
    fields = {
        "config": row.config,
        "chosen": found.params,
        "validation_accuracy": None if guessed is None else float(np.mean(guessed == labels[validation])),
        "refit": settings.refit,
        "converged": getattr(fitted, "converged_", None),
        "seconds": seconds,
        "rows": {"train": len(train), "validation": len(validation), "search": found.rows},
        "keys": row.source.keys(),
        "extra": {
            "features": features.shape[1],
            "places": row.source.places(),
            "trials": [{**t.params, "accuracy": t.accuracy, "seconds": round(t.seconds, 3)} for t in found.trials],
        },
    }
    if isinstance(features, Blocks):
        fields["extra"]["read"] = "in blocks"
    if hasattr(fitted, "kept_by_layer_"):
        fields["extra"]["kept_by_layer"] = fitted.kept_by_layer_
    held = None if guessed is None else index[validation]
    return FittedRow(fitted, axes, row.keep_head, fields, held, guessed, settings.blocks)


def shuffled_labels(labels: np.ndarray, seed: int) -> np.ndarray:
    """The labels (N,) in an order of their own: as many of each class, and none belongs to its image."""
    return np.random.default_rng([seed, 2]).permutation(labels)


def test_rows(
    source: Source, fitted: Iterable[FittedRow], *, folder: Path | str = "results", command: str = ""
) -> list[SavedResult]:
    """Test the fitted rows of one source and keep the results; the source's test split is read here, once for all."""
    read = lru_cache(lambda blocks: source.read("test", blocks))
    classes = source.classes
    return [_test(row, read(row.blocks), classes, folder, command) for row in fitted]


# pytest would take the name for that of a test.
test_rows.__test__ = False


def _probabilities(head: Any, features: np.ndarray, classes: int) -> np.ndarray | None:
    """(N, classes), nought for a class of which no row was trained on; None for a head that has no probabilities."""
    if not hasattr(head, "predict_proba"):
        return None
    found = head.predict_proba(features)
    wide = np.zeros((len(found), classes), found.dtype)
    wide[:, head.classes_] = found
    return wide


def _test(row: FittedRow, rows: Rows, classes: tuple[str, ...], folder: Path | str, command: str) -> SavedResult:
    features = row.axes.apply(rows.features) if row.axes else rows.features
    kept = OnAxes(row.axes, row.head) if row.axes else row.head
    started = time.perf_counter()
    predicted = row.head.predict(features)
    seconds = time.perf_counter() - started
    predictions = Predictions(
        rows=rows.index,
        labels=rows.labels,
        predicted=predicted,
        probabilities=_probabilities(row.head, features, len(classes)),
        validation_rows=row.validation_rows,
        validation_predicted=row.validation_predicted,
    )
    fields = {
        **row.fields,
        "seconds": {**row.fields["seconds"], "predict": seconds},
        "rows": {**row.fields["rows"], "test": len(rows.labels)},
        "extra": {
            **row.fields["extra"],
            "trained_parameters": trained_parameters(row.head),
            "head_one_seconds": seconds_for_one(row.head.predict, np.array(features[:1])),
        },
    }
    measured = measure(predictions.labels, predictions.predicted, predictions.probabilities, classes)
    result = Result(metrics=measured, command=command, **fields)
    return save_result(folder, result, predictions, kept if row.keep_head else None)
