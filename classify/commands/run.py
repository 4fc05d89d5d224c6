"""`python -m classify`: find out what the layers of a frozen network are worth.

Without a verb: train and test heads on cached features, extracting first what is missing (`--model svm logistic --layer
all`), and networks on the cached output of their frozen part (`--model finetune --unfreeze layer4`).
"""

import argparse
import dataclasses
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from classify.commands.outputs import present, say_next
from classify.commands.training import (
    REGULARIZERS_TITLE,
    RULES,
    add_training_options,
    check_choice,
    find_models,
    how_from,
    models_explained,
    recipe_lines,
    refuse_contradictions,
    refuse_unread,
    regularizers_explained,
    row_options,
    tensorboard_log,
)
from classify.commands.verbs import grouped
from classify.heads import HEADS
from classify.heads.network import NETWORKS
from classify.measure.wording import settings as settings_text
from features.commands.completion import one_of
from features.commands.help import purpose
from features.commands.options import Parser, add_request_options, add_shared, check_request, positive, request_from
from features.commands.program import program
from features.commands.speaking import detail, put, say


def main(arguments: Sequence[str], typed: bool = False) -> int:
    """Parse the command line, make every (layer, head) row and print what came out. typed: whether the verb was."""
    options = _parser(typed).parse_args(arguments)
    names, networks = find_models(options.model)
    refuse_unread(options, (*names, *networks), RULES)
    refuse_contradictions(options)
    check_request(options, heads=bool(names))
    check_choice(options)
    from classify.experiments.making import make, make_all
    from classify.experiments.run import RunOutcome
    from classify.experiments.training_cost import cost_of_folds
    from extract.cluster import on_cluster

    started = datetime.now(UTC).isoformat(timespec="seconds")
    how = how_from(options, say=say)
    settings = _settings(options, names, networks)
    for line in recipe_lines(options, networks):
        say(line)
    rows, of_heads, of_networks = _network_rows(options, networks, settings), [], []
    of_features = _head_rows(options, names, settings)
    if cost := cost_of_folds(rows, how):
        say(cost)
    with on_cluster(options.cluster), tensorboard_log(options) as log:
        for saved in make_all(of_features, how):
            of_heads.append(saved)
            for trial in saved.result.extra.trials or ():
                detail(f"  tried {settings_text(trial)}")
            if len(of_features) > 1:
                say(_line(saved.result))
        for row in rows:
            of_networks.append(make(row, dataclasses.replace(how, on_epoch=log and log.epoch)))
            if log is not None and of_networks[-1].result.config.is_network:
                log.finish(of_networks[-1].result)
    # Networks are configured by other things than heads are: each kind has its own table.
    for number, results in enumerate(filter(None, (of_heads, of_networks))):
        if number:
            put()
        present(RunOutcome.of(results, how.folder), f"the records in {options.results}")
    results = [*of_heads, *of_networks]
    if older := sum(saved.result.created < started for saved in results):
        say(f"{older} of {len(results)} rows stood in {options.results} already; --again makes them anew")
    say(f"saved in {options.results}")
    say_next(options, layers=len(results) == 1 and bool(names))
    return 0


def _settings(options: argparse.Namespace, names: Sequence[str], networks: Sequence[str]) -> Any:
    """How the rows are fitted: what is chosen and tested on is settled, and said."""
    from classify.experiments.settings import Settings
    from classify.experiments.validating import for_networks, settle
    from features.reading import require_training_rows

    # A head that cannot do what is asked says so before hours of extraction.
    for name in names:
        HEADS[name].build(class_weight=options.class_weight)
    request = request_from(options)
    if names:
        require_training_rows(request)
    settings = Settings(
        seed=options.seed,
        class_weight=options.class_weight,
        search=not options.no_search,
        refit=not options.no_refit,
        calibrate=not options.no_calibrate,
        validate=options.validate,
        score=options.score,
        test=options.test,
        jobs=options.jobs,
        blocks=options.in_blocks,
    )
    if not names:
        settings = for_networks(settings, options.validate, options.test)
    settings, lines = settle(settings, request, names or networks)
    if networks and (held := for_networks(settings, options.validate, options.test)) != settings:
        chosen = "" if held.validate == settings.validate else "chosen on a tenth of the training images, held out"
        tested = "" if held.test == settings.test else "tested on the test images"
        asks = "--validate cv:5 and --test cv:5 train them on folds"
        lines.append(f"networks are {' and '.join(filter(None, (chosen, tested)))}: {asks}")
    for line in lines:
        say(line)
    return settings


def _head_rows(options: argparse.Namespace, names: Sequence[str], settings: Any) -> list:
    """The rows of the heads, each on each layer; nothing is extracted yet."""
    if not names:
        return []
    from classify.experiments.kinds.classical import Classical
    from classify.experiments.row import Row
    from classify.experiments.sources import CachedLayer
    from classify.heads.on_axes import Reduction
    from extract.planning import plan

    request = request_from(options)
    reduction = Reduction("pca", options.pca) if options.pca else None
    planned = plan(request)
    sources = [CachedLayer(planned, layer, pool) for layer, pool in planned.distinct()]
    heads = [Classical(head=HEADS[name], reduction=reduction) for name in names]
    return [Row(source=source, head=head, settings=settings) for source in sources for head in heads]


def _network_rows(options: argparse.Namespace, names: Sequence[str], of_heads: Any) -> list:
    """The rows of the networks, in the order asked; nothing is extracted or trained yet."""
    if not names:
        return []
    from classify.experiments.row import network_row, untouched_rows
    from classify.experiments.settings import Settings
    from classify.experiments.validating import for_networks

    request = request_from(options)
    maps = dataclasses.replace(request, dtype=options.map_dtype or "float32")
    described = row_options(options)
    recipe = described.pop("settings")
    asked = for_networks(of_heads, options.validate, options.test)
    settings = Settings(validate=asked.validate, test=asked.test)
    rows: list = []
    for name in names:
        if name == "untouched":
            rows += untouched_rows(request, settings)
            continue
        unfreeze = (options.unfreeze or ["all"]) if name == "finetune" else ["all"]
        described["training"] = recipe.settings(name)
        made = [
            network_row(maps, name, unfreeze=point, settings=settings, **described) for point in dict.fromkeys(unfreeze)
        ]
        for row in made:
            row.check()
        rows += made
    return rows


def _line(result: Any) -> str:
    """One row, said as soon as it is known."""
    config, metrics = result.config, result.metrics
    return f"{config.layer} {config.pool} {config.head}: {metrics.accuracy:.2%}, {result.seconds['fit']:.1f} s"


def _parser(typed: bool = False) -> Parser:
    parser = Parser("classify", description=purpose(__doc__), prog=program("classify run" if typed else "classify"))
    if not typed:
        parser.list_verbs(grouped())
    parser.list_below("models", models_explained())
    parser.list_below(REGULARIZERS_TITLE, regularizers_explained(), rare=True)
    add = parser.section("which heads")
    add(
        "--model",
        nargs="+",
        default=["svm"],
        metavar="M",
        help="heads and networks (below); default svm",
        completer=one_of(*HEADS, *NETWORKS),
        former="--models",
    )
    add("--unfreeze", nargs="+", metavar="S", help="first stage that trains: fc, layer4, ... or all")
    add_shared(add, "--class-weight", "--no-search", "--no-refit", "--no-calibrate", "--validate", "--score", "--test")
    add_shared(add, "--views", "--test-views", "--view-augment")
    add("--pca", type=positive, metavar="N", help="bring features to N principal axes first", rare=True)
    add_request_options(parser)
    add_training_options(parser)
    add = parser.section("how")
    add_shared(add, "--cluster", "--compile", "--results", "--again", "--tensorboard")
    in_blocks = "leave features on the disk and read them in blocks (default: when they would not fit into memory)"
    add("--in-blocks", default="auto", choices=("auto", "on", "off"), help=in_blocks, rare=True)
    return parser
