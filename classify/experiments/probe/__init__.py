"""Which layer transfers best: networks x layers x heads x poolings with their controls, chosen on validation, tested at
the end.

One extraction pass makes all layers and poolings of a network, one more those of random weights. Everything is then
fitted, scored and chosen on the training split; the test split is opened once, after that.
"""

import dataclasses
import time
from collections.abc import Callable, Iterable, Sequence
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
    sources_of,
)
from classify.experiments.probe.found import ProbeRow, best_on_validation, layer_of, of_kind, sized_pool, standings
from classify.experiments.probe.networks import DEFAULT, Variant, paired, variants
from classify.experiments.probe.question import PARTS, Question, ask
from classify.experiments.probe.scoring import Scores, cost_of_scores, ranked, score_layers
from classify.experiments.probe.selecting import Selection
from classify.experiments.probe.selecting import select as select_greedily
from classify.experiments.row import Row
from classify.experiments.settings import How, Settings
from classify.experiments.sources import Pixels
from classify.experiments.validating import AUTO
from classify.heads.own import heads_by_name
from classify.measure.standing import not_distinguishable
from classify.measure.wording import counted, duration
from extract.cluster import cluster_client
from extract.commands.ensure import ensure_features
from features.commands.progress import going
from features.request import Request, as_items


@followed
def probe(
    dataset: Any = "mnist",
    backbone: Any = "resnet18",
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
    """Which layer of frozen networks transfers best: every layer with every head, with controls, tests and costs.

    Network, layer, head and hyper-parameters are chosen on validation rows; the test rows are read once, at the end.
    What was computed before is taken from the cache and `results`. A string where a list can be given is one item.

    Parameters
    ----------
    dataset : str or data
        'mnist', ..., 'folder:PATH', 'csv:PATH', 'npz:PATH', or the data, such as (X, y), as `open_dataset` takes them.
    backbone : str, torch.nn.Module, or list of these
        A torchvision classifier, 'efficientnet_lite0', 'timm:NAME', 'hf:NAME', one's own, or a plug-in's. The best of
        several is chosen as the layer is; their `weights` are one word for all, one for each, or 'NAME=W' for some.
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
    weights, image_size, limit, limit_test, seed, device : optional
        'default', 'random', a file or a torchvision name; pixels, several being compared; at most so many training and
        test images, stratified; which ones; 'auto', 'cpu', 'cuda:0', ...
    **options
        Of what is probed: `depth` ('stage' or 'block'); `controls` (random weights, raw pixels, shuffled labels);
        `widths` (all at one common width); `scores` (transferability and CKA); `head2toe` (Evci et al. 2022); `select`
        (layers joined greedily). Of how: `again`, `say`, `progress`, `compiled`. Others: fields of `Request`.

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
    (backbone, weights), *networks = paired(options.pop("backbone"), options.pop("weights", DEFAULT))
    sizes = options.pop("image_size", None)
    first, *others = dict.fromkeys(sizes) if isinstance(sizes, Iterable) else [sizes]
    options |= {name: as_items(options[name]) for name in ("layers", "pools")}
    request = Request.of(**options, backbone=backbone, weights=weights, image_size=first)
    return request, {**parts, "networks": tuple(networks), "sizes": tuple(others)}


def answered(question: Question, how: How) -> ProbeResult:
    """The answer to a question, also kept where `how` says."""
    # A mistake in the controls' request would be found after the first pass; planning costs nothing.
    probed = variants(question)
    for planned in filter(None, (*(variant.plan for variant in probed), *(variant.random for variant in probed))):
        ensure_features(planned.request, compiled=how.compiled, jobs=how.jobs, quiet=True)
    say, making = how.say, Making(how)
    notes = list(question.notes)
    pixels = Pixels.of(probed[0].plan.request) if question.controls else None
    if isinstance(pixels, str):
        notes.append(f"no raw-pixels control: {pixels}")
        pixels = None
    selections = _selected(question, probed, say, notes)
    widths = _common_widths(question, probed)
    parts: list[tuple[str, str, Row]] = []
    for variant in probed:
        sources, selection = sources_of(variant.plan), selections.get(variant.name)
        of_network = plain_rows(question, sources)
        of_network += joined_rows(question, variant.plan, sources, selection.order if selection else ())
        first, width = variant is probed[0], widths.get(variant.plan.request.image_size)
        of_network += control_rows(question, sources, variant.random, pixels if first else None, width)
        parts += [("" if kind == "pixels" else variant.name, kind, row) for kind, row in of_network]

    at_first = [variant for variant in probed if variant.plan.request.image_size == question.request.image_size]
    if question.scores:
        going().expect(cost_of_scores(at_first))
    making.fit_side_by_side([row for *_, row in parts])
    scores: Scores | None = None
    if question.scores:
        started = time.perf_counter()
        scores = score_layers(question, at_first)
        notes += scores.notes
        say(f"scores of {counted(len(scores.layers), 'layer')}: {duration(time.perf_counter() - started)}")

    # From here on nothing is chosen but what validation has already decided.
    saved, sized = making.test(side_by_side=True), bool(question.sizes)
    rows = tuple(ProbeRow(kind, saved[row.digest], sized=sized, network=name) for name, kind, row in parts)
    best = best_on_validation(rows)
    whole = procedure([row.saved for row in of_kind(rows, *CANDIDATES)])
    candidates = [row for row in of_kind(rows, *CANDIDATES) if row is not best]
    if scores and sized:
        size = probed[0].plan.wanted[0].key.image_size
        notes.append(f"scores that need no training: of images of {size} px, the first size that was given")
        scores = dataclasses.replace(
            scores, layers=tuple((layer, sized_pool(pool, size)) for layer, pool in scores.layers)
        )
    if scores:
        accuracies: dict[tuple[str, str, str], dict[str, float]] = {}
        for row in of_kind(rows, "layer"):
            accuracies.setdefault((row.layer, row.pool, row.network), {})[row.head] = row.validation
        scores = ranked(scores, accuracies)
    result = ProbeResult(
        question=question.to_json(),
        rows=rows,
        best=best,
        equals=tuple(candidates[place] for place in not_distinguishable(best.saved, [row.saved for row in candidates])),
        standings=standings(rows, best, [variant.plan for variant in probed]),
        scores=scores,
        selection=selections.get(best.network),
        notes=tuple(notes),
        **_one_pass(next(variant for variant in probed if variant.name == best.network)),
        folder=how.folder,
        tested=""
        if whole is None
        else whole.sentence([f"{layer_of(row)} with {row.head}" for row in of_kind(rows, *CANDIDATES)]),
    )
    result.save()
    return result


def _selected(
    question: Question, probed: Sequence[Variant], say: Callable[[str], None], notes: list[str]
) -> dict[str, Selection]:
    """For each network, by its name, the layers joined greedily at the first size; notes are taken of those without."""
    selections: dict[str, Selection] = {}
    firsts = {variant.name: variant for variant in reversed(probed)} if question.select else {}
    for name, variant in reversed(firsts.items()):
        sources, whose = joinable(sources_of(variant.plan)), f" of {name}" if name else ""
        if len(sources) > 1:
            selections[name] = select_greedily(question, sources)
            say(f"selected{whose}: {selections[name]}")
        else:
            notes.append(f"no selection of layers{whose}, since there is one layer to select from")
    return selections


def _common_widths(question: Question, probed: Sequence[Variant]) -> dict[int | None, int]:
    """The width that all layers have at least, of all networks, for each size of the images; none where no row is to be
    brought to it."""
    widths: dict[int | None, list[int]] = {}
    for variant in probed if question.widths else ():
        own = [sum(source.widths) for source in sources_of(variant.plan)]
        widths.setdefault(variant.plan.request.image_size, []).extend(own)
    return {size: min(own) for size, own in widths.items() if len(own) > 1}


def _one_pass(variant: Variant) -> dict[str, Any]:
    """What the pass of the training images through a network took, None where it was not measured, and how many."""
    measured = [source.extract_seconds() for source in sources_of(variant.plan)]
    known = [seconds for seconds in measured if seconds is not None]
    images = max(wanted.rows for wanted in variant.plan.wanted if wanted.split == "train")
    return {"pass_seconds": max(known) if len(known) == len(measured) else None, "pass_images": images}
