"""`python -m features`: what is in the cache."""

import sys

from features.commands.cache import main
from features.commands.options import run_command

if __name__ == "__main__":
    sys.exit(run_command(main))
