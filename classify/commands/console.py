"""The console command `layerprobe`: every verb of `python -m classify` by itself, and `extract` and `features`."""

# PYTHON_ARGCOMPLETE_OK: a shell that finds this in the first lines asks here for what can be typed.

from collections.abc import Sequence

import classify.__main__ as classify
import extract.__main__ as extract
import features.commands.cache as features
from classify.commands.verbs import VERBS, grouped
from features.commands.completion import is_completing, words_typed
from features.commands.options import run_command
from features.commands.parser import Parser
from features.commands.program import started_as

_PACKAGES = {"extract": extract.main, "features": features.main, "classify": classify.main}
_OF_THE_CACHE = {
    "extract": "images through a frozen network, what each layer sees into the cache",
    "features": "what is in the cache, and what can be done with it",
}


def console() -> int:
    """What the installed command runs."""
    return run_command(main)


def main(arguments: Sequence[str]) -> int:
    """Run the verb that the first argument names; without one, the help."""
    if is_completing():
        arguments = words_typed((*VERBS, *_PACKAGES))
    verb, rest = (arguments[0], arguments[1:]) if arguments else ("--help", [])
    started_as("layerprobe classify" if verb == "classify" else "layerprobe")
    if verb in _PACKAGES:
        return _PACKAGES[verb](rest) or 0
    if verb in VERBS:
        return classify.run_verb(verb, rest)
    _parser().parse_args([verb, *rest])
    return 0


def _parser() -> Parser:
    description = "Find out which layer of a frozen, pre-trained network transfers best."
    parser = Parser(prog="layerprobe", description=description, configurable=False)
    parser.list_verbs([*grouped(), ("verbs for what is cached", _OF_THE_CACHE)])
    parser.list_below("begin with", [(f"layerprobe {words}", what) for words, what in _BEGIN])
    return parser


_BEGIN = (
    ("probe --quick", "a first answer on MNIST, in minutes"),
    ("probe --dataset folder:photos", "your own images, one folder for each class"),
    ("VERB --help", "what a verb takes"),
)
