"""`python -m features`: what is in the cache, and what can be done with it; without a verb, the list."""

import argparse
from collections.abc import Sequence
from typing import Any

from features.commands.completion import cached_names
from features.commands.help import purpose
from features.commands.parser import Add, Parser

_NAMES = "as listed: a file's name, or the digits in it (their first 4 or more)"
VERBS = {
    "verbs to look": {
        "list": "what the cache holds (the default)",
        "verify": "compare every byte with its checksum; status 1 if one is damaged",
    },
    "verbs to change": {
        "remove": "delete files of the cache",
        "compact": "make one file of each that a cluster made in shards",
        "accept": "take weights or a data set that changed since they were first used for what they should be",
    },
}


def main(arguments: Sequence[str]) -> int:
    """Parse the command line and do what it says; 1 if verification found damage."""
    options = _parser().parse_args(arguments)

    from features.commands.holdings import run_verb

    return run_verb(options)


def _parser() -> Parser:
    parser = Parser("features", description=purpose(__doc__), configurable=False)
    parser.list_verbs(VERBS.items())
    # The verbs are listed above, in groups.
    verbs = parser.add_subparsers(dest="verb", metavar="[VERB]", help=argparse.SUPPRESS)

    def verb(name: str) -> Add:
        summary = next(summaries[name] for summaries in VERBS.values() if name in summaries)
        return verbs.add_parser(name, description=purpose(summary)).add_argument

    verb("list")
    files: dict[str, Any] = {"nargs": "*", "metavar": "NAME", "completer": cached_names}
    verb("verify")("names", **files, help=f"{_NAMES}; without one: everything")
    add = verb("remove")
    add("names", **files, help=_NAMES)
    add("--dataset", metavar="NAME", help="features of this data set: its name as listed, or as `extract` takes it")
    add("--layer", metavar="L", help="features of this layer")
    add("--partial", action="store_true", help="only what is not complete")
    add("--all", action="store_true", help="everything")
    verb("compact")("names", **files, help=f"{_NAMES}; without one: all that have shards")
    verb("accept")("names", nargs="+", metavar="NAME", help="as the refusal says")
    return parser
