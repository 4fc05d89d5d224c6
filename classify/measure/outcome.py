"""What one run gave: the result, one row of every table, and the predictions behind it. Both are plain values.

`results` keeps them on disk. Nothing here needs torch or scikit-learn.
"""

import dataclasses
import html
import os
import re
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np

from classify.measure.environment import this_environment
from classify.measure.metrics import Metrics
from classify.measure.record import Extra, RowConfig, fits
from classify.measure.wording import count, counted, decimal, duration, one_line, percent, settings
from features.digests import sha256_json


@dataclass(frozen=True)
class Result:
    """One row: what was run (`config`, all that determines the numbers) and what came out.

    Dictionaries hold plain JSON values: numpy scalars and arrays, paths and tuples are turned into them here, and a
    number that is not finite is refused (ValueError), as is a value of another type than its field's. keys: name of
    what was read -> JSON of its cache key. converged: None where the head has no iterations. validation_accuracy:
    before any refit.
    """

    config: RowConfig
    metrics: Metrics
    chosen: dict[str, Any] = field(default_factory=dict)
    validation_accuracy: float | None = None
    refit: bool = False
    converged: bool | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    rows: dict[str, int] = field(default_factory=dict)
    keys: dict[str, dict[str, Any]] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=this_environment)
    command: str = ""
    created: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    extra: Extra = field(default_factory=Extra)

    def __post_init__(self):
        for name, hint in _HINTS.items():
            value = plain_json(getattr(self, name), name)
            if not fits(value, hint) or (name == "config" and not value):
                raise ValueError(f"the {name} of a result cannot be {str(value)[:60]!r}")
            object.__setattr__(self, name, value)
        object.__setattr__(self, "config", RowConfig(self.config))
        object.__setattr__(self, "extra", Extra(self.extra))
        if not isinstance(self.metrics, Metrics):
            raise ValueError("the metrics of a result come from measure()")

    @property
    def digest(self) -> str:
        """64 hex digits of the configuration: what names the result."""
        return sha256_json(dict(self.config))

    @property
    def training_images(self) -> int:
        """How many images it was learnt from and chosen on."""
        train, held = self.rows.get("train", 0), self.rows.get("validation", 0)
        return train if self.config.on_folds else train + held

    @property
    def stem(self) -> str:
        """The file name without its ending."""
        return f"{slug_of(self.config)}-{self.digest[:10]}"

    def to_json(self) -> dict[str, Any]:
        """The fields as a dictionary of plain values."""
        fields = {field_.name: getattr(self, field_.name) for field_ in dataclasses.fields(self)}
        return {**fields, "config": dict(self.config), "extra": dict(self.extra), "metrics": self.metrics.to_json()}

    @classmethod
    def from_json(cls, fields: Any) -> "Result":
        """The result that `to_json` described; ValueError naming what is missing, unknown or cannot be."""
        expected = {field_.name for field_ in dataclasses.fields(cls)}
        if not isinstance(fields, dict) or set(fields) != expected:
            raise ValueError(f"a result has the fields {', '.join(sorted(expected))}")
        return cls(**{**fields, "metrics": Metrics.from_json(fields["metrics"])})

    def summary(self) -> list[tuple[str, str]]:
        """What to read first, as (label, text) pairs; only what there is."""
        metrics = self.metrics
        low, high = metrics.accuracy_interval
        tested = counted(metrics.n, "test image")
        if self.config.test != RowConfig.test:
            tested = f"all {count(metrics.n)} images, each out of a fold"
        lines = [
            ("result", ", ".join(one_line(self.config[name]) for name in _HEADLINE if self.config.get(name))),
            *self._views(),
            (
                "accuracy",
                f"{percent(metrics.accuracy)} % (95 % interval {percent(low)} to {percent(high)}) on {tested}",
            ),
            ("balanced accuracy", f"{percent(metrics.balanced_accuracy)} %, macro F1 {percent(metrics.macro_f1)} %"),
            ("majority baseline", f"{percent(metrics.majority)} %"),
        ]
        if metrics.log_loss is not None:
            clipped = f" ({count(metrics.log_loss_clipped)} labels had no probability; clipped)"
            lines.append(("log loss", decimal(metrics.log_loss) + (clipped if metrics.log_loss_clipped else "")))
            lines.append(("calibration error", f"{percent(metrics.ece)} %{self._uncalibrated()}"))
        if metrics.outside:
            lines.append(("outside", f"{counted(metrics.outside, 'prediction')} outside the classes of the data set"))
        folds = self.config.on_folds
        if self.validation_accuracy is not None:
            on = f" out of folds ({self.config.validate})" if folds else ""
            lines.append(("validation", f"{percent(self.validation_accuracy)} % accuracy{on}"))
        if self.chosen:
            lines.append(("chosen", one_line(settings(self.chosen))))
        fitted = "all training rows" if folds else "train + validation" if self.refit else "train only"
        rows = {name: number for name, number in self.rows.items() if not (folds and name == "validation")}
        sizes = ", ".join(f"{name} {count(number)}" for name, number in _in_order(rows, _PARTS))
        lines.append(("fitted on", f"{fitted} (rows: {one_line(sizes)})" if sizes else fitted))
        if self.converged is not None:
            lines.append(("solver", self._how_it_ended()))
        if self.seconds:
            took = ", ".join(f"{name} {duration(value)}" for name, value in _in_order(self.seconds, _STEPS))
            if self.extra.cluster:
                took += f"; beside other rows on a cluster of {self.extra.cluster.get('workers')} workers"
            lines.append(("time", one_line(took)))
        if self.keys:
            digests = ", ".join(f"{name} {sha256_json(key)[:10]}" for name, key in self.keys.items())
            lines.append(("cache keys", one_line(digests)))
        return lines

    def _views(self) -> list[tuple[str, str]]:
        """How images were seen, where that was more than once."""
        over = self.config.test_views
        if not self.config.views:
            return [("views", f"decided over {over} of each image")] if over > 1 else []
        learnt, *changed = one_line(self.config.views).split(" ")
        asked = f"over {over} of them" if over > 1 else "over the image alone"
        return [("views", f"learnt from {learnt} of each image ({', '.join(changed)}), decided {asked}")]

    def _uncalibrated(self) -> str:
        known = self.extra.calibration
        if known is None:
            return ""
        before = f"{percent(known['ece_before'])} % and log loss {decimal(known['log_loss_before'])}"
        return f" (before calibration {before})"

    def _how_it_ended(self) -> str:
        # A network has no optimum to come to: what counts is whether validation still got better.
        if self.config.is_network:
            return "validation was best before the last epoch" if self.converged else "validation was best at the end"
        return "converged" if self.converged else "stopped before it converged"

    def __repr__(self) -> str:
        names = ", ".join(one_line(self.config[name]) for name in _HEADLINE if self.config.get(name))
        return f"<{type(self).__name__}: {names}, {percent(self.metrics.accuracy)} % of {self.metrics.n:,} test images>"

    def __str__(self) -> str:
        lines = self.summary()
        width = max(len(label) for label, _ in lines)
        return "\n".join(f"{label:<{width}}  {text}" for label, text in lines)

    def _repr_html_(self) -> str:
        cells = ((html.escape(label), html.escape(text)) for label, text in self.summary())
        return "<table>" + "".join(f"<tr><th>{label}</th><td>{text}</td></tr>" for label, text in cells) + "</table>"


_HEADLINE = ("dataset", "backbone", "weights", "layer", "pool", "image_size", "precision", "head")

# A record's keys are sorted; people read these in the order in which they happen.
_STEPS = ("extract", "search", "fit", "predict")
_PARTS = ("train", "validation", "test", "search")


def _in_order(values: dict[str, Any], first: tuple[str, ...]) -> list[tuple[str, Any]]:
    names = [*(name for name in first if name in values), *(name for name in values if name not in first)]
    return [(name, values[name]) for name in names]


# What JSON values the fields are of; the metrics look after themselves.
_HINTS = {**typing.get_type_hints(Result), "config": dict[str, Any], "extra": dict[str, Any]}
del _HINTS["metrics"]


def plain_json(value: Any, where: str = "value") -> Any:
    """The same value made of dicts with text keys, lists, text, numbers, booleans and None.

    ValueError, naming `where`, for a number that is not finite or beyond 64 bits, or a thing that has no such form.
    """
    if hasattr(value, "tolist"):
        value = value.tolist()
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, (str, os.PathLike)):
        return str(value)
    if isinstance(value, int):
        if abs(value) >= 1 << 64:
            raise ValueError(f"{where} holds a whole number beyond 64 bits")
        return int(value)
    if isinstance(value, float):
        if not -float("inf") < value < float("inf"):
            raise ValueError(f"{where} holds {value}, which is not a finite number")
        return float(value)
    if isinstance(value, Mapping):
        return {str(key): plain_json(item, f"{where}[{key!r}]") for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain_json(item, where) for item in value]
    raise ValueError(f"{where} holds a {type(value).__name__}, which has no form in JSON")


@dataclass(frozen=True, eq=False)
class Predictions:
    """What was predicted for each test row, and for the validation rows before any refit, or out of their folds.

    rows int64 (N,): positions in the test split; labels and predicted int64 (N,); probabilities float32 (N, C) or None;
    validation_rows int64 (V,): positions in the train split, validation_predicted int64 (V,), or both None;
    validation_labels int64 (V,), None in records of version 0.1.0. Where rows were chosen on folds, validation_folds
    int64 (R, V) is the fold of each validation row in each repeat, and validation_predicted is (R, V). Where all
    images were tested by cross-validation, folds int64 (N,) is the fold of each, and rows below 0 are those of the
    train split: -1 is its first.
    """

    rows: np.ndarray
    labels: np.ndarray
    predicted: np.ndarray
    probabilities: np.ndarray | None = None
    validation_rows: np.ndarray | None = None
    validation_predicted: np.ndarray | None = None
    folds: np.ndarray | None = None
    validation_labels: np.ndarray | None = None
    validation_folds: np.ndarray | None = None

    def __post_init__(self):
        for field_ in dataclasses.fields(self):
            value = getattr(self, field_.name)
            if value is not None:
                kind = np.float32 if field_.name == "probabilities" else np.int64
                object.__setattr__(self, field_.name, np.asarray(value, dtype=kind))
        n = len(self.rows)
        if not self.rows.shape == self.labels.shape == self.predicted.shape == (n,):
            raise ValueError("rows, labels and predictions are vectors of one length")
        if self.probabilities is not None and (self.probabilities.ndim != 2 or len(self.probabilities) != n):
            raise ValueError(f"probabilities for {n} rows cannot have the shape {self.probabilities.shape}")
        rows, predicted, folds = self.validation_rows, self.validation_predicted, self.validation_folds
        if (rows is None) != (predicted is None) or (
            rows is not None and (*predicted.shape[:-1], *rows.shape) != predicted.shape
        ):
            raise ValueError("validation rows and their predictions come together and are of one length")
        if self.validation_labels is not None and (rows is None or self.validation_labels.shape != rows.shape):
            raise ValueError("validation rows and their labels are of one length")
        if (predicted is not None and predicted.ndim > 1 or folds is not None) and (
            predicted is None or folds is None or predicted.ndim != 2 or folds.shape != predicted.shape
        ):
            raise ValueError("predictions out of folds come with the folds, one row for each repeat")

    def of_test_split(self) -> "Predictions":
        """What was predicted for rows of the test split alone; all, but where all images were tested."""
        if self.folds is None:
            return self
        there = self.rows >= 0
        probabilities = None if self.probabilities is None else self.probabilities[there]
        return Predictions(self.rows[there], self.labels[there], self.predicted[there], probabilities)

    def __repr__(self) -> str:
        right = float(np.mean(self.labels == self.predicted)) if len(self.rows) else None
        return f"<{type(self).__name__}: {len(self.rows):,} test rows, {percent(right)} % right>"


def slug_of(config: RowConfig) -> str:
    """What the files of results begin with that have this data set, backbone, layer and head."""
    parts = [str(config[name]) for name in ("dataset", "backbone", "layer", "head") if config.get(name)]
    return re.sub(r"[^a-z0-9.+_]+", "-", "-".join(parts).lower()).strip("-.")[:80] or "result"
