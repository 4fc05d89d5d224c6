"""`python -m classify probe`: find out which layer, of one network or several, transfers best, with controls, paired
tests and costs."""

import argparse
import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from classify.commands.outputs import add_output_options, check_outputs, deliver
from classify.commands.training import check_choice, making_options, models_explained
from classify.heads import HEADS, find_head
from features.commands.completion import one_of
from features.commands.help import purpose
from features.commands.options import Parser, add_request_options, add_shared, check_request, request_fields
from features.commands.speaking import tell
from features.errors import UserError

if TYPE_CHECKING:
    from classify.experiments.search.answer import SearchResult


def main(arguments: Sequence[str]) -> int:
    """Parse the command line, probe, and print and write what was asked for."""
    options = _parser().parse_args(arguments)
    for name in options.model or ():
        find_head(name)
    check_outputs(options)
    check_request(options)
    check_choice(options)
    if options.search is not None:
        outcome = _searched(options)
        deliver(options, outcome, f"the winner again: {outcome.command}")
        return 0

    from classify.experiments.probe import probe
    from extract.cluster import on_cluster

    with on_cluster(options.cluster):
        result = probe(
            heads=options.model,
            quick=options.quick,
            controls=not options.no_controls,
            widths=not options.no_widths,
            scores=not options.no_scores,
            head2toe=options.head2toe,
            select=options.select,
            **_choosing(options),
            **request_fields(options),
        )
    deliver(options, result)
    return 0


# What a search has no use for: it has a plan of its own, and no controls, tests of all rows or workers elsewhere.
_NOT_SEARCHED = ("--quick", "--select", "--head2toe", "--no-controls", "--no-widths", "--no-scores", "--cluster")


def _searched(options: argparse.Namespace) -> "SearchResult":
    """What `--search` finds; UserError for what does not go with it, before torch is imported."""
    from classify.experiments.search.question import check_choosing, check_minutes
    from classify.experiments.settings import Settings
    from features.reading import require_splits
    from features.request import Request

    check_minutes(options.search)
    check_choosing(Settings(validate=options.validate, score=options.score, test=options.test))
    if given := [option for option in _NOT_SEARCHED if option in options.given]:
        raise UserError(
            f"--search tries configurations by a plan of its own, and {given[0]} is about a whole probe; leave one of "
            "them out"
        )
    for name, values in (("--backbone", options.backbone), ("--weights", options.weights)):
        if len(values) > 1:
            raise UserError(f"--search takes one network, and {name} names {len(values)}; search each by itself")
    fields = request_fields(options)
    require_splits(Request(dataset=fields["dataset"]), "train", "test")

    from classify.experiments.search.search import search

    # What is as by default may be typed all the same, and then means that alone.
    typed = {word.partition("=")[0] for word in shlex.split(options.command_line)}
    layers, pools = fields.pop("layers"), fields.pop("pools")
    backbone, weights = fields.pop("backbone")[0], fields.pop("weights")[0]
    if "--views" not in typed:
        del fields["views"]
    return search(
        fields.pop("dataset"),
        backbone,
        layers if "--layer" in typed else None,
        options.model,
        minutes=options.search,
        pools=pools if "--pool" in typed else None,
        weights=weights,
        **_choosing(options),
        **fields,
    )


def _choosing(options: argparse.Namespace) -> dict[str, Any]:
    """How rows are made and chosen, as `probe` and `search` take it."""
    return {
        "depth": options.depth,
        "class_weight": options.class_weight,
        "search": not options.no_search,
        "refit": not options.no_refit,
        "calibrate": not options.no_calibrate,
        "validate": options.validate,
        "score": options.score,
        "test": options.test,
        # The answer comes first on the standard output; how it is going belongs elsewhere.
        "say": tell,
        **making_options(options),
    }


def _parser() -> Parser:
    parser = Parser("classify probe", description=purpose(__doc__))
    parser.list_below("heads", models_explained(networks=False))
    add = parser.section("what is probed")
    heads = "heads; default logistic, linear-svm, ridge and knn"
    add("--model", nargs="+", metavar="M", help=heads, completer=one_of(*HEADS), former="--models")
    add("--depth", choices=("stage", "block"), default="stage", help="what --layer all stands for; default stage")
    add_shared(add, "--quick")
    searched = "the best of size x views x layer x pooling x head that is found in so many minutes, tested once"
    add("--search", metavar="MINUTES", help=searched)
    add("--head2toe", action="store_true", help="a row with the features that matter of all layers (Evci et al. 2022)")
    add("--select", action="store_true", help="rows with layers joined greedily while validation gains")
    add("--no-controls", action="store_true", help="no random weights, raw pixels and shuffled labels", rare=True)
    add("--no-widths", action="store_true", help="no readings at one common width", rare=True)
    add("--no-scores", action="store_true", help="no transferability scores and CKA", rare=True)
    add_shared(add, "--class-weight", "--no-search", "--no-refit", "--no-calibrate", "--validate", "--score", "--test")
    add_shared(add, "--views", "--test-views", "--view-augment")
    add_request_options(parser, layer="all", several=True)
    add = parser.section("how")
    add_shared(add, "--cluster", "--compile", "--results", "--again", "--progress")
    add_output_options(add)
    return parser
