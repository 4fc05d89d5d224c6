"""A scikit-learn style head on features: searched on validation rows or on folds, refitted, perhaps on axes."""

import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from classify.experiments.kinds.kind import Kind, Learned, Predicted, Training, wide
from classify.experiments.settings import Settings
from classify.experiments.sources import CachedLayer, Pixels, Rows, Source
from classify.experiments.timing import seconds_for_one
from classify.heads import HEADS, Head
from classify.heads.around import plain_head
from classify.heads.calibrated import Calibrated, calibrate
from classify.heads.estimator import trained_parameters
from classify.heads.familiar import Familiar, Guarded
from classify.heads.folds import class_scores, search_folds
from classify.heads.on_axes import OnAxes, Reduction
from classify.heads.on_device import gpu_for_heads
from classify.heads.on_views import ViewedHead
from classify.heads.search import Search, Trial, search
from classify.measure.kept_heads import in_skops_format
from classify.measure.metrics import measure
from classify.measure.paired import resampled_t
from classify.measure.record import RowConfig
from classify.measure.scores import SCORES
from extract.planning import plan
from features.blocks import Blocks
from features.commands.speaking import tell_once
from features.errors import UserError
from features.named_code import names_code
from features.reading import require_training_rows
from features.request import Request
from features.rows import limit_rows


@dataclass(frozen=True, kw_only=True)
class Classical(Kind):
    """A head from `classify.heads.HEADS`, or Head2Toe.

    reduction: features are brought to a width first. searched: what the search of a row that differs in nothing but its
    refit has found; it is not repeated, and is no part of what the row is.
    """

    head: Head
    reduction: Reduction | None = None
    searched: Search | None = field(default=None, compare=False)

    announced: ClassVar[bool] = True

    @property
    def name(self) -> str:
        return self.head.name

    @property
    def holds_out(self) -> bool:
        return self.head.holds_out

    def label(self, source: Source) -> str:
        described = source.config
        drawn = "random weights" if str(described.get("weights")).startswith("random (") else None
        reduced = f"{self.reduction.kind} to {self.reduction.width}" if self.reduction else None
        views = f"{source.views} views" if source.views > 1 else None
        return " ".join(filter(None, (source.layer, described.get("pool"), views, self.name, drawn, reduced)))

    def config(self, source: Source, settings: Settings) -> dict[str, Any]:
        return {"class_weight": settings.class_weight, "search": settings.search, "refit": settings.refit}

    def options(self, source: Source, settings: Settings) -> dict[str, Any]:
        rows, reduction = _search_rows(self.head, settings), self.reduction
        return {
            "calibrate": settings.calibrate and settings.validation,
            "search_rows": None if rows == self.head.search_rows else rows,
            "head_params": self.head.params if self.head.name in HEADS else dict(self.head.grid[0]),
            "reduction": reduction.kind if reduction else None,
            "width": reduction.width if reduction else None,
        }

    @classmethod
    def from_config(cls, config: RowConfig, request: Request) -> tuple[Source, Self]:
        if names_code(config.head):
            from classify.heads.own import head_recorded

            head: Head = head_recorded(config.head, config.head_params)
        elif config.head in HEADS:
            head = HEADS[config.head]
        elif config.head == HEAD2TOE and config.head_params:
            head = head2toe(config.head_params["widths"])
        else:
            raise UserError(
                f"there is no head called {config.head!r} in this version; take the one that wrote the record"
            )
        source: Source
        if config.layer == "pixels":
            source = Pixels(request, config.side, config.colour)
        else:
            pool = config.pool or "avg"
            asked = dataclasses.replace(request, layers=(config.layer,), pools=(pool,))
            source = CachedLayer(plan(asked), config.layer, pool)
        reduction = None
        if config.reduction and config.width:
            seed = config.seed if config.reduction == "projection" else 0
            reduction = Reduction(config.reduction, config.width, seed)
        return source, cls(head=head, reduction=reduction)

    def check(self, source: Source, settings: Settings) -> None:
        self.head.build(seed=settings.seed, class_weight=settings.class_weight)
        if settings.validation:
            require_training_rows(source.request)

    def cost(self, source: Source) -> float:
        widths = getattr(source, "widths", (1000,))
        width = min(sum(widths), self.reduction.width) if self.reduction else sum(widths)
        # Iterative solvers take longer the more candidates they try; closed forms try them all at once.
        return float(width * (10 if self.head.search_rows else 1))

    def on_threads(self, settings: Settings, threads: int) -> Settings:
        """The processes' threads are limited already, by `in_parallel`. A head that limits them again looks for the
        libraries each time, which for closed forms takes a hundred times as long as a candidate; so only heads that
        fit every candidate on its own, some of them in libraries that take a number of jobs, are told."""
        kind = self.head.estimator_class()
        shares_work = hasattr(kind, "fit_path") or hasattr(kind, "predict_path")
        return dataclasses.replace(settings, jobs=None if shares_work else threads)

    def learn(self, training: Training) -> Learned:
        source = training.source
        reduction = self.reduction and dataclasses.replace(self.reduction, views=source.views)
        head = ViewedHead.of(self.head, source.views, source.test_views)
        viewed = dataclasses.replace(self, head=head, reduction=reduction)
        with self.head.blamed():
            return viewed._learned(training)

    def put_aside(self, content: dict[str, Any], place: Path) -> bool:
        with self.head.blamed():
            return super().put_aside(content, place)

    def _learned(self, training: Training) -> Learned:
        rows, settings = training.required(), training.settings
        features, labels = rows.features, rows.labels
        if training.folds is not None:
            return self._learn_on_folds(features, labels, training.folds, training)
        fit_params = [self.head.told(_some(rows.groups, part)) for part in (training.train, slice(None))]
        train, validation = training.train, training.validation
        axes = self.reduction.fit(features.take(train, axis=0)) if self.reduction else None
        if axes:
            features = axes.apply(features)
        fitting = _fitting(training)
        chosen = self._search(features, labels, training, fitting)
        started = time.perf_counter()
        # Scores that calibrate come from rows that were not fitted on.
        unseen = settings.calibrate and len(validation) > 0
        predicted, scores = chosen.predicted if settings.refit and not unseen else None, None
        fitted: Any = None
        if predicted is None:
            fitted = self.head.build(**fitting, **chosen.params)
            fitted.fit(features.take(train, axis=0), labels[train], **fit_params[0])
            predicted = fitted.predict(features.take(validation, axis=0)) if len(validation) else None
            scores = class_scores(fitted, features.take(validation, axis=0)) if unseen else None
        if settings.refit and predicted is not None:
            started = time.perf_counter()
            fitted = self.head.build(**fitting, **chosen.params).fit(features, labels, **fit_params[1])
        took = time.perf_counter() - started
        trials = [{**t.params, "accuracy": t.accuracy, "seconds": round(t.seconds, 3)} for t in chosen.trials]
        calibrated = fitted if scores is None else calibrate(fitted, scores, labels[validation])
        return Learned(
            _guarded(calibrated, axes, rows, training),
            predicted,
            scores,
            chosen=chosen.params,
            refit=settings.refit,
            converged=getattr(fitted, "converged_", None),
            seconds={"search": chosen.seconds, "fit": took},
            rows={"search": chosen.rows},
            extra={"trials": trials, **_extra(fitted, features, training)},
        )

    def _learn_on_folds(self, features: Any, labels: np.ndarray, folds: np.ndarray, training: Training) -> Learned:
        """Choose hyper-parameters by what heads say of the rows that they have not seen; then fit on all rows."""
        settings, fitting = training.settings, _fitting(training)
        grid = self.head.grid if settings.search else self.head.grid[:1]
        head = dataclasses.replace(self.head, search_rows=_search_rows(self.head, settings), grid=grid)
        score, groups = SCORES[settings.score], training.required().groups
        searched = search_folds(
            head, features, labels, list(folds), score=score, reduction=self.reduction, groups=groups, **fitting
        )
        half = self._on_halves(features, labels, folds[0], searched.params, groups, fitting)
        halves: dict[str, Any] = {}
        if half is not None:
            whole = searched.predicted[:1]
            halves["half"] = {
                "accuracy": float(np.mean(half == labels)),
                "whole": float(np.mean(whole == labels)),
                "p_value": resampled_t(labels, whole, half[None], folds[:1]),
            }
        started = time.perf_counter()
        axes = self.reduction.fit(features) if self.reduction else None
        if axes:
            features = axes.apply(features)
        fitted = self.head.build(**fitting, **searched.params).fit(features, labels, **self.head.told(groups))
        took = time.perf_counter() - started
        calibrated = calibrate(fitted, searched.scores, labels) if settings.calibrate else fitted
        name = settings.score.replace("-", "_")
        trials = [{**t.params, name: t.score, "seconds": round(t.seconds, 3)} for t in searched.trials]
        return Learned(
            _guarded(calibrated, axes, training.required(), training),
            searched.predicted,
            searched.scores,
            chosen=searched.params,
            refit=True,
            converged=getattr(fitted, "converged_", None),
            seconds={"search": searched.seconds, "fit": took},
            rows={"search": searched.rows},
            # A single candidate is not searched for.
            extra={"trials": trials if len(grid) > 1 else [], **_extra(fitted, features, training), **halves},
        )

    def _on_halves(
        self,
        features: Any,
        labels: np.ndarray,
        folds: np.ndarray,
        params: dict[str, Any],
        groups: np.ndarray | None,
        fitting: dict[str, Any],
    ) -> np.ndarray | None:
        """The labels (N,) told by heads that have seen half as many rows, of the same classes, outside each fold; None
        where half of them are of one class."""
        predicted = np.empty_like(labels)
        for fold in np.unique(folds):
            inside, outside = np.flatnonzero(folds == fold), np.flatnonzero(folds != fold)
            half = outside[limit_rows(labels[outside], max(1, len(outside) // 2), fitting["seed"])]
            if len(np.unique(labels[half])) < 2:
                return None
            seen, asked = features.take(half, axis=0), features.take(inside, axis=0)
            if self.reduction:
                axes = self.reduction.fit(seen)
                seen, asked = axes.apply(seen), axes.apply(asked)
            fitted = self.head.build(**fitting, **params)
            fitted.fit(seen, labels[half], **self.head.told(_some(groups, half)))
            predicted[inside] = fitted.predict(asked)
        return predicted

    def _search(self, features: Any, labels: np.ndarray, training: Training, fitting: dict[str, Any]) -> Search:
        settings = training.settings
        if self.searched is not None:
            return self.searched
        # A single candidate is not searched for.
        if not settings.search or not settings.validation or len(self.head.grid) < 2:
            return Search(params=dict(self.head.grid[0]), accuracy=float("nan"), trials=(), rows=0, seconds=0.0)
        head = dataclasses.replace(self.head, search_rows=_search_rows(self.head, settings))
        train, validation = training.train, training.validation
        parts = [part for rows in (train, validation) for part in (features.take(rows, axis=0), labels[rows])]
        groups = _some(training.required().groups, train)
        return search(head, *parts, **fitting, score=SCORES[settings.score], groups=groups)

    def kept(self, classifier: Any, keep: bool) -> Any:
        if not keep or not self.head.plugin or in_skops_format(classifier) is not None:
            return classifier if keep else None
        tell_once(
            f"{self.name}: skops' format has no form for it fitted; its numbers are saved, and no head to predict with"
        )
        return None

    def predict(self, classifier: Any, rows: Rows, source: Source) -> Predicted:
        head, features = _plain(classifier, rows.features)
        started = time.perf_counter()
        with self.head.blamed():
            predicted = head.predict(features)
            seconds = time.perf_counter() - started
            probabilities = head.predict_proba(features) if hasattr(head, "predict_proba") else None
        return Predicted(predicted, wide(probabilities, head.classes_, len(source.classes)), seconds)

    def tested(self, classifier: Any, rows: Rows, source: Source, keep: bool) -> dict[str, Any]:
        head, features = _plain(classifier, rows.features)
        return {
            "trained_parameters": trained_parameters(head),
            "head_one_seconds": seconds_for_one(head.predict, np.array(features[:1])),
            "unlike": float(np.mean(classifier.distance(rows.features) > 1)),
            **(
                {"calibration": _calibration(head, features, rows.labels, source)}
                if isinstance(head, Calibrated)
                else {}
            ),
        }


HEAD2TOE = "head2toe"


def head2toe(widths: Sequence[int]) -> Head:
    """Head2Toe over layers of these widths, as a head like any other."""
    return Head(
        HEAD2TOE,
        "the features of all layers that matter, selected by a group lasso, under a linear head",
        "classify.heads.head2toe:Head2Toe",
        ({"widths": tuple(widths)},),
        holds_out=True,
    )


def search_of(fields: Any) -> Search:
    """The search that the fields of a fitted row, or of a result as JSON, tell of."""
    trials = tuple(
        Trial(
            {name: value for name, value in trial.items() if name not in ("accuracy", "seconds")},
            trial["accuracy"],
            trial["seconds"],
        )
        for trial in fields["extra"]["trials"]
    )
    best = max((trial.accuracy for trial in trials), default=float("nan"))
    return Search(dict(fields["chosen"]), best, trials, fields["rows"]["search"], fields["seconds"]["search"])


def _fitting(training: Training) -> dict[str, Any]:
    """What every head of a row is built with, whatever its parameters."""
    settings, device = training.settings, gpu_for_heads(training.source.request.device)
    return {"seed": settings.seed, "class_weight": settings.class_weight, "jobs": settings.jobs, "device": device}


def _some(groups: np.ndarray | None, rows: Any) -> np.ndarray | None:
    return None if groups is None else groups[rows]


def _guarded(head: Any, axes: Any, rows: Rows, training: Training) -> Guarded:
    """A fitted head on its axes, which knows what is unlike the rows that it learnt from."""
    classifier, views = OnAxes(axes, head) if axes else head, training.source.views
    return Guarded(classifier, Familiar.fit(rows.features, rows.labels, training.settings.seed, views))


def _extra(fitted: Any, features: Any, training: Training) -> dict[str, Any]:
    """What is told of a fitted head and the features (N, views * D) that it takes."""
    extra: dict[str, Any] = {"features": features.shape[1] // training.source.views}
    if isinstance(features, Blocks):
        extra["read"] = "in blocks"
    fitted = plain_head(fitted)
    if hasattr(fitted, "kept_by_layer_"):
        extra["kept_by_layer"] = fitted.kept_by_layer_
    if params := getattr(getattr(fitted, "head_", None), "best_params_", None):
        extra["own_search"] = {name: str(value) for name, value in params.items()}
    return extra


def _search_rows(head: Head, settings: Settings) -> int | None:
    """The most rows that the search takes."""
    own, cap = head.search_rows, settings.search_rows
    return own if own is None or cap is None else min(own, cap)


def _plain(classifier: Any, features: Any) -> tuple[Any, Any]:
    """The head itself and the features that it takes, reduced where it stands on axes."""
    while isinstance(classifier, Guarded | OnAxes):
        classifier, features = classifier.head, classifier.given(features)
    return classifier, features


def _calibration(head: Calibrated, features: Any, labels: np.ndarray, source: Source) -> dict[str, Any]:
    """The temperature, and log loss and calibration error on these test rows without it (of a head that has no
    probabilities, those of its decision values as they are) and with it."""
    plain, own = head.head, hasattr(head.head, "predict_proba")
    before = (
        plain.predict_proba(features) if own else dataclasses.replace(head, temperature=1.0).predict_proba(features)
    )
    reached: dict[str, float | None] = {}
    for name, probabilities in (("before", before), ("after", head.predict_proba(features))):
        spread = wide(probabilities.astype(np.float32), head.classes_, len(source.classes))
        measured = measure(labels, head.classes_[probabilities.argmax(axis=1)], spread, source.classes)
        reached |= {f"log_loss_{name}": measured.log_loss, f"ece_{name}": measured.ece}
    return {"temperature": head.temperature, **reached}
