"""`python -m features`: what is in the cache."""

# PYTHON_ARGCOMPLETE_OK: a shell that finds this in the first lines asks here for what can be typed.

import sys
from pathlib import Path

# `-m` has Python look into the working folder first, where a torch.py may stand that is the user's own.
if __name__ == "__main__" and not sys.flags.safe_path and Path(sys.path[0]) != Path(__file__).parents[1]:
    sys.path.append(sys.path.pop(0))

from features.commands.cache import main  # noqa: E402
from features.commands.options import run_command  # noqa: E402

if __name__ == "__main__":
    sys.exit(run_command(main))
