"""One row of every table: a head on a layer, searched on validation rows, refitted, and tested once.

Nothing but `_test` at the very end opens the test split.
"""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from classify.heads import Head
from classify.heads.search import Search, search
from classify.measure.metrics import measure
from classify.measure.outcome import Predictions, Result
from classify.measure.results import SavedResult, find_result, save_result
from extract.cost import seconds_to_extract
from features.reading import find_cached, read_layer
from features.request import Plan, split_names
from features.rows import validation_split


@dataclass(frozen=True)
class Settings:
    """How heads are fitted, the same for every row of a table.

    class_weight: None or 'balanced'. search: look for hyper-parameters on validation (else the untuned default).
    refit: fit the chosen head again on training and validation rows together. jobs: processor cores (None: all).
    """

    seed: int = 0
    class_weight: str | None = None
    search: bool = True
    refit: bool = True
    jobs: int | None = None


def row_config(answer: Plan, layer: str, head: str, pool: str, settings: Settings) -> dict[str, Any]:
    """All that determines a row: two rows with equal configurations are one."""
    request = answer.request
    first = answer.get(split_names(layer)[0], "train", pool)
    return {
        "dataset": first.about.dataset_name,
        "dataset_sha256": first.key.dataset,
        "backbone": first.key.backbone,
        "weights": first.about.weights_name,
        "weights_sha256": first.key.weights,
        "layer": layer,
        "pool": pool,
        "image_size": first.key.image_size,
        "precision": first.key.precision,
        "dtype": first.key.dtype,
        "limit": request.limit,
        "limit_test": request.limit_test,
        "head": head,
        "seed": settings.seed,
        "class_weight": settings.class_weight,
        "search": settings.search,
        "refit": settings.refit,
    }


def evaluate(
    answer: Plan,
    layer: str,
    head: Head,
    *,
    pool: str | None = None,
    settings: Settings = Settings(),
    folder: Path | str = "results",
    command: str = "",
    again: bool = False,
) -> SavedResult:
    """Fit and test a head on the cached features of a layer, and keep the result in `folder`.

    A row that stands there already is returned as it is, unless it is to be made `again`.
    """
    pool = pool or answer.request.pools[0]
    config = row_config(answer, layer, head.name, pool, settings)
    if not again and (known := find_result(folder, config)) is not None:
        return known
    features, cached = read_layer(answer, layer, "train", pool)
    features, labels = features.reshape(len(features), -1), cached.labels()
    train, validation = validation_split(labels, np.arange(len(labels)), settings.seed)
    fitting = {"seed": settings.seed, "class_weight": settings.class_weight, "jobs": settings.jobs}
    if settings.search:
        found = search(head, features[train], labels[train], features[validation], labels[validation], **fitting)
    else:
        found = Search(params=dict(head.grid[0]), accuracy=float("nan"), trials=(), rows=0, seconds=0.0)
    started = time.perf_counter()
    fitted = head.build(**fitting, **found.params).fit(features[train], labels[train])
    guessed = fitted.predict(features[validation])
    if settings.refit:
        started = time.perf_counter()
        fitted = head.build(**fitting, **found.params).fit(features, labels)
    seconds = {"search": found.seconds, "fit": time.perf_counter() - started}
    extracting = [answer.get(name, "train", pool) for name in split_names(layer)]
    measured = [seconds_to_extract(_file_key(wanted, answer), wanted.rows) for wanted in extracting]
    if None not in measured:
        seconds["extract"] = max(measured)
    tested = _test(answer, layer, pool, fitted)
    seconds["predict"] = tested.pop("seconds")
    predictions = Predictions(
        **tested,
        validation_rows=cached.index()[validation],
        validation_predicted=guessed,
    )
    result = Result(
        config=config,
        metrics=measure(
            predictions.labels, predictions.predicted, predictions.probabilities, cached.file.about.classes
        ),
        chosen=found.params,
        validation_accuracy=float(np.mean(guessed == labels[validation])),
        refit=settings.refit,
        converged=getattr(fitted, "converged_", None),
        seconds=seconds,
        rows={
            "train": len(train),
            "validation": len(validation),
            "test": len(predictions.rows),
            "search": found.rows,
        },
        keys={f"{w.split} {w.layer}": w.key.to_json() for w in answer.wanted if w.layer in split_names(layer)},
        command=command,
        extra={
            "features": features.shape[1],
            "trials": [{**t.params, "accuracy": t.accuracy, "seconds": round(t.seconds, 3)} for t in found.trials],
        },
    )
    return save_result(folder, result, predictions, fitted)


def _file_key(wanted: Any, answer: Plan) -> Any:
    cached = find_cached(wanted, answer.request)
    return cached.file.key if cached else wanted.key


def _test(answer: Plan, layer: str, pool: str, fitted: Any) -> dict[str, Any]:
    """What the fitted head says of the test split, which is opened here and nowhere else."""
    features, cached = read_layer(answer, layer, "test", pool)
    features = features.reshape(len(features), -1)
    started = time.perf_counter()
    predicted = fitted.predict(features)
    seconds = time.perf_counter() - started
    return {
        "rows": cached.index(),
        "labels": cached.labels(),
        "predicted": predicted,
        "probabilities": fitted.predict_proba(features) if hasattr(fitted, "predict_proba") else None,
        "seconds": seconds,
    }
