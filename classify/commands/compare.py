"""`python -m classify compare`: heads on cached features against networks from scratch and fine-tuned, in one table."""

import re
from collections.abc import Sequence

from classify.commands.outputs import add_output_options, check_outputs, deliver
from classify.commands.training import (
    REGULARIZERS_TITLE,
    RULES_OF_COMPARE,
    add_training_options,
    check_choice,
    making_options,
    models_explained,
    recipe_lines,
    refuse_unread,
    regularizers_explained,
    row_options,
    tensorboard_log,
)
from classify.experiments.models import DEFAULT_HEADS, parse_model
from classify.heads import HEADS
from classify.heads.network import NETWORKS
from features.commands.completion import one_of
from features.commands.help import purpose
from features.commands.options import Parser, add_request_options, add_shared, check_request, request_from
from features.commands.speaking import tell

FORMS = (
    ("svm@layer3", "a head on one layer"),
    ("finetune:layer4", "a network fine-tuned from this stage on"),
    ("finetune:all+l2-sp=0.01", "the same with a regulariser"),
)


def main(arguments: Sequence[str]) -> int:
    """Parse the command line, compare, and print and write what was asked for."""
    options = _parser().parse_args(arguments)
    for text in options.model or ():
        parse_model(text)
    check_outputs(options)
    models = [re.split("[:@+]", text)[0] for text in options.model or (*NETWORKS, *DEFAULT_HEADS)]
    refuse_unread(options, models, RULES_OF_COMPARE)
    check_request(options, heads=any(model in HEADS for model in models))
    check_choice(options)

    from classify.experiments.compare import QUICK_EPOCHS, compare

    if options.quick and options.training_epochs is None and options.training_steps is None:
        options.training_epochs = QUICK_EPOCHS
    request = vars(request_from(options)).copy()
    # A record names no pooling where it is the usual one, as all of them had it before there was a choice.
    for name in ("layers", "seed", *(["pools"] if options.pool == ["avg"] else [])):
        del request[name]
    for line in recipe_lines(options, models):
        tell(line)
    with tensorboard_log(options) as log:
        result = compare(
            models=options.model,
            layers=options.layer,
            seeds=options.seeds if options.seeds is not None else [options.seed],
            map_dtype=options.map_dtype or "float32",
            search=not options.no_search,
            calibrate=not options.no_calibrate,
            quick=options.quick,
            validate=options.validate,
            score=options.score,
            keep_networks=not options.forget_networks,
            # The table is what the standard output is for; how it is going belongs elsewhere.
            say=tell,
            on_epoch=log and log.epoch,
            **making_options(options),
            **row_options(options),
            **request,
        )
        if log is not None:
            for saved in (saved for row in result.rows for saved in row.saved if saved.result.extra.history):
                log.finish(saved.result)
    deliver(options, result)
    return 0


def _parser() -> Parser:
    parser = Parser("classify compare", description=purpose(__doc__))
    parser.list_below("models", models_explained())
    parser.list_below("with more said", FORMS)
    parser.list_below(REGULARIZERS_TITLE, regularizers_explained(), rare=True)
    add = parser.section("what is compared")
    add(
        "--model",
        nargs="+",
        metavar="M",
        help="default: untouched, convnet, scratch, finetune:fc, finetune:layer4, finetune:all, and svm, logistic and "
        "linear at avgpool and at the best layer",
        completer=one_of(*HEADS, *NETWORKS),
        former="--models",
    )
    add_shared(add, "--seeds", "--quick", "--no-search", "--no-calibrate", "--validate", "--score")
    add_shared(add, "--views", "--test-views", "--view-augment")
    add(
        "--forget-networks",
        action="store_true",
        help="do not keep the trained networks beside their results",
        rare=True,
    )
    add_request_options(parser, layer=None)
    add("--layer", nargs="+", default=["all"], metavar="L", help="layers that the best is chosen from; default all")
    add_shared(add, "--pool")
    add_training_options(parser)
    add = parser.section("how")
    add_shared(add, "--compile", "--results", "--again", "--tensorboard", "--progress")
    add_output_options(add)
    return parser
