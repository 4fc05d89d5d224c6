"""`python -m classify --model svm`: train and test heads on cached features, extracting first what is missing, and
networks (`--model finetune --unfreeze layer4`) on the cached output of their frozen part."""

import argparse
import dataclasses
import functools
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from classify.commands.tensorboard import add_tensorboard_option, tensorboard_log
from classify.commands.training import (
    RULES,
    add_training_options,
    find_models,
    models_explained,
    refuse_contradictions,
    refuse_unread,
    regularizers_explained,
    row_options,
)
from classify.heads import HEADS
from classify.heads.network import NETWORKS
from features.commands.completion import one_of
from features.commands.options import Parser, add_request_options, add_shared, positive, request_from
from features.commands.speaking import detail, say


def main(arguments: Sequence[str]) -> int:
    """Parse the command line, make every (layer, head) row and print what came out."""
    options = _parser().parse_args(arguments)
    names, networks = find_models(options.model)
    refuse_unread(options, (*names, *networks), RULES)
    refuse_contradictions(options)
    command = options.command_line
    rows = _network_rows(options, networks) if networks else []
    started = datetime.now(UTC).isoformat(timespec="seconds")
    from extract.cluster import on_cluster

    with on_cluster(options.cluster), tensorboard_log(options.tensorboard) as log:
        results = _heads(options, names, command) if names else []
        trained = _networks(options, rows, command, log)
    if networks:
        # Networks are configured by other things than heads are: each kind has its own table.
        if results:
            _show(results)
            print()
        results = trained
    _show(results)
    if older := sum(result.created < started for result in results):
        say(f"{older} of {len(results)} rows stood in {options.results} already; --again makes them anew")
    say(f"kept in {options.results}")
    return 0


def _heads(options: argparse.Namespace, names: Sequence[str], command: str) -> list:
    """The results of the heads, each on each layer; on a cluster, if there is one, side by side."""
    from classify.experiments.evaluate import Row, Settings, evaluate_row
    from classify.experiments.sources import CachedLayer
    from classify.experiments.width_matching import Reduction
    from classify.measure.wording import settings as settings_text
    from extract.cluster import cluster_client, spread, threads_each
    from extract.commands.ensure import ensure_features
    from features.reading import require_training_rows

    # A head that cannot do what is asked says so before hours of extraction.
    heads = [HEADS[name] for name in names]
    for head in heads:
        head.build(class_weight=options.class_weight)
    request = request_from(options)
    require_training_rows(request)
    answer = ensure_features(request, compiled=options.compile, jobs=options.jobs, quiet=True)
    client = cluster_client()
    threads = threads_each(client, options.jobs) if client is not None else options.jobs
    settings = Settings(
        options.seed,
        options.class_weight,
        not options.no_search,
        not options.no_refit,
        jobs=threads,
        blocks=options.in_blocks,
    )
    reduction = Reduction("pca", options.pca) if options.pca else None
    sources = [CachedLayer(answer, layer, pool) for layer, pool in answer.distinct()]
    rows = [(Row(source, head, settings, reduction=reduction),) for source in sources for head in heads]
    # Workers start in folders of their own.
    folder = options.results if client is None else Path(options.results).absolute()
    make = functools.partial(evaluate_row, folder=folder, command=command, again=options.again)
    results = []
    for row in spread(make, rows, threads=threads or 1):
        results.append(row.result)
        for trial in row.result.extra["trials"]:
            detail(f"  tried {settings_text(trial)}")
        if len(rows) > 1:
            say(_line(row.result))
    return results


def _network_rows(options: argparse.Namespace, names: Sequence[str]) -> list:
    """What the networks' rows are, in the order asked; nothing is extracted or trained yet."""
    from classify.experiments.network_row import NetworkRow, check_row
    from classify.experiments.untouched import untouched_rows

    request = request_from(options)
    maps = dataclasses.replace(request, dtype=options.map_dtype or "float32")
    rows = []
    for name in names:
        if name == "untouched":
            rows += untouched_rows(request)
            continue
        unfreeze = (options.unfreeze or ["all"]) if name == "finetune" else ["all"]
        made = [NetworkRow(maps, name, unfreeze=point, **row_options(options)) for point in dict.fromkeys(unfreeze)]
        for row in made:
            check_row(row)
        rows += made
    return rows


def _networks(options: argparse.Namespace, rows: list, command: str, log: Any) -> list:
    """The results of the networks; log: a `TensorBoardLog`, or None."""
    if not rows:
        return []
    from classify.experiments.network_row import NetworkRow
    from classify.experiments.networks import evaluate_network
    from classify.experiments.untouched import evaluate_untouched

    shared = {"folder": options.results, "command": command, "again": options.again}
    shared |= {"compiled": options.compile, "jobs": options.jobs}
    results = []
    for row in rows:
        if not isinstance(row, NetworkRow):
            results.append(evaluate_untouched(row, **shared).result)
            continue
        results.append(evaluate_network(row, **shared, say=say, on_epoch=log and log.epoch).result)
        if log is not None:
            log.finish(results[-1])
    return results


def _line(result) -> str:
    """One row, said as soon as it is known."""
    config, metrics = result.config, result.metrics
    return f"{config['layer']} {config['pool']} {config['head']}: {metrics.accuracy:.2%}, {result.seconds['fit']:.1f} s"


def _show(results: list) -> None:
    """One result in full; of several the tables, the answer first."""
    from classify.show.network_tables import network_tables, networks_table
    from classify.show.table import show
    from classify.show.tables import layer_by_head, result_report, summary_table

    if len(results) == 1:
        show(result_report(results[0]))
        for table in network_tables(results):
            show("", table)
        return
    best = max(results, key=lambda result: result.validation_accuracy)
    print()
    pooling = f" ({best.config['pool']} pooling)" if "pool" in best.config else ""
    print(f"best on validation: {best.config['head']} on {best.config['layer']}{pooling}")
    print(best)
    print()
    if not pooling:
        for table in (networks_table(results), *network_tables(results)):
            show(table, "")
        return
    show(summary_table(results))
    if len({result.config["layer"] for result in results}) > 1:
        show(layer_by_head(results))


def _parser() -> Parser:
    parser = Parser(prog="python -m classify", description=__doc__)
    parser.epilog = f"{models_explained(HEADS, NETWORKS)}\n\n{regularizers_explained()}"
    add = parser.section("which heads")
    add(
        "--model",
        nargs="+",
        default=["svm"],
        metavar="M",
        help="heads and networks (below); default svm",
        completer=one_of(*HEADS, *NETWORKS),
    )
    add("--unfreeze", nargs="+", metavar="S", help="first stage that trains: fc, layer4, ... or all")
    add_shared(add, "--class-weight", "--no-search", "--no-refit")
    add("--pca", type=positive, metavar="N", help="bring features to N principal axes first")
    add_request_options(parser)
    add_training_options(parser)
    add = parser.section("how")
    add_shared(add, "--cluster", "--compile", "--results", "--again")
    in_blocks = "leave features on the disk and read them in blocks (default: when they would not fit into memory)"
    add("--in-blocks", default="auto", choices=("auto", "on", "off"), help=in_blocks)
    add_tensorboard_option(add)
    return parser
