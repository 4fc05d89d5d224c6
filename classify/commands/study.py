"""`python -m classify study`: when, what and where to transfer; each study ends in a table, a figure and a JSON."""

import argparse
from collections.abc import Sequence
from typing import Any

from classify.commands.outputs import add_output_options, check_outputs, deliver
from classify.commands.training import add_training_options, making_options, training_fields
from classify.experiments.studies import STUDIES, find_study
from features.commands.completion import one_of
from features.commands.help import purpose
from features.commands.options import (
    SHARED,
    Parser,
    add_request_options,
    add_shared,
    check_request,
    positive,
    request_from,
)
from features.commands.program import program
from features.commands.speaking import tell

# What only some studies read; `Study.options` names them.
_OWN: dict[str, dict[str, Any]] = {
    "models": {
        "nargs": "+",
        "metavar": "M",
        "help": "as in compare: svm@layer3, finetune:layer4, scratch",
        "former": "--models",
    },
    "per_class": {"nargs": "+", "type": positive, "metavar": "N", "help": "images per class"},
    "corruptions": {"nargs": "+", "metavar": "C", "help": "noise, blur, rotation, ...; default all"},
    "others": {"nargs": "+", "metavar": "D", "help": "data sets with the same classes"},
    "foreign": {"nargs": "+", "metavar": "D", "help": "data sets with none of the classes, and noise"},
    "stages": {"nargs": "+", "metavar": "L", "help": "taken over up to here, or trained alone; default each in turn"},
    "data": {"metavar": "PATH", "required": True, "help": "a folder with amazon/, webcam/ and dslr/"},
    "seeds": SHARED["--seeds"],
}


def main(arguments: Sequence[str]) -> int:
    """Parse the command line, run one study, and print and write what it found."""
    options = _parser(arguments).parse_args(arguments)
    check_outputs(options)
    check_request(options)

    from classify.experiments.studies.study import study

    own = {
        name: getattr(options, name) for name in find_study(options.study).options if name not in ("models", "seeds")
    }
    result = study(
        options.study,
        models=getattr(options, "model", None),
        seeds=getattr(options, "seeds", None),
        training=training_fields(options),
        quick=options.quick,
        # The answer is what the standard output is for; how it is going belongs elsewhere.
        say=tell,
        **own,
        **making_options(options),
        **vars(request_from(options)),
    )
    deliver(options, result)
    return 0


def _parser(arguments: Sequence[str]) -> Parser:
    parser = Parser("classify study", description=purpose(__doc__))
    named = parser.add_argument("study", metavar="NAME", help=argparse.SUPPRESS, completer=one_of(*STUDIES))
    words = [text for text in arguments if not text.startswith("-")]
    name = next((word for word in words if word in STUDIES), words[0] if words else None)
    if name is None:
        studies = {study.name: study.summary for study in STUDIES.values()}
        parser.list_verbs([("studies (each with a --help of its own)", studies)])
        return parser
    study = find_study(name)
    parser.command = f"classify study {name}"
    parser.prog = program(parser.command)
    parser.description = purpose(study.summary)
    named.metavar = ""
    add = parser.section("what is studied")
    add_shared(add, "--quick")
    for name in study.options:
        add("--model" if name == "models" else f"--{name.replace('_', '-')}", **_OWN[name])
    add_request_options(parser, layer=None)
    if study.own_data:
        parser.set_defaults(dataset=None)
    add_training_options(parser, cuts=False)
    add = parser.section("how")
    add_shared(add, "--compile", "--results", "--again", "--progress")
    add_output_options(add)
    return parser
