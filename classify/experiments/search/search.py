"""The best frozen configuration by one search, by successive halving against the clock: image size, views, layer,
pooling and head.

Candidates are scored on folds of the training images, or on a validation part, and never on a test image; each trial is
kept, so that the same search goes on where it was stopped. The winner alone is fitted on all training images and tested
once, in the end.
"""

import dataclasses
import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from classify.experiments.following import followed
from classify.experiments.making import Making
from classify.experiments.search.answer import SearchResult
from classify.experiments.search.grid import HEADS as DEFAULT_HEADS
from classify.experiments.search.grid import POOLS, Candidate, Grid, usual
from classify.experiments.search.halving import Halving
from classify.experiments.search.question import (
    SearchQuestion,
    check_choosing,
    check_grid,
    check_minutes,
    check_rows,
)
from classify.experiments.search.untried import untried
from classify.experiments.settings import How, Settings
from classify.experiments.validating import AUTO, SPLIT, parse_folds, settled_test
from classify.heads.own import heads_by_name
from classify.measure.standing import alike_where_chosen
from features.reading import require_splits
from features.request import Request, as_items
from features.typed import typed


@followed
def search(
    dataset: Any = "mnist",
    backbone: Any = "resnet18",
    layers: str | Sequence[str] | None = None,
    heads: Any = None,
    *,
    minutes: float = 5.0,
    pools: str | Sequence[str] | None = None,
    class_weight: str | None = None,
    calibrate: bool = True,
    validate: str = AUTO,
    score: str = "accuracy",
    jobs: int | None = None,
    results: Path | str = "results",
    **options: Any,
) -> SearchResult:
    """The best frozen configuration that can be found in so many minutes: image size x views x layers x pooling x head.

    By successive halving: all on few training images, the best third on three times as many, and so on. Chosen on folds
    alone; the winner is fitted on all training images and tested once. Every trial is kept in `results`: the same
    search again takes up where it stopped, and with more minutes goes further.

    Parameters
    ----------
    dataset : str or data
        As `open_dataset` takes it.
    backbone : str or torch.nn.Module
        As `probe` takes one.
    layers, pools : str or list of str, optional
        By default every stage and neighbouring stages joined, and 'avg', 'grid:2' and 'grid:4'.
    heads : str, classifier, or list of these, optional
        By default lda, ridge, svm, logistic and linear-svm.
    minutes : float
        About as long as it may take in all.
    class_weight, calibrate, validate, score : optional
        As `probe` takes them. With 'auto' trials are scored out of five folds, drawn once.
    jobs, results : int and path, optional
        Processor cores, by default all; the folder for trials, and for the winner's record and head.
    weights, image_size, limit, limit_test, seed, device : optional
        As `probe` takes them; image_size: by default several, by the images' own size.
    **options
        `depth` ('stage' or 'block'), `search` and `refit` as `probe` takes them; `again`, `say`, `progress`,
        `compiled`. Others: fields of `Request`; `views` is tried beside one view, by default 4 of small images.

    Returns
    -------
    SearchResult
        The winner, all trials, what was not tried, and the command that makes the winner; also saved in `results`.

    Raises
    ------
    UserError
        For what cannot be answered, before anything is computed.

    Examples
    --------
    >>> import layerprobe as lp
    >>> result = lp.search("digits", "efficientnet_lite0", ["avgpool", "fc"], "ridge", minutes=5, image_size=[32],
    ...                    views=1, limit=100, limit_test=50, jobs=1)
    >>> sorted((entry.candidate.layer, entry.rows) for entry in result.trials)
    [('avgpool', 100), ('fc', 100)]
    """
    began = time.time()
    options["jobs"] = jobs
    how = How.of(results, options)
    given = {name: options.pop(name) for name in ("search", "refit") if name in options}
    settings = Settings(
        class_weight=class_weight, jobs=jobs, calibrate=calibrate, validate=validate, score=score, **given
    )
    settings = dataclasses.replace(settings, test=options.pop("test", AUTO))
    depth = options.pop("depth", "stage")
    asked = {"image_size": options.pop("image_size", None), "layer": layers, "pool": pools}
    asked["views"] = sorted({1, options["views"]}) if "views" in options else None
    asked["head"] = None if heads is None else heads_by_name(heads)
    request = Request.of(**options, dataset=dataset, backbone=backbone)
    return answered(ask(request, minutes, settings, depth, asked), how, began)


def ask(request: Request, minutes: Any, settings: Settings, depth: str, asked: dict[str, Any]) -> SearchQuestion:
    """The question in its strict form; UserError for whatever could not be answered in the end.

    asked: the values of each dimension by the names of the candidates' fields, None for the usual ones.
    """
    named = {name: None if values is None else tuple(dict.fromkeys(as_items(values))) for name, values in asked.items()}
    request = request.normalised()
    settings = dataclasses.replace(check_choosing(settings), seed=request.seed)
    pools = named["pool"] or POOLS
    heads = named["head"] or DEFAULT_HEADS
    value = check_minutes(minutes)
    check_grid(heads, pools, settings)
    require_splits(request, "train", "test")
    check_rows(request)
    unnamed = usual(request)
    return SearchQuestion(
        request=request,
        grid=Grid(
            image_size=named["image_size"] or unnamed["image_size"],
            views=named["views"] or unnamed["views"],
            layer=named["layer"],
            pool=pools,
            head=heads,
        ),
        settings=settings,
        minutes=value,
        depth=depth,
        sizes_named=named["image_size"] is not None,
    )


def answered(question: SearchQuestion, how: How, began: float) -> SearchResult:
    """The answer to a question, also kept where `how` says; began: when its minutes did."""
    halving = Halving(question, how, began + 60 * question.minutes)
    best = halving.climb()
    others = [entry for entry in halving.rungs[best.rung].tried if entry is not best]
    equals = alike_where_chosen(best.trial, (entry.trial for entry in others))

    # From here on nothing is chosen.
    row, making = halving.last_row(best.candidate), Making(how)
    making.fit(row)
    saved = making.test()[row.digest]
    folds = parse_folds(best.trial.config.validate)
    notes = [
        "chosen on a validation part, which all trials share"
        if folds is None
        else f"chosen by cross-validation, {folds.described}",
        "the best score of many candidates is a little too high; the test is not",
        *(f"{of_pass} cannot be tried: {reason}" for of_pass, reason in halving.refused.items()),
    ]
    result = SearchResult(
        question=question.to_json(),
        best=best,
        saved=saved,
        rungs=tuple(halving.rungs),
        equals=tuple(others[place] for place in equals),
        untried=untried(halving),
        notes=tuple(notes),
        command=command_of(question, best.candidate, how),
        folder=how.folder,
    )
    result.save()
    return result


def command_of(question: SearchQuestion, candidate: Candidate, how: How) -> str:
    """The command that makes a candidate's row on all training images."""
    request, settings = candidate.of_pass.of(question.request).normalised(), question.settings
    words = ["--model", candidate.head]
    words += ["--class-weight", settings.class_weight] if settings.class_weight else []
    words += [f"--no-{name}" for name in ("search", "refit", "calibrate") if not getattr(settings, name)]
    for name in ("validate", "score"):
        value = getattr(settings, name)
        words += [f"--{name}", value] if value != getattr(_USUAL, name) else []
    if settled_test(AUTO, question.request, settings.validate, refit=settings.refit)[0] != SPLIT:
        words += ["--test", SPLIT]
    words += ["--results", str(how.folder)] if str(how.folder) != "results" else []
    features = typed(request, layers=[candidate.layer], pools=[candidate.pool])
    return f"python -m classify {features} {shlex.join(words)}"


_USUAL = Settings(validate=AUTO)
