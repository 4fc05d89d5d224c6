"""`python -m features`: what is in the cache."""

# PYTHON_ARGCOMPLETE_OK: a shell that finds this in the first lines asks here for what can be typed.

import sys

from features.commands.cache import main
from features.commands.options import run_command

if __name__ == "__main__":
    sys.exit(run_command(main))
