"""The source network as it is: its cached outputs, read as labels in one of three ways.

Nothing is trained. The map from source classes to labels is learnt on the training rows alone; where a data set has
none (ImageNet itself) its classes are the network's own.
"""

import dataclasses
import time
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from classify.experiments.kinds.kind import Kind, Learned, Predicted, Training, wide
from classify.experiments.settings import Settings
from classify.experiments.sources import CachedLayer, Rows, Source, training_image
from classify.experiments.timing import pass_for_one, seconds_for_one
from classify.measure.record import RowConfig
from extract.planning import plan
from features.datasets import open_dataset
from features.request import Request, selected_rows


@dataclass(frozen=True, kw_only=True)
class Untouched(Kind):
    """One reading of the source network's outputs; reading: from `classify.heads.network.untouched.READINGS`."""

    reading: str = "matched"

    @classmethod
    def on(cls, request: Request, reading: str) -> tuple[CachedLayer, Self]:
        """The source and the head on a request. UserError where the weights came without a classifier."""
        request = request.of_one_view()
        logits = CachedLayer(plan(dataclasses.replace(request, layers=("fc",), pools=("avg",))), "fc", "avg")
        return logits, cls(reading=reading)

    @property
    def name(self) -> str:
        return "untouched"

    def label(self, source: Source) -> str:
        return f"untouched, {self.reading}"

    @property
    def unread(self) -> tuple[str, ...]:
        return ("pool",)

    def config(self, source: Source, settings: Settings) -> dict[str, Any]:
        return {"reading": self.reading, "refit": False}

    @classmethod
    def from_config(cls, config: RowConfig, request: Request) -> tuple[Source, Self]:
        return cls.on(request, config.reading or "matched")

    def check(self, source: Source, settings: Settings) -> None:
        from classify.heads.network.untouched import require_enough_classes, require_source_head

        dataset = open_dataset(source.request.dataset)
        dataset.require("test")
        require_source_head(_backbone(source))
        if self.reading != "own":
            assert isinstance(source, CachedLayer)  # as `on` makes it
            labels = dataset.load("train").labels
            rows = selected_rows(labels, source.request, "train")
            require_enough_classes(source.first.shape[0], len(np.unique(labels[rows])))

    def learn(self, training: Training) -> Learned:
        from classify.heads.network.untouched import UntouchedClassifier, seen_as

        classifier, source, rows = UntouchedClassifier(self.reading), training.source, training.rows
        assert isinstance(source, CachedLayer)  # as `on` makes it
        extra: dict[str, Any] = {"trained_parameters": 0}
        if rows is None:
            # Its own classes need no training rows: any logits say how many there are.
            classifier.fit(np.zeros((1, source.first.shape[0]), np.float32), np.zeros(1, np.int64))
            return Learned(classifier, None, seconds={"fit": 0.0}, extra=extra)
        logits, labels = rows.features, rows.labels
        train, names, categories = training.train, source.classes, _backbone(source).categories
        started = time.perf_counter()
        classifier.fit(logits[train], labels[train])
        seconds = time.perf_counter() - started
        one_seconds = seconds_for_one(classifier.predict, np.ascontiguousarray(logits[:1]))
        seen = seen_as(logits[train], labels[train], categories)
        extra["predict_one_seconds"] = one_seconds + pass_for_one(source, training_image(source.request))
        extra["seen_as"] = {names[label]: [[*share] for share in shares] for label, shares in seen.items()}
        if self.reading == "matched":
            pairs = zip(classifier.classes_, classifier.source_classes_, strict=True)
            extra["map"] = {
                names[label]: categories[place] if categories else f"class {place}" for label, place in pairs
            }
        predicted = classifier.predict(logits[training.validation])
        if training.folds is not None:
            predicted = _out_of_folds(UntouchedClassifier(self.reading), logits, labels, training.folds)
        return Learned(classifier, predicted, seconds={"fit": seconds}, extra=extra)

    def predict(self, classifier: Any, rows: Rows, source: Source) -> Predicted:
        started = time.perf_counter()
        predicted = classifier.predict(rows.features)
        seconds = time.perf_counter() - started
        classes, probabilities = len(source.classes), None
        # The source network may have classes that the data set has not.
        if classifier.classes_.max() < classes:
            probabilities = wide(classifier.predict_proba(rows.features), classifier.classes_, classes)
        return Predicted(predicted, probabilities, seconds)

    def tested(self, classifier: Any, rows: Rows, source: Source, keep: bool) -> dict[str, Any]:
        from classify.heads.network.untouched import published_accuracy, top_k_accuracy

        if len(source.classes) != rows.features.shape[1]:
            return {}
        extra = {f"top{k}": top_k_accuracy(rows.features, rows.labels, k) for k in (1, 5)}
        if (published := published_accuracy(_backbone(source), len(rows.labels))) is not None:
            extra |= {"published_top1": published[0], "published_top5": published[1]}
        return extra


def _out_of_folds(classifier: Any, logits: np.ndarray, labels: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """What is predicted for each row (R, N) by the map that was learnt outside its fold."""
    predicted = np.empty_like(folds)
    for repeat, numbers in enumerate(folds):
        for fold in np.unique(numbers):
            inside = numbers == fold
            predicted[repeat, inside] = classifier.fit(logits[~inside], labels[~inside]).predict(logits[inside])
    return predicted


def _backbone(source: Source) -> Any:
    from features.backbones import requested_backbone

    request = source.request
    return requested_backbone(request)
