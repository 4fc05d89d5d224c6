"""`python -m tests.benchmarks SUBJECT`: us against what people would use instead, beside the machine's limit."""

import argparse
import importlib
import json
import sys
from pathlib import Path

from tests.benchmarks.contest import Outcome, machine

# A subject is a module of this folder with `add_options(parser)` and `measure(options) -> list[Outcome]`; the first
# line of its opening paragraph is its help.
SUBJECTS = ("extraction", "engines", "decoding", "heads", "networks", "startup")


def main() -> int:
    """Parse the command line, measure, and print ratios with their minimum, median and maximum."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    subjects = parser.add_subparsers(dest="subject", required=True)
    for name in SUBJECTS:
        module = importlib.import_module(f"tests.benchmarks.{name}")
        own = subjects.add_parser(name, help=module.__doc__.splitlines()[0])
        own.add_argument("--rounds", type=int, default=5, help="how often each takes its turn (default 5)")
        own.add_argument("--json", metavar="PATH", help="write all seconds there as well")
        module.add_options(own)
        own.set_defaults(measure=module.measure)
    options = parser.parse_args()
    print(machine(), flush=True)
    outcomes: list[Outcome] = []
    for outcome in options.measure(options):
        print(f"\n{outcome}", flush=True)
        outcomes.append(outcome)
    if options.json:
        Path(options.json).write_text(json.dumps([outcome.to_json() for outcome in outcomes], indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
