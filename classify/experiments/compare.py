"""Heads on cached features against scratch and fine-tuned networks, on the same split, in one table.

Everything is fitted and chosen on the training split, on the same training and validation rows for every model; the
test split is opened once, after that.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from classify.experiments.compared import ComparedRow, ComparisonResult
from classify.experiments.following import followed
from classify.experiments.kinds.classical import Classical, search_of
from classify.experiments.making import WITH_TESTS, Making, weight
from classify.experiments.models import BEST, Model, default_models, parse_model, with_regularizers
from classify.experiments.row import Row, network_row, untouched_rows
from classify.experiments.settings import How, Settings
from classify.experiments.sources import CachedLayer, training_image
from classify.experiments.timing import pass_for_one
from classify.experiments.training_cost import cost_of_folds
from classify.experiments.validating import AUTO, HOLDOUT, check_score, parse_folds, settled
from classify.heads import HEADS
from classify.heads.network import DRAWN
from classify.heads.network.network import unfreeze_points
from classify.heads.network.recipes import Recipe
from classify.heads.network.settings import TrainingSettings
from classify.heads.own import heads_by_name
from classify.heads.regularizers import RegularizerSpec, parse_regularizers
from classify.measure.choice import best_of
from classify.measure.record import RowConfig
from classify.measure.results import SavedResult
from classify.measure.standing import against_best
from extract.commands.ensure import ensure_features
from extract.planning import plan
from features.backbones import requested_backbone
from features.commands.progress import going
from features.datasets import open_dataset
from features.errors import UserError
from features.reading import require_training_rows
from features.request import Plan, Request, as_items

SCOUT = "ridge"
QUICK = {"limit": 2000, "limit_test": 2000, "image_size": 64}
QUICK_EPOCHS = 3


# The rows of one line of the table, a seed each.
Group = tuple[Row, ...]


@followed
def compare(
    dataset: Any = "mnist",
    backbone: str = "resnet18",
    models: Any = None,
    *,
    layers: str | Sequence[str] = ("all",),
    seeds: int | Sequence[int] = (0,),
    settings: TrainingSettings | Recipe | None = None,
    regularizers: str | Sequence[str | RegularizerSpec] = (),
    map_dtype: str = "float32",
    in_loop: bool = False,
    search: bool = True,
    calibrate: bool = True,
    quick: bool = False,
    validate: str = AUTO,
    score: str = RowConfig.score,
    keep_networks: bool = True,
    results: Path | str = "results",
    **options: Any,
) -> ComparisonResult:
    """Heads on frozen features against networks that are trained, on the same training images, in one table.

    Everything is chosen on validation rows; the test rows are read once, at the end, and rows are compared with the
    best by McNemar tests with Holm's correction. A string or number where a list can be given is a list of one.

    Parameters
    ----------
    dataset, backbone, weights, image_size, limit, limit_test, device : str, int, or None
        As `probe` takes them, of one network and at one size.
    models : str, classifier, or list of these, optional
        'svm@layer3' (a head on a layer), 'finetune:layer4' (trained from there on), 'finetune:all+l2-sp=0.01' (with a
        regulariser), 'scratch', 'convnet', 'untouched', 'spottune', or a classifier like scikit-learn's, by name or as
        an object (`classify.heads.own`). By default the untouched network, a ConvNet and the backbone from scratch,
        fine-tuning from three stages on, and svm, logistic and linear at `avgpool` and at the best of `layers`.
    layers, seeds : str and int, or lists of these
        Among which layers the best for the default heads is chosen. A seed decides rows, validation split, new weights
        and their order; the test rows of the first serve the paired tests.
    settings, regularizers, map_dtype, in_loop, keep_networks
        How networks are trained (`TrainingSettings`, or a `Recipe`); with which regularisers, as 'l2-sp=0.01'; from
        cached maps in 'float32' or 'float16', or the frozen part run in the loop; whether `load_model` will find them.
    search, calibrate, validate, score, results
        As in `probe`; validate='auto' holds a part out where a network is trained, so that all rows are chosen on the
        same, and 'cv:5' trains each network six times.
    quick : bool
        Few rows, small images and three epochs where nothing else is asked for.
    **options
        `epochs`, `learning_rate` and the other fields of `TrainingSettings` where `settings` is not given; `jobs`,
        `again`, `say`, `on_epoch`, `progress`, and the fields of `features.request.Request`, as in `probe`.

    Returns
    -------
    ComparisonResult
        A row for each model, with accuracy (0 to 1), seconds and p-values; also saved in `results`.

    Raises
    ------
    UserError
        For what cannot be compared, before anything is extracted or trained.

    Examples
    --------
    >>> import layerprobe as lp
    >>> result = lp.compare("digits", "efficientnet_lite0", ["ridge@avgpool", "ridge@fc"], image_size=32, limit=100,
    ...                     limit_test=50, search=False, jobs=1)
    >>> [(row.model, row.layer) for row in result.rows]
    [('ridge', 'avgpool'), ('ridge', 'fc')]
    """
    parse_folds(validate)
    check_score(score)
    notes: list[str] = []
    how = How.of(results, options)
    training = _training(settings, quick, options)
    options = {**(_quick(options, notes) if quick else options), "dataset": dataset, "backbone": backbone}
    requests = _requests(options, seeds)
    chosen = _models(requests[0], models, parse_regularizers(as_items(regularizers)), notes)
    chosen_on = _chosen_on(validate, score, requests, chosen, notes)
    network = {"training": training, "in_loop": in_loop, "keep": keep_networks}
    rows = _network_rows(chosen, requests, map_dtype, network, Settings(validate=chosen_on), notes)
    heads = Settings(search=search, calibrate=calibrate, jobs=how.jobs, validate=chosen_on, score=score)
    question = _question(requests, chosen, layers, options) | {**training.to_json(), "quick": quick}
    return _answered(question, requests, chosen, rows, heads, how, notes)


def _training(settings: TrainingSettings | Recipe | None, quick: bool, options: dict[str, Any]) -> Recipe:
    """How networks are trained, by settings or by the fields of them among the options, which are taken out."""
    fields = [name for name in TrainingSettings.__dataclass_fields__ if name not in Request.__dataclass_fields__]
    own = {name: options.pop(name) for name in fields if name in options}
    if settings is not None and own:
        raise UserError(f"{', '.join(own)} and settings were given; name them in settings=TrainingSettings(...) alone")
    if isinstance(settings, Recipe):
        return settings
    return Recipe.alike(settings or TrainingSettings(**{**({"epochs": QUICK_EPOCHS} if quick else {}), **own}))


def _requests(options: dict[str, Any], seeds: int | Sequence[int]) -> list[Request]:
    """What is asked of the features for each seed."""
    requests = [Request.of(**{**options, "seed": seed}).normalised() for seed in dict.fromkeys(as_items(seeds))]
    if not requests:
        raise UserError("no seed was given; give at least one, as in --seeds 0")
    for request in requests:
        require_training_rows(request)
    return requests


def _question(
    requests: Sequence[Request], models: Sequence[Model], layers: str | Sequence[str], options: dict[str, Any]
) -> dict[str, Any]:
    """What was asked, as the record has it."""
    stated = _stated(options, requests[0])
    return {
        "dataset": requests[0].dataset,
        "backbone": options["backbone"],
        "models": [str(model) for model in models],
        "layers": list(as_items(layers)),
        "seeds": tuple(request.seed for request in requests),
        "options": {name: value for name, value in stated.items() if name not in ("dataset", "backbone")},
    }


def _answered(
    question: dict[str, Any],
    requests: Sequence[Request],
    models: Sequence[Model],
    rows: dict[Model, list[Group]],
    heads: Settings,
    how: How,
    notes: list[str],
) -> ComparisonResult:
    """The table, with the rows of networks as given and those of heads as they are chosen; saved."""
    plans = _plans(requests, [layer for model in models for layer in model.layers], question["layers"])
    if cost := cost_of_folds([row for of_model in rows.values() for group in of_model for row in group], how):
        how.say(cost)
    making = Making(how)
    settings = [dataclasses.replace(heads, seed=request.seed) for request in requests]
    groups = _fit(models, rows, plans, making, settings, notes)
    saved = making.test()
    compared = tuple(_compared(group, saved) for group in groups)
    best = best_of(compared, lambda row: [saved.result for saved in row.saved], heads.score)
    # The paired tests are on the first seed's test rows.
    p_values = against_best(best, compared, lambda row: row.saved[0])
    result = ComparisonResult(question, compared, best, p_values, tuple(notes), how.folder)
    result.save()
    return result


def _quick(options: dict[str, Any], notes: list[str]) -> dict[str, Any]:
    """The options of a quick answer: fewer and smaller images where none were named, which is noted."""
    options = {**options, **{name: value for name, value in QUICK.items() if options.get(name) is None}}
    notes.append(
        f"quick: {options['limit']:,} training and {options['limit_test']:,} test images at most, of "
        f"{options['image_size']} pixels"
    )
    return options


def _stated(options: dict[str, Any], request: Request) -> dict[str, Any]:
    """Those of a call's options that a request states as plain values."""
    stated = request.to_json()
    return {name: value for name, value in options.items() if value is not None and name in stated}


def _models(
    request: Request,
    asked: Sequence[Any] | None,
    regularizers: tuple[RegularizerSpec, ...],
    notes: list[str],
) -> tuple[Model, ...]:
    """The models, each once; notes are taken of those left out of the default set."""
    if asked is None:
        backbone = requested_backbone(request)
        cut, labels = backbone.cut(request.image_size), len(open_dataset(request.dataset).classes)
        models = default_models(unfreeze_points(cut))
        outputs = None if backbone.headless else cut.shape(cut.resolve("fc"))[0]
        if outputs is None or outputs < labels:
            models = tuple(model for model in models if model.name != "untouched")
            reason = "came without a classifier" if outputs is None else f"tells {outputs} classes apart, not {labels}"
            notes.append(f"no untouched network: {backbone.weights_name} {reason}")
    else:
        named = heads_by_name(asked)
        models = tuple(model if isinstance(model, Model) else parse_model(model) for model in named)
        if not models:
            raise UserError("no model was given; leave out --model for the default set, or name some")
    regular = {model: with_regularizers(model, regularizers) for model in models}
    if regularizers and not any(model.name == "finetune" for model in models):
        raise UserError("--regularizer is about fine-tuned networks, and none is compared; leave it out")
    for model, made in regular.items():
        missing = [str(spec) for spec in regularizers if spec not in made.regularizers]
        if missing and model.name == "finetune" and not model.regularizers:
            notes.append(f"{model.label} goes without {' and '.join(missing)}: no pre-trained weight of it trains")
    return tuple(dict.fromkeys(regular.values()))


def _network_rows(
    models: Sequence[Model],
    requests: Sequence[Request],
    map_dtype: str,
    options: dict[str, Any],
    settings: Settings,
    notes: list[str],
) -> dict[Model, list[Group]]:
    """For each model that is a network its rows, checked (the untouched one has three groups); notes are taken of those
    that train otherwise than was asked for all."""
    rows: dict[Model, list[Group]] = {}
    recipe = options["training"]
    tuned = any(model.name == "finetune" for model in models)
    for model in models:
        if model.name == "untouched":
            rows[model] = list(zip(*(untouched_rows(request, settings) for request in requests), strict=True))
        elif not model.is_head:
            asked = recipe.settings(model.name)
            fitting = asked.from_drawn_weights() if model.name in DRAWN and tuned else asked
            described = {**options, "training": fitting, "unfreeze": model.unfreeze, "regularizers": model.regularizers}
            if fitting != asked:
                stages = "" if asked.layer_decay == 1 else ", one learning rate for all stages"
                notes.append(
                    f"{model.label} starts from a random initialisation: no head from a probe, no batch norm frozen"
                    f"{stages}"
                )
            maps = [dataclasses.replace(request, dtype=map_dtype) for request in requests]
            rows[model] = [tuple(network_row(request, model.name, settings=settings, **described) for request in maps)]
            for row in rows[model][0]:
                row.check()
    return rows


def _plans(requests: Sequence[Request], wanted: Sequence[str], candidates: Sequence[str]) -> list[Plan]:
    """A plan for each seed over all layers that heads sit on, or might; none where there are no heads."""
    if not wanted:
        return []
    names = [layer for layer in wanted if layer != BEST]
    names += candidates if BEST in wanted else []
    layers = tuple(dict.fromkeys(names))
    return [plan(dataclasses.replace(request, layers=layers)) for request in requests]


def _fit(
    models: Sequence[Model],
    rows: dict[Model, list[Group]],
    plans: Sequence[Plan],
    making: Making,
    settings: Sequence[Settings],
    notes: list[str],
) -> list[Group]:
    """Fit every row of every seed; nothing here opens the test split."""
    for planned in plans:
        ensure_features(planned.request, compiled=making.how.compiled, jobs=making.how.jobs, quiet=True)
    heads = (1 if any(place.validate != HOLDOUT for place in settings) else 2) * len(plans)
    heads *= sum(len(model.layers) for model in models)
    networks = [row for of_model in rows.values() for group in of_model for row in group]
    going().expect(WITH_TESTS * (heads + sum(map(weight, networks))))
    pools = plans[0].request.pools if plans else ()
    best = ("", "")
    if any(BEST in model.layers for model in models):
        best = _best_place(plans, settings, making)
        named = f"{best[0]} ({best[1]} pooling)" if len(pools) > 1 else best[0]
        notes.append(f"best layer: {named}, by the validation accuracy of {SCOUT}, before any other head was fitted")
    groups: list[Group] = []
    for model in models:
        for group in rows.get(model, ()):
            for row in group:
                making.fit(row)
            groups.append(group)
        asked = [best if layer == BEST else (layer, pool) for layer in model.layers for pool in pools]
        for layer, pool in dict.fromkeys(asked):
            sources = (CachedLayer(planned, layer, pool) for planned in plans)
            fitted = [_fit_head(making, model.name, *place) for place in zip(sources, settings, strict=False)]
            # The refitted one comes first.
            groups += [tuple(rows) for rows in reversed(list(zip(*fitted, strict=True)))]
    unique: dict[tuple[str, ...], Group] = {}
    for group in groups:
        unique.setdefault(tuple(row.digest for row in group), group)
    return list(unique.values())


def _chosen_on(
    validate: str, score: str, requests: Sequence[Request], models: Sequence[Model], notes: list[str]
) -> str:
    """What every model is chosen on, the same for all; a note is taken of why."""
    heads = [model.name for model in models if model.is_head]
    networks = [model.label for model in models if not model.is_head]
    if networks and not parse_folds(validate):
        return HOLDOUT
    # Of several seeds and a limit each takes rows of its own: the folds are those that all of them can have.
    choices = [settled(validate, request, heads or networks, score=score) for request in requests]
    on, line = min(choices, key=lambda pair: _order_of(pair[0]))
    notes += [line] if line else []
    return on


def _order_of(on: str) -> tuple[int, int]:
    folds = parse_folds(on)
    return (folds.count, folds.repeats) if folds else (0, 0)


def _fit_head(making: Making, head: str, source: CachedLayer, settings: Settings) -> tuple[Row, ...]:
    """Fit a head on training rows alone, and again on training and validation rows after the same search: two rows. On
    folds there is one, fitted on all."""
    if settings.validate != HOLDOUT:
        row = Row(source=source, head=Classical(head=HEADS[head]), settings=settings)
        making.fit(row)
        return (row,)
    first = Row(source=source, head=Classical(head=HEADS[head]), settings=dataclasses.replace(settings, refit=False))
    searched = search_of(making.fit(first))
    second = Row(source=source, head=Classical(head=HEADS[head], searched=searched), settings=settings)
    making.fit(second, remark=", refitted")
    return first, second


def _best_place(plans: Sequence[Plan], settings: Sequence[Settings], making: Making) -> tuple[str, str]:
    """The layer, and its pooling, on which the scout is best on validation, over all seeds; of equals the
    shallowest."""
    scores: dict[tuple[str, str], float] = {}
    for layer, pool in plans[0].distinct():
        rows = [
            Row(
                source=CachedLayer(planned, layer, pool),
                head=Classical(head=HEADS[SCOUT]),
                settings=dataclasses.replace(fitting, refit=fitting.validate != HOLDOUT),
            )
            for planned, fitting in zip(plans, settings, strict=True)
        ]
        scores[layer, pool] = sum(map(making.scout, rows)) / len(rows)
    return max(scores, key=lambda place: scores[place])


def _compared(group: Group, results: dict[str, SavedResult]) -> ComparedRow:
    saved = tuple(results[row.digest] for row in group)
    one_seconds, head = saved[0].result.extra.predict_one_seconds, saved[0].result.extra.head_one_seconds
    source = group[0].source
    if head is not None and isinstance(source, CachedLayer):
        one_seconds = head + source.test_views * pass_for_one(source, training_image(source.request))
    return ComparedRow(saved, one_seconds)
