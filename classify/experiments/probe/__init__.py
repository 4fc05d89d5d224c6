"""Which layer transfers best: layers x heads x poolings with their controls, chosen on validation, tested at the end.

One extraction pass makes all layers and poolings, one more those of random weights. Everything is then fitted, scored
and chosen on the training split; the test split is opened once, after that.
"""

import dataclasses
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from classify.experiments.cross_testing import procedure
from classify.experiments.following import followed
from classify.experiments.making import Making
from classify.experiments.probe.answer import ProbeResult
from classify.experiments.probe.entries import (
    CANDIDATES,
    control_rows,
    joinable,
    joined_rows,
    plain_rows,
    probe_layers,
    single_sources,
    sources_of,
)
from classify.experiments.probe.found import ProbeRow, best_on_validation, of_kind, sized_pool, standings
from classify.experiments.probe.question import PARTS, Question, ask
from classify.experiments.probe.scoring import Scores, ranked, score_layers
from classify.experiments.probe.selecting import select as select_greedily
from classify.experiments.settings import How, Settings
from classify.experiments.sources import Pixels
from classify.experiments.validating import AUTO
from classify.heads.own import heads_by_name
from classify.measure.standing import not_distinguishable
from classify.measure.wording import duration
from extract.cluster import cluster_client
from extract.commands.ensure import ensure_features
from extract.planning import plan
from features.request import Plan, Request, as_items


@followed
def probe(
    dataset: Any = "mnist",
    backbone: str = "resnet18",
    layers: str | Sequence[str] = ("all",),
    heads: Any = None,
    *,
    pools: str | Sequence[str] = ("avg",),
    quick: bool = False,
    class_weight: str | None = None,
    search: bool = True,
    refit: bool = True,
    calibrate: bool = True,
    validate: str = AUTO,
    score: str = "accuracy",
    test: str = AUTO,
    jobs: int | None = None,
    results: Path | str = "results",
    **options: Any,
) -> ProbeResult:
    """Which layer of a frozen network transfers best: every layer with every head, with controls, tests and costs.

    Layer, head and hyper-parameters are chosen on validation rows; the test rows are read once, at the end. What was
    computed before, features in the cache and rows in `results`, is taken from there. A string where a list can be
    given is a list of one.

    Parameters
    ----------
    dataset : str or data
        A name ('mnist', 'digits', ...), 'folder:PATH', 'csv:PATH', 'npz:PATH', or the data themselves, such as (X, y),
        as `open_dataset` takes them.
    backbone : str
        A torchvision classifier, 'efficientnet_lite0', or a plug-in's.
    layers : str or list of str
        Names, joined ones ('layer2+layer3') or 'all': every stage; with depth='block' every block.
    heads : str, classifier, or list of these, optional
        Names from `classify.heads.HEADS`, or classifiers like scikit-learn's, as objects or as 'python:MODULE:CLASS'
        (`classify.heads.own`); by default logistic, linear-svm, ridge and knn.
    pools : str or list of str
        'avg', 'max' or 'grid:N': what becomes of a map of C channels (C, C, and C x N x N numbers).
    quick, class_weight : bool, and None or 'balanced'
        A first answer in minutes, whose notes say what was left out; rare classes weighed up.
    search, refit, calibrate : bool
        Search hyper-parameters on validation rows (else each head takes its untuned default); fit the chosen head again
        on these too; calibrate probabilities on rows that the head has not seen (Guo et al. 2017).
    validate, test, score : str
        What is chosen on, and tested on: 'holdout' and 'split', 'cv:5' (tested so, on all images, the choice included),
        'cv:5x3' (drawn three times), or 'auto'; and by 'accuracy', 'macro-f1', 'balanced-accuracy' or 'log-loss'.
    jobs, results : int and path, optional
        Processor cores, by default all; the folder for records, predictions and fitted heads.
    **options
        Of what is probed: `depth` ('stage' or 'block'); `controls` (random weights, raw pixels and shuffled labels);
        `widths` (readings at one common width); `scores` (transferability scores and CKA); `head2toe` (Evci et al.
        2022); `select` (layers joined greedily). Of how it runs: `again`, `say`, `progress`, `compiled`. All others are
        fields of `features.request.Request`: `weights`, `image_size` in pixels (several are compared), `limit` and
        `limit_test` in images, `seed`, `precision`, `dtype`, `device`, ...

    Returns
    -------
    ProbeResult
        The answer, its rows and tables; also saved in `results`. Accuracies are between 0 and 1.

    Raises
    ------
    UserError
        For what cannot be answered, before anything is computed.

    Examples
    --------
    >>> import layerprobe as lp
    >>> result = lp.probe("digits", "efficientnet_lite0", ["avgpool", "fc"], "ridge", image_size=32, limit=100,
    ...                   limit_test=50, quick=True, jobs=1)
    >>> [(row.layer, row.head) for row in result.rows if row.kind == "layer"]
    [('avgpool', 'ridge'), ('fc', 'ridge')]
    """
    options["jobs"] = jobs
    how = How.of(_folder(results), options)
    settings = Settings(class_weight=class_weight, search=search, refit=refit, jobs=jobs, calibrate=calibrate)
    settings = dataclasses.replace(settings, validate=validate, score=score, test=test)
    request, parts = _asked({**options, "dataset": dataset, "backbone": backbone, "layers": layers, "pools": pools})
    heads = None if heads is None else heads_by_name(heads)
    return answered(ask(request, heads, dataclasses.replace(settings, seed=request.seed), quick, **parts), how)


def _folder(results: Path | str) -> Path:
    # Absolute, since workers of a cluster start in folders of their own.
    return Path(results) if cluster_client() is None else Path(results).absolute()


def _asked(options: dict[str, Any]) -> tuple[Request, dict[str, Any]]:
    """What is asked of the features, and the parts of the question beside."""
    parts = {name: options.pop(name) for name in PARTS if name in options}
    sizes = options.pop("image_size", None)
    first, *others = dict.fromkeys(sizes) if isinstance(sizes, Iterable) else [sizes]
    options |= {name: as_items(options[name]) for name in ("layers", "pools")}
    return Request.of(**options, image_size=first), {**parts, "sizes": tuple(others)}


def _at_size(request: Request, size: int) -> Request:
    """The same request of images of another size, strictly."""
    return dataclasses.replace(request, image_size=size).normalised()


def answered(question: Question, how: How) -> ProbeResult:
    """The answer to a question, also kept where `how` says."""
    request = dataclasses.replace(question.request, layers=probe_layers(question.request, question.depth))
    # A mistake in the controls' request would be found after the first pass; planning costs nothing.
    asked, *others = plans = [plan(request), *(plan(_at_size(request, size)) for size in question.sizes)]
    random: list[Plan | None] = [None] * len(plans)
    if question.random:
        random = [plan(dataclasses.replace(of.request, weights="random", layers=tuple(of.layers))) for of in plans]
    for planned in filter(None, (*plans, *random)):
        ensure_features(planned.request, compiled=how.compiled, jobs=how.jobs, quiet=True)
    say, making = how.say, Making(how)
    sources = sources_of(asked)
    singles = single_sources(sources)
    notes = list(question.notes)
    pixels = Pixels.of(asked.request) if question.controls else None
    if isinstance(pixels, str):
        notes.append(f"no raw-pixels control: {pixels}")
        pixels = None
    selection = None
    if question.select and len(joinable(sources)) > 1:
        selection = select_greedily(question, joinable(sources))
        say(f"selected: {selection}")
    elif question.select:
        notes.append("no selection of layers, since there is one layer to select from")
    parts = plain_rows(question, sources)
    parts += joined_rows(question, asked, sources, selection.order if selection else ())
    parts += control_rows(question, sources, random[0], pixels)
    for planned, drawn in zip(others, random[1:], strict=True):
        parts += plain_rows(question, sources_of(planned))
        parts += joined_rows(question, planned, sources_of(planned), selection.order if selection else ())
        parts += control_rows(question, sources_of(planned), drawn, None)

    making.fit_side_by_side([row for _, row in parts])
    scores: Scores | None = None
    if question.scores:
        started = time.perf_counter()
        scores = score_layers(question, asked, sources, singles)
        notes += scores.notes
        say(f"scores of {len(sources)} layers: {duration(time.perf_counter() - started)}")

    # From here on nothing is chosen but what validation has already decided.
    saved = making.test(side_by_side=True)
    rows = tuple(ProbeRow(kind, saved[row.digest], sized=bool(others)) for kind, row in parts)
    best = best_on_validation(rows)
    whole = procedure([row.saved for row in of_kind(rows, *CANDIDATES)])
    candidates = [row for row in of_kind(rows, *CANDIDATES) if row is not best]
    if scores and others:
        size = asked.wanted[0].key.image_size
        notes.append(f"scores that need no training: of images of {size} px, the first size that was given")
        scores = dataclasses.replace(
            scores, layers=tuple((layer, sized_pool(pool, size)) for layer, pool in scores.layers)
        )
    if scores:
        accuracies: dict[tuple[str, str], dict[str, float]] = {}
        for row in rows:
            if row.kind == "layer":
                accuracies.setdefault((row.layer, row.pool), {})[row.head] = row.validation
        scores = ranked(scores, accuracies)
    measured = [seconds for source in sources if (seconds := source.extract_seconds()) is not None]
    result = ProbeResult(
        question=question.to_json(),
        rows=rows,
        best=best,
        equals=tuple(candidates[place] for place in not_distinguishable(best.saved, [row.saved for row in candidates])),
        standings=standings(rows, best, plans),
        scores=scores,
        selection=selection,
        notes=tuple(notes),
        pass_seconds=max(measured) if len(measured) == len(sources) else None,
        folder=how.folder,
        tested=""
        if whole is None
        else whole.sentence([f"{row.layer} with {row.head}" for row in of_kind(rows, *CANDIDATES)]),
    )
    result.save()
    return result
