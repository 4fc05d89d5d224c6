"""`python -m classify`: dispatch to a verb; without one, train and test heads on cached features."""

# PYTHON_ARGCOMPLETE_OK: a shell that finds this in the first lines asks here for what can be typed.

import importlib
import sys
from collections.abc import Sequence

from features.commands.completion import is_completing, words_typed
from features.commands.options import run_command

VERBS = ("run", "probe", "compare", "study", "predict", "export", "report", "repeat")


def main(arguments: Sequence[str]) -> int:
    """Run the verb that the first argument names, or `run`."""
    if is_completing():
        arguments = words_typed(VERBS)
    verb, rest = (arguments[0], arguments[1:]) if arguments and arguments[0] in VERBS else ("run", arguments)
    return importlib.import_module(f"classify.commands.{verb}").main(rest)


if __name__ == "__main__":
    sys.exit(run_command(main))
