"""`python -m features`: what is in the cache, and what can be done with it; without a verb, the list."""

import argparse
import re
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
        "prune": "delete what is old, or large, or both",
        "compact": "make one file of each that a cluster made in shards",
        "accept": "take weights or a data set that changed since they were first used for what they should be",
    },
}


def age(text: str) -> float:
    """Seconds that '12h', '30d' or '2w' are; a number alone is of days."""
    return _amount(text, {"h": 3600.0, "d": 86400.0, "w": 604800.0, "": 86400.0}, "an age as in 12h, 30d or 2w")


def size(text: str) -> float:
    """Bytes that '500MB' or '2GB' are."""
    units = {"": 1.0, "b": 1.0, "kb": 1e3, "mb": 1e6, "gb": 1e9, "tb": 1e12}
    return _amount(text, units, "a size as in 500MB or 2GB")


def _amount(text: str, units: dict[str, float], wanted: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-zA-Z]*)", text.strip())
    if match is None or match[2].lower() not in units:
        raise argparse.ArgumentTypeError(f"{text!r} is not {wanted}; give one")
    return float(match[1]) * units[match[2].lower()]


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
    add = verb("prune")
    add(
        "--older-than",
        type=age,
        metavar="AGE",
        help="made or carried on longer ago than: 30d, 12h, 2w (a number: days)",
    )
    add("--larger-than", type=size, metavar="SIZE", help="of more bytes: 500MB, 2GB; with both options, what is both")
    add("--dry-run", action="store_true", help="say what it would delete, and stop")
    verb("compact")("names", **files, help=f"{_NAMES}; without one: all that have shards")
    verb("accept")("names", nargs="+", metavar="NAME", help="as the refusal says")
    return parser
