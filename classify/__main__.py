"""`python -m classify`: dispatch to a verb; without one, train and test heads on cached features."""

# PYTHON_ARGCOMPLETE_OK: a shell that finds this in the first lines asks here for what can be typed.

import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

# `-m` has Python look into the working folder first, where a features.py may stand that is the user's own: ours are the
# packages beside this one.
if __name__ == "__main__" and not sys.flags.safe_path and Path(sys.path[0]) != Path(__file__).parents[1]:
    sys.path[0] = str(Path(__file__).parents[1])
    import extract  # noqa: F401
    import features  # noqa: F401

    sys.path.append(sys.path.pop(0))
    sys.path.append(str(Path.cwd()))

from classify.commands.verbs import VERBS  # noqa: E402
from features.commands.completion import is_completing, words_typed  # noqa: E402
from features.commands.options import run_command  # noqa: E402


def main(arguments: Sequence[str]) -> int:
    """Run the verb that the first argument names, or `run`."""
    if is_completing():
        arguments = words_typed(tuple(VERBS))
    if arguments and arguments[0] in VERBS:
        return run_verb(arguments[0], arguments[1:])
    return importlib.import_module("classify.commands.run").main(arguments)


def run_verb(verb: str, arguments: Sequence[str]) -> int:
    """Run one of the verbs."""
    more = {"typed": True} if verb == "run" else {}
    return importlib.import_module(f"classify.commands.{verb}").main(arguments, **more)


if __name__ == "__main__":
    sys.exit(run_command(main))
