"""Heads on cached features against scratch and fine-tuned networks, on the same split, in one table.

Everything is fitted and chosen on the training split, on the same training and validation rows for every model; the
test split is opened once, after that.
"""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from classify.experiments.comparing.models import (
    BEST,
    Model,
    default_models,
    parse_model,
    with_regularizers,
)
from classify.experiments.comparing.result import ComparedRow, ComparisonResult, against, best_on_validation
from classify.experiments.comparing.rows import SCOUT, Making, Pending
from classify.experiments.evaluate import Settings
from classify.experiments.network_row import NetworkRow, check_row, training_image
from classify.experiments.networks import OnEpoch
from classify.experiments.sources import CachedLayer
from classify.experiments.timing import pass_for_one
from classify.experiments.untouched import UntouchedRow, untouched_rows
from classify.heads.network import DRAWN
from classify.heads.network.network import unfreeze_points
from classify.heads.network.settings import TrainingSettings
from classify.heads.regularizers import RegularizerSpec, parse_regularizers
from classify.measure.results import SavedResult
from classify.show.network_tables import network_label
from extract.commands.ensure import ensure_features
from extract.planning import plan
from features.backbones import load_backbone
from features.cut import Cut
from features.digests import write_json
from features.errors import UserError
from features.reading import require_training_rows
from features.request import Plan, Request, split_names

Say = Callable[[str], None]

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
    say = say or (lambda line: None)
    notes: list[str] = []
    settings = settings or TrainingSettings(**({"epochs": QUICK_EPOCHS} if quick else {}))
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
    network = {"settings": settings, "in_loop": in_loop, "keep": keep_networks}
    rows, more = _network_rows(chosen, requests, map_dtype, network)
    notes += more
    head_layers = [layer for model in chosen for layer in model.layers]
    plans = _plans(requests, head_layers, layers)

    making = Making(Path(results), command, again, compiled, jobs, say, on_epoch)
    pending = Pending(making)
    entries = _fit(chosen, rows, plans, pending, search, notes)
    saved = pending.test()
    compared = tuple(_row(entry, saved) for entry in entries)
    best = best_on_validation(compared)
    question = {
        "dataset": dataset,
        "backbone": backbone,
        "models": [str(model) for model in chosen],
        "layers": list(layers),
        "seeds": seeds,
        "training": settings.to_json(),
        "options": {name: value for name, value in options.items() if value is not None},
        "quick": quick,
    }
    result = ComparisonResult(question, compared, best, against(best, compared), tuple(notes), Path(results))
    write_json(Path(results) / f"{result.stem}.json", result.to_json())
    return result


def _models(
    request: Request, asked: Sequence[str | Model] | None, regularizers: tuple[RegularizerSpec, ...]
) -> tuple[tuple[Model, ...], list[str]]:
    """The models, each once, and notes about those left out of the default set."""
    notes = []
    if asked is None:
        backbone = load_backbone(request.backbone, request.weights, request.seed)
        size = backbone.preprocessing.at(request.image_size).crop
        models = default_models(unfreeze_points(Cut(backbone.model, size, backbone.headless)))
        if backbone.headless:
            models = tuple(model for model in models if model.name != "untouched")
            notes.append(f"no untouched network: {backbone.weights_name} came without a classifier")
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
) -> tuple[dict[Model, list[tuple[NetworkRow | UntouchedRow, ...]]], list[str]]:
    """For each model that is a network its rows, checked: lists of one row a seed (the untouched one has three). And
    notes about those that train otherwise than was asked for all."""
    rows: dict[Model, list[tuple[NetworkRow | UntouchedRow, ...]]] = {}
    asked, notes = options["settings"], []
    drawn = asked.from_drawn_weights() if any(model.name == "finetune" for model in models) else asked
    for model in models:
        if model.name == "untouched":
            rows[model] = list(zip(*(untouched_rows(request) for request in requests), strict=True))
        elif not model.is_head:
            settings = {**options, "unfreeze": model.unfreeze, "regularizers": model.regularizers}
            if model.name in DRAWN and drawn != asked:
                settings["settings"] = drawn
                notes.append(f"{model.label} starts from drawn weights: no head from a probe, no batch norm frozen")
            maps = [dataclasses.replace(request, dtype=map_dtype) for request in requests]
            rows[model] = [tuple(NetworkRow(request, model.name, **settings) for request in maps)]
            for row in rows[model][0]:
                check_row(row)
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
    rows: dict[Model, list[tuple[NetworkRow | UntouchedRow, ...]]],
    plans: Sequence[Plan],
    pending: Pending,
    search: bool,
    notes: list[str],
) -> list[_Entry]:
    """Fit every row of every seed; nothing here opens the test split."""
    making = pending.making
    for answer in plans:
        ensure_features(answer.request, compiled=making.compiled, jobs=making.jobs, quiet=True)
    settings = [Settings(answer.request.seed, None, search, True, making.jobs) for answer in plans]
    best = None
    if any(BEST in model.layers for model in models):
        best = _best_layer(plans, settings, pending)
        notes.append(f"best layer: {best}, by the validation accuracy of {SCOUT}, before any other head was fitted")
    entries: list[_Entry] = []
    for model in models:
        for group in rows.get(model, ()):
            names = tuple(pending.fit_network(row) for row in group)
            cut = "fc" if isinstance(group[0], UntouchedRow) else group[0].layer
            entries.append(_Entry(network_label(group[0].config), cut, False, names))
        for layer in dict.fromkeys(best if layer == BEST else layer for layer in model.layers):
            sources = tuple(CachedLayer(answer, layer, "avg") for answer in plans)
            names = [pending.fit_head(*each) for each in zip(sources, [model.name] * len(plans), settings, strict=True)]
            for refit in (True, False):
                entries.append(_Entry(model.name, layer, refit, tuple(pair[refit] for pair in names), sources))
    unique = {entry.names: entry for entry in reversed(entries)}
    return [entry for entry in entries if unique[entry.names] is entry]


def _best_layer(plans: Sequence[Plan], settings: Sequence[Settings], pending: Pending) -> str:
    """The layer on which the scout is best on validation, over all seeds; of equals the shallowest."""
    scores: dict[str, float] = {}
    for layer, pool in plans[0].distinct():
        sources = [CachedLayer(answer, layer, pool) for answer in plans]
        scores[layer] = sum(pending.scout(*each) for each in zip(sources, settings, strict=True)) / len(plans)
    return max(scores, key=lambda layer: scores[layer])


def _row(entry: _Entry, results: dict[str, SavedResult]) -> ComparedRow:
    saved = tuple(results[name] for name in entry.names)
    one = saved[0].result.extra.get("predict_one_seconds")
    head = saved[0].result.extra.get("head_one_seconds")
    if entry.sources and head is not None:
        answer = entry.sources[0].answer
        one = head + pass_for_one(answer, split_names(entry.layer), training_image(answer.request))
    return ComparedRow(entry.model, entry.layer, entry.refit, saved, one)
