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
    """Probe layers of a frozen network; the answer, also kept in the folder `results`.

    dataset: a name as `open_dataset` takes it, or the data, such as (X, y) (`features.datasets.given`). layers: names,
    joined ones ('layer2+layer3') or 'all' (every stage; with depth 'block' every block too). heads: names from
    `classify.heads.HEADS`, or scikit-learn style classifiers (`classify.heads.own`), also 'python:MODULE:CLASS'; by
    default logistic, linear-svm, ridge and knn. pools: 'avg', 'max', 'grid:N'. quick: a first answer in minutes, saying
    what it leaves out. validate: what is chosen on, 'holdout', 'cv:5', 'cv:5x3' or 'auto' (`validating`); score: by
    which, of `classify.measure.scores.SCORES`. test: what is tested on, 'split', 'cv:5' or 'auto'. calibrate: the
    heads' probabilities, on rows that they have not seen. jobs: processor cores (None: all).

    options, of what is probed (`Question`): depth; controls: random weights, raw pixels and shuffled labels beside
    every row; widths: PCA and a random projection to one common width; scores: transferability scores and CKA; head2toe
    and select: rows over several layers. Of how rows are made (`How`): again: make rows again that stand in `results`;
    say: told each row as it is fitted; compiled, command. All others are fields of `features.request.Request`:
    weights, image_size (several are compared), limit, limit_test, seed, precision, dtype, device.

    A text where a list can be given is a list of one.

    Raises UserError for what cannot be answered, before anything is extracted.
    """
    # Absolute, since workers of a cluster start in folders of their own.
    folder = Path(results) if cluster_client() is None else Path(results).absolute()
    options["jobs"] = jobs
    how = How.of(folder, options)
    parts = {name: options.pop(name) for name in PARTS if name in options}
    sizes = options.pop("image_size", None)
    first, *others = dict.fromkeys(sizes) if isinstance(sizes, Iterable) else [sizes]
    options["image_size"], parts["sizes"] = first, tuple(others)
    request = Request(dataset=dataset, backbone=backbone, layers=as_items(layers), pools=as_items(pools), **options)
    settings = Settings(seed=request.seed, class_weight=class_weight, search=search, refit=refit, jobs=jobs)
    settings = dataclasses.replace(settings, calibrate=calibrate, validate=validate, score=score, test=test)
    heads = None if heads is None else heads_by_name(heads)
    return answered(ask(request, heads, settings, quick, **parts), how)


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
