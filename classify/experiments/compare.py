"""Heads on cached features against scratch and fine-tuned networks, on the same split, in one table.

Everything is fitted and chosen on the training split, on the same training and validation rows for every model; the
test split is opened once, after that.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from classify.experiments.compared import ComparedRow, ComparisonResult, against_best, best_on_validation
from classify.experiments.kinds.classical import Classical, search_of
from classify.experiments.making import Making
from classify.experiments.models import (
    BEST,
    Model,
    default_models,
    parse_model,
    with_regularizers,
)
from classify.experiments.row import Row, network_row, untouched_rows
from classify.experiments.settings import How, OnEpoch, Say, Settings
from classify.experiments.sources import CachedLayer, training_image
from classify.experiments.timing import pass_for_one
from classify.heads import HEADS
from classify.heads.network import DRAWN
from classify.heads.network.network import unfreeze_points
from classify.heads.network.settings import TrainingSettings
from classify.heads.regularizers import RegularizerSpec, parse_regularizers
from classify.measure.results import SavedResult
from extract.commands.ensure import ensure_features
from extract.planning import plan
from features.backbones import load_backbone
from features.datasets import open_dataset
from features.errors import UserError
from features.reading import require_training_rows
from features.request import Plan, Request

SCOUT = "ridge"
QUICK = {"limit": 2000, "limit_test": 2000, "image_size": 64}
QUICK_EPOCHS = 3


@dataclasses.dataclass(frozen=True)
class _Entry:
    """One row of the table before it is made: the digests of its results, a seed each."""

    model: str
    layer: str
    refit: bool
    names: tuple[str, ...]
    sources: tuple[CachedLayer, ...] = ()


def compare(
    dataset: str = "mnist",
    backbone: str = "resnet18",
    models: Sequence[str | Model] | None = None,
    *,
    layers: Sequence[str] = ("all",),
    seeds: Sequence[int] = (0,),
    settings: TrainingSettings | None = None,
    regularizers: Sequence[str | RegularizerSpec] = (),
    map_dtype: str = "float32",
    in_loop: bool = False,
    search: bool = True,
    quick: bool = False,
    keep_networks: bool = True,
    jobs: int | None = None,
    results: Path | str = "results",
    again: bool = False,
    compiled: str = "auto",
    command: str = "",
    say: Say | None = None,
    on_epoch: OnEpoch | None = None,
    **options: Any,
) -> ComparisonResult:
    """Compare models on one data set; the answer, also kept in the folder `results`.

    models: as `parse_model` reads them; by default the untouched network, a ConvNet and the backbone from scratch,
    fine-tuning from three stages on, and svm, logistic and linear at `avgpool` and at the best of `layers`, which is
    chosen on validation. seeds: each decides rows, validation split, new weights and order; the first one's test rows
    serve the paired tests. settings, regularizers, map_dtype and in_loop are about networks that train; beside one that
    is fine-tuned those from drawn weights go without what they have no use for. quick: few rows, small images and three
    epochs where nothing else is asked for. on_epoch: called with a row and an `Epoch` after each. options are the other
    fields of `features.request.Request`: weights, image_size, limit, limit_test, precision, dtype, device.

    Raises UserError for what cannot be compared, before anything is extracted or trained.
    """
    notes: list[str] = []
    training = settings or (TrainingSettings(epochs=QUICK_EPOCHS) if quick else TrainingSettings())
    if quick:
        options = {**options, **{name: value for name, value in QUICK.items() if options.get(name) is None}}
        notes.append(
            f"quick: {options['limit']:,} training and {options['limit_test']:,} test images at most, of "
            f"{options['image_size']} pixels"
        )
    seeds = tuple(dict.fromkeys(seeds))
    if not seeds:
        raise UserError("no seed was given; give at least one, as in --seeds 0")
    requests = [Request(dataset=dataset, backbone=backbone, **{**options, "seed": seed}).normalised() for seed in seeds]
    for request in requests:
        require_training_rows(request)
    chosen, more = _models(requests[0], models, parse_regularizers(regularizers))
    notes += more
    network = {"training": training, "in_loop": in_loop, "keep": keep_networks}
    rows, more = _network_rows(chosen, requests, map_dtype, network)
    notes += more
    head_layers = [layer for model in chosen for layer in model.layers]
    plans = _plans(requests, head_layers, layers)

    how = How(folder=Path(results), command=command, again=again, compiled=compiled, jobs=jobs, on_epoch=on_epoch)
    making = Making(dataclasses.replace(how, say=say) if say else how)
    entries = _fit(chosen, rows, plans, making, search, notes)
    saved = making.test()
    compared = tuple(_row(entry, saved) for entry in entries)
    best = best_on_validation(compared)
    stated = requests[0].to_json()
    question = {
        "dataset": dataset,
        "backbone": backbone,
        "models": [str(model) for model in chosen],
        "layers": list(layers),
        "seeds": seeds,
        "training": training.to_json(),
        "options": {name: value for name, value in options.items() if value is not None and name in stated},
        "quick": quick,
    }
    result = ComparisonResult(question, compared, best, against_best(best, compared), tuple(notes), Path(results))
    result.save()
    return result


def _models(
    request: Request, asked: Sequence[str | Model] | None, regularizers: tuple[RegularizerSpec, ...]
) -> tuple[tuple[Model, ...], list[str]]:
    """The models, each once, and notes about those left out of the default set."""
    notes = []
    if asked is None:
        backbone = load_backbone(request.backbone, request.weights, request.seed)
        cut, labels = backbone.cut(request.image_size), len(open_dataset(request.dataset).classes)
        models = default_models(unfreeze_points(cut))
        outputs = None if backbone.headless else cut.shape(cut.resolve("fc"))[0]
        if outputs is None or outputs < labels:
            models = tuple(model for model in models if model.name != "untouched")
            reason = "came without a classifier" if outputs is None else f"tells {outputs} classes apart, not {labels}"
            notes.append(f"no untouched network: {backbone.weights_name} {reason}")
    else:
        models = tuple(model if isinstance(model, Model) else parse_model(model) for model in asked)
        if not models:
            raise UserError("no model was given; leave out --models for the default set, or name some")
    regular = {model: with_regularizers(model, regularizers) for model in models}
    if regularizers and not any(model.name == "finetune" for model in models):
        raise UserError("--regularizer is about fine-tuned networks, and none is compared; leave it out")
    for model, made in regular.items():
        missing = [str(spec) for spec in regularizers if spec not in made.regularizers]
        if missing and model.name == "finetune" and not model.regularizers:
            notes.append(f"{model.label} goes without {' and '.join(missing)}: no pre-trained weight of it trains")
    return tuple(dict.fromkeys(regular.values())), notes


def _network_rows(
    models: Sequence[Model], requests: Sequence[Request], map_dtype: str, options: dict[str, Any]
) -> tuple[dict[Model, list[tuple[Row, ...]]], list[str]]:
    """For each model that is a network its rows, checked: lists of one row a seed (the untouched one has three). And
    notes about those that train otherwise than was asked for all."""
    rows: dict[Model, list[tuple[Row, ...]]] = {}
    asked, notes = options["training"], []
    drawn = asked.from_drawn_weights() if any(model.name == "finetune" for model in models) else asked
    for model in models:
        if model.name == "untouched":
            rows[model] = list(zip(*(untouched_rows(request) for request in requests), strict=True))
        elif not model.is_head:
            described = {**options, "unfreeze": model.unfreeze, "regularizers": model.regularizers}
            if model.name in DRAWN and drawn != asked:
                described["training"] = drawn
                notes.append(f"{model.label} starts from drawn weights: no head from a probe, no batch norm frozen")
            maps = [dataclasses.replace(request, dtype=map_dtype) for request in requests]
            rows[model] = [tuple(network_row(request, model.name, **described) for request in maps)]
            for row in rows[model][0]:
                row.check()
    return rows, notes


def _plans(requests: Sequence[Request], wanted: Sequence[str], candidates: Sequence[str]) -> list[Plan]:
    """A plan for each seed over all layers that heads sit on, or might; none where there are no heads."""
    if not wanted:
        return []
    names = [layer for layer in wanted if layer != BEST]
    names += candidates if BEST in wanted else []
    layers = tuple(dict.fromkeys(names))
    return [plan(dataclasses.replace(request, layers=layers, pools=("avg",))) for request in requests]


def _fit(
    models: Sequence[Model],
    rows: dict[Model, list[tuple[Row, ...]]],
    plans: Sequence[Plan],
    making: Making,
    search: bool,
    notes: list[str],
) -> list[_Entry]:
    """Fit every row of every seed; nothing here opens the test split."""
    for planned in plans:
        ensure_features(planned.request, compiled=making.how.compiled, jobs=making.how.jobs, quiet=True)
    settings = [Settings(seed=planned.request.seed, search=search, jobs=making.how.jobs) for planned in plans]
    best = ""
    if any(BEST in model.layers for model in models):
        best = _best_layer(plans, settings, making)
        notes.append(f"best layer: {best}, by the validation accuracy of {SCOUT}, before any other head was fitted")
    entries: list[_Entry] = []
    for model in models:
        for group in rows.get(model, ()):
            for row in group:
                making.fit(row)
            label = group[0].config.network_label
            entries.append(_Entry(label, group[0].source.layer, False, tuple(row.digest for row in group)))
        for layer in dict.fromkeys(best if layer == BEST else layer for layer in model.layers):
            sources = tuple(CachedLayer(planned, layer, "avg") for planned in plans)
            pairs = [_fit_twice(making, model.name, *fitted) for fitted in zip(sources, settings, strict=True)]
            for refit in (True, False):
                entries.append(_Entry(model.name, layer, refit, tuple(pair[refit] for pair in pairs), sources))
    unique = {entry.names: entry for entry in reversed(entries)}
    return [entry for entry in entries if unique[entry.names] is entry]


def _fit_twice(making: Making, head: str, source: CachedLayer, settings: Settings) -> tuple[str, str]:
    """Fit a head on training rows alone, and again on training and validation rows after the same search.

    The digests of the two rows, the refitted one last.
    """
    first = Row(source=source, head=Classical(head=HEADS[head]), settings=dataclasses.replace(settings, refit=False))
    searched = search_of(making.fit(first))
    second = Row(source=source, head=Classical(head=HEADS[head], searched=searched), settings=settings)
    making.fit(second, remark=", refitted")
    return first.digest, second.digest


def _best_layer(plans: Sequence[Plan], settings: Sequence[Settings], making: Making) -> str:
    """The layer on which the scout is best on validation, over all seeds; of equals the shallowest."""
    scores: dict[str, float] = {}
    for layer, pool in plans[0].distinct():
        rows = [
            Row(
                source=CachedLayer(planned, layer, pool),
                head=Classical(head=HEADS[SCOUT]),
                settings=dataclasses.replace(fitting, refit=False),
            )
            for planned, fitting in zip(plans, settings, strict=True)
        ]
        scores[layer] = sum(map(making.scout, rows)) / len(rows)
    return max(scores, key=lambda layer: scores[layer])


def _row(entry: _Entry, results: dict[str, SavedResult]) -> ComparedRow:
    saved = tuple(results[name] for name in entry.names)
    one_seconds, head = saved[0].result.extra.predict_one_seconds, saved[0].result.extra.head_one_seconds
    if entry.sources and head is not None:
        source = entry.sources[0]
        one_seconds = head + pass_for_one(source, training_image(source.request))
    return ComparedRow(entry.model, entry.layer, entry.refit, saved, one_seconds)
