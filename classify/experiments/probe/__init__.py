"""Which layer transfers best: layers x heads x poolings with their controls, chosen on validation, tested at the end.

One extraction pass makes all layers and poolings, one more those of random weights. Everything is then fitted, scored
and chosen on the training split; the test split is opened once, after that.
"""

import dataclasses
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from classify.experiments.making import Making
from classify.experiments.probe.answer import ProbeResult
from classify.experiments.probe.entries import (
    control_entries,
    joinable,
    joined_entries,
    plain_entries,
    probe_layers,
    random_request,
    single_sources,
    sources_of,
)
from classify.experiments.probe.found import best_on_validation, probe_row, standings
from classify.experiments.probe.question import Question, ask
from classify.experiments.probe.scoring import Scores, ranked, score_layers
from classify.experiments.probe.selecting import select as select_greedily
from classify.experiments.settings import PLAINLY, How
from classify.experiments.sources import Pixels
from classify.measure.wording import duration
from extract.cluster import cluster_client
from extract.commands.ensure import ensure_features
from extract.planning import plan
from features.request import Plan, Request

Say = Callable[[str], None]


def probe(
    dataset: str = "mnist",
    backbone: str = "resnet18",
    layers: Sequence[str] = ("all",),
    heads: Sequence[str] | None = None,
    *,
    pools: Sequence[str] = ("avg",),
    depth: str = "stage",
    quick: bool = False,
    controls: bool = True,
    widths: bool = True,
    scores: bool = True,
    head2toe: bool = False,
    select: bool = False,
    class_weight: str | None = None,
    search: bool = True,
    refit: bool = True,
    jobs: int | None = None,
    results: Path | str = "results",
    again: bool = False,
    compiled: str = "auto",
    command: str = "",
    say: Say | None = None,
    **options: Any,
) -> ProbeResult:
    """Probe layers of a frozen network; the answer, also kept in the folder `results`.

    layers: names, joined ones ('layer2+layer3') or 'all' (every stage; with depth 'block' every block too). heads:
    names from `classify.heads.HEADS`, by default logistic, linear-svm, ridge and knn. pools: 'avg', 'max', 'grid:N'.
    controls: random weights, raw pixels and shuffled labels beside every row. widths: PCA and a random projection to
    one common width. scores: transferability scores and CKA. head2toe and select add rows over several layers.
    quick: a first answer in minutes, saying what it leaves out. jobs: processor cores (None: all). again: make rows
    again that stand in `results`. say: told each row as it is fitted. options are the other fields of
    `features.request.Request`: weights, image_size, limit, limit_test, seed, precision, dtype, device.

    Raises UserError for what cannot be answered, before anything is extracted.
    """
    request = Request(dataset=dataset, backbone=backbone, layers=tuple(layers), pools=tuple(pools), **options)
    question = ask(
        request,
        heads,
        depth=depth,
        quick=quick,
        controls=controls,
        widths=widths,
        scores=scores,
        head2toe=head2toe,
        select=select,
        class_weight=class_weight,
        search=search,
        refit=refit,
        jobs=jobs,
    )
    request = dataclasses.replace(question.request, layers=probe_layers(question.request, depth))
    # A mistake in the controls' request would be found after the first pass; planning costs nothing.
    asked = plan(request)
    random = plan(random_request(asked.request, asked.layers)) if question.random else None
    for planned in filter(None, (asked, random)):
        ensure_features(planned.request, compiled=compiled, jobs=jobs, quiet=True)
    # Absolute, since workers of a cluster start in folders of their own.
    folder = Path(results) if cluster_client() is None else Path(results).absolute()
    how = How(folder=folder, command=command, again=again, compiled=compiled, jobs=jobs, say=say or PLAINLY.say)
    return _run(question, asked, random, how)


def _run(question: Question, asked: Plan, random: Plan | None, how: How) -> ProbeResult:
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
    entries = plain_entries(question, sources)
    entries += joined_entries(question, asked, sources, selection.order if selection else ())
    entries += control_entries(question, sources, random, pixels)

    making.fit_side_by_side([entry.row for entry in entries])
    scores: Scores | None = None
    if question.scores:
        started = time.perf_counter()
        scores = score_layers(question, asked, sources, singles)
        notes += scores.notes
        say(f"scores of {len(sources)} layers: {duration(time.perf_counter() - started)}")

    # From here on nothing is chosen but what validation has already decided.
    saved = making.test(side_by_side=True)
    rows = tuple(probe_row(entry, saved[entry.row.digest]) for entry in entries)
    best = best_on_validation(rows)
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
        standings=standings(rows, best, asked),
        scores=scores,
        selection=selection,
        notes=tuple(notes),
        pass_seconds=max(measured) if len(measured) == len(sources) else None,
        folder=how.folder,
    )
    result.save()
    return result
