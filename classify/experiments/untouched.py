"""Rows for the source network as it is: its cached 1000 outputs, read as labels in three ways, and on ImageNet itself.

Nothing is trained. The map from source classes to labels is learnt on the training rows alone.
"""

import dataclasses
import time
from pathlib import Path
from typing import Any

import numpy as np

from classify.experiments.network_row import training_image
from classify.experiments.sources import CachedLayer
from classify.experiments.timing import pass_for_one, seconds_for_one
from classify.heads.network.untouched import (
    READINGS,
    UntouchedClassifier,
    published_accuracy,
    require_source_head,
    seen_as,
    top_k_accuracy,
)
from classify.measure.memory import peak_memory
from classify.measure.metrics import measure
from classify.measure.outcome import Predictions, Result
from classify.measure.results import SavedResult, find_result, save_result
from extract.commands.ensure import ensure_features
from extract.planning import plan
from features.backbones import load_backbone
from features.datasets import open_dataset
from features.reading import read_layer
from features.request import Plan, Request
from features.rows import validation_split


@dataclasses.dataclass(frozen=True)
class UntouchedRow:
    """One reading of the source network's outputs on one data set; the request's layer is always `fc`."""

    request: Request
    reading: str = "matched"

    def __post_init__(self) -> None:
        object.__setattr__(self, "request", dataclasses.replace(self.request, layers=("fc",), pools=("avg",)))

    @property
    def config(self) -> dict[str, Any]:
        """All that determines the row."""
        split, request = self.answer.splits[0], self.request
        wanted = self.answer.get("fc", split)
        source = {
            "dataset": wanted.about.dataset_name,
            "dataset_sha256": wanted.key.dataset,
            "backbone": wanted.key.backbone,
            "weights": wanted.about.weights_name,
            "weights_sha256": wanted.key.weights,
            "layer": "fc",
            "image_size": wanted.key.image_size,
            "precision": wanted.key.precision,
            "dtype": wanted.key.dtype,
            "limit": request.limit,
            "limit_test": request.limit_test,
        }
        return {**source, "head": "untouched", "reading": self.reading, "seed": self.request.seed, "refit": False}

    @property
    def answer(self) -> Plan:
        """The plan for its logits. UserError where the weights came without a classifier."""
        return plan(self.request)

    @property
    def label(self) -> str:
        """The row in a few words."""
        return f"untouched, {self.reading}"


def untouched_rows(request: Request) -> tuple[UntouchedRow, ...]:
    """The rows that there are for a data set: three readings, or its own classes alone where there is no training
    split. UserError where the weights came without a classifier."""
    require_source_head(load_backbone(request.backbone, request.weights, request.seed))
    dataset = open_dataset(request.dataset)
    dataset.require("test")
    readings = READINGS if "train" in dataset.splits else ("own",)
    return tuple(UntouchedRow(request, reading) for reading in readings)


@dataclasses.dataclass(frozen=True, eq=False)
class FittedReading:
    """A row whose map from source classes to labels stands; the test is still to come."""

    row: UntouchedRow
    classifier: UntouchedClassifier
    fields: dict[str, Any]
    validation_rows: np.ndarray | None
    validation_predicted: np.ndarray | None


def evaluate_untouched(
    row: UntouchedRow,
    *,
    folder: Path | str = "results",
    command: str = "",
    again: bool = False,
    compiled: str = "auto",
    jobs: int | None = None,
) -> SavedResult:
    """Read and test the untouched network, and keep the result; one that stands in `folder` is returned as it is,
    unless it is to be made `again`."""
    if not again and (known := find_result(folder, row.config)) is not None:
        return known
    return test_reading(fit_reading(row, compiled=compiled, jobs=jobs), folder=folder, command=command)


def fit_reading(row: UntouchedRow, *, compiled: str = "auto", jobs: int | None = None) -> FittedReading:
    """Learn what there is to learn on the training rows; the test split is not opened."""
    ensure_features(row.request, compiled=compiled, jobs=jobs, quiet=True)
    source = CachedLayer(row.answer, "fc", "avg") if "train" in row.answer.splits else None
    fields: dict[str, Any] = {"refit": False, "seconds": {"fit": 0.0}, "rows": {}, "extra": {"trained_parameters": 0}}
    fields["extra"]["places"] = CachedLayer(row.answer, "fc", "avg").places()
    classifier = UntouchedClassifier(row.reading)
    if source is None:
        width = row.answer.get("fc", "test").shape[0]
        # Its own classes need no training rows: any logits say how many there are.
        classifier.fit(np.zeros((1, width), np.float32), np.zeros(1, np.int64))
        return FittedReading(row, classifier, fields, None, None)
    with peak_memory() as peak:
        rows = source.read("train")
        train, validation = validation_split(rows.labels, np.arange(len(rows.labels)), row.request.seed)
        started = time.perf_counter()
        classifier.fit(rows.features[train], rows.labels[train])
        fields["seconds"] = {"fit": time.perf_counter() - started}
    predicted = classifier.predict(rows.features[validation])
    if (extracting := source.extract_seconds()) is not None:
        fields["seconds"]["extract"] = extracting
    one = seconds_for_one(classifier.predict, np.ascontiguousarray(rows.features[:1]))
    through = pass_for_one(row.answer, ("fc",), training_image(row.request))
    categories = load_backbone(row.request.backbone, row.request.weights, row.request.seed).categories
    names = source.classes
    fields |= {
        "validation_accuracy": float(np.mean(predicted == rows.labels[validation])),
        "rows": {"train": len(train), "validation": len(validation)},
        "keys": source.keys(),
        "extra": {
            **fields["extra"],
            "predict_one_seconds": one + through,
            "seen_as": {
                names[label]: [[*each] for each in seen]
                for label, seen in seen_as(rows.features[train], rows.labels[train], categories).items()
            },
            **peak.to_json(),
        },
    }
    if row.reading == "matched":
        pairs = zip(classifier.classes_, classifier.source_classes_, strict=True)
        fields["extra"]["map"] = {
            names[label]: categories[place] if categories else f"class {place}" for label, place in pairs
        }
    return FittedReading(row, classifier, fields, rows.index[validation], predicted)


def test_reading(fitted: FittedReading, *, folder: Path | str = "results", command: str = "") -> SavedResult:
    """Test a reading and keep the result; the test split is opened here."""
    row, classifier = fitted.row, fitted.classifier
    wanted = row.answer.get("fc", "test")
    logits, cached = read_layer(row.answer, "fc", "test")
    labels = cached.labels()
    started = time.perf_counter()
    predicted = classifier.predict(logits)
    seconds = time.perf_counter() - started
    classes, extra = wanted.about.classes, dict(fitted.fields["extra"])
    if len(classes) == logits.shape[1]:
        extra |= {"top1": top_k_accuracy(logits, labels, 1), "top5": top_k_accuracy(logits, labels, 5)}
        backbone = load_backbone(row.request.backbone, row.request.weights, row.request.seed)
        if (published := published_accuracy(backbone, len(labels))) is not None:
            extra |= {"published_top1": published[0], "published_top5": published[1]}
    predictions = Predictions(
        rows=cached.index(),
        labels=labels,
        predicted=predicted,
        probabilities=_probabilities(classifier, logits, len(classes)),
        validation_rows=fitted.validation_rows,
        validation_predicted=fitted.validation_predicted,
    )
    fields = {
        **fitted.fields,
        "seconds": {**fitted.fields["seconds"], "predict": seconds},
        "rows": {**fitted.fields["rows"], "test": len(labels)},
        "keys": {**fitted.fields.get("keys", {}), "test fc": wanted.key.to_json()},
        "extra": extra,
    }
    measured = measure(labels, predicted, predictions.probabilities, classes)
    result = Result(config=row.config, metrics=measured, command=command, **fields)
    return save_result(folder, result, predictions, classifier)


# pytest would take the name for that of a test.
test_reading.__test__ = False


def _probabilities(classifier: UntouchedClassifier, logits: np.ndarray, classes: int) -> np.ndarray | None:
    """Probabilities (N, classes); None where the source network has classes that the data set has not."""
    if classifier.classes_.max() >= classes:
        return None
    probabilities = np.zeros((len(logits), classes))
    probabilities[:, classifier.classes_] = classifier.predict_proba(logits)
    return probabilities
