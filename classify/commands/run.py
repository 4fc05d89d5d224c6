"""`python -m classify --model svm`: train and test heads on cached features, extracting first what is missing."""

import argparse
import shlex
from collections.abc import Sequence

from classify.heads import HEADS, find_head
from features.commands.options import Parser, add_request_options, request_from


def main(arguments: Sequence[str]) -> int:
    """Parse the command line, make every (layer, head) row and print what came out."""
    options = _parser().parse_args(arguments)
    heads = [find_head(name) for name in dict.fromkeys(options.model)]

    from classify.experiments.evaluate import Settings, evaluate
    from extract.commands.ensure import ensure_features
    from features.reading import require_splits

    # A head that cannot do what is asked says so before hours of extraction.
    for head in heads:
        head.build(class_weight=options.class_weight)
    request = request_from(options)
    require_splits(request, "train", "test")
    answer = ensure_features(request, compiled=options.compile, jobs=options.jobs, quiet=True)
    settings = Settings(options.seed, options.class_weight, not options.no_search, not options.no_refit, options.jobs)
    command = shlex.join(["python", "-m", "classify", *arguments])
    wanted = [(layer, pool, head) for layer, pool in answer.distinct() for head in heads]
    results = []
    for layer, pool, head in wanted:
        row = evaluate(
            answer,
            layer,
            head,
            pool=pool,
            settings=settings,
            folder=options.results,
            command=command,
            again=options.again,
        )
        results.append(row.result)
        if len(wanted) > 1:
            print(_line(row.result), flush=True)
    _show(results)
    print(f"kept in {options.results}")
    return 0


def _line(result) -> str:
    """One row, said as soon as it is known."""
    config, metrics = result.config, result.metrics
    return f"{config['layer']} {config['pool']} {config['head']}: {metrics.accuracy:.2%}, {result.seconds['fit']:.1f} s"


def _show(results: list) -> None:
    """One result in full; of several the tables, the answer first."""
    from classify.show.table import show
    from classify.show.tables import layer_by_head, result_report, summary_table

    if len(results) == 1:
        show(result_report(results[0]))
        return
    best = max(results, key=lambda result: result.validation_accuracy)
    print()
    print(f"best on validation: {best.config['head']} on {best.config['layer']} ({best.config['pool']} pooling)")
    print(best)
    print()
    show(summary_table(results))
    if len({result.config["layer"] for result in results}) > 1:
        show(layer_by_head(results))


def _parser() -> Parser:
    parser = Parser(prog="python -m classify", description=__doc__)
    models = "\n".join(f"  {head.name:<12} {head.summary}" for head in HEADS.values())
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = f"models:\n{models}"
    group = parser.add_argument_group("which heads")
    group.add_argument("--model", nargs="+", default=["svm"], metavar="M", help=f"{', '.join(HEADS)}; default svm")
    group.add_argument("--class-weight", choices=("balanced",), help="weigh rare classes up")
    group.add_argument("--no-search", action="store_true", help="take each head's untuned default")
    group.add_argument("--no-refit", action="store_true", help="do not fit again on training + validation rows")
    add_request_options(parser)
    group = parser.add_argument_group("how")
    group.add_argument("--compile", default="auto", choices=("auto", "on", "off"), help="compile the network first")
    group.add_argument("--results", default="results", metavar="FOLDER", help="where results are kept (results/)")
    group.add_argument("--again", action="store_true", help="make rows again that stand in the results folder")
    return parser
