"""`python -m tests.faults`: do everything that goes wrong, for real, and count what was lost."""

import argparse
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path

from tests.faults.tally import FAULTS, Fault, Tally


def main() -> int:
    """Parse the command line and hurt; 1 if anything was lost."""
    import tests.faults.every  # noqa: F401 - registers them

    options = _parser().parse_args()
    wanted = {name: options.count or getattr(FAULTS[name], options.form) for name in options.only or FAULTS}
    chosen = [FAULTS[name] for name, count in wanted.items() if count]

    from tests.faults.bench import Bench

    folder = Path(tempfile.mkdtemp(prefix="faults-", dir=options.folder))
    bench, told = Bench(folder, options.seed), Path(options.json) if options.json else None
    # What stands there of other faults stays: the long form can be done in pieces.
    done = json.loads(told.read_text()) if told and told.exists() else {}
    lost = 0
    for each in chosen:
        tally, started = Tally(), time.monotonic()
        try:
            each.run(bench, tally, wanted[each.name])
        except Exception as error:
            tally.count(f"the fault itself failed: {type(error).__name__}: {error}")
        seconds = time.monotonic() - started
        done[each.name] = {**tally.to_json(), "seconds": round(seconds, 1)}
        print(_line(each, tally, seconds), flush=True)
        for line in (*tally.lost[:10], *(f"({remark})" for remark in tally.remarks)):
            print(f"    {line}", flush=True)
        lost += tally.tried - tally.survived
        if told:
            told.write_text(json.dumps(done, indent=1))
    _table([FAULTS[name] for name in FAULTS if name in done], done)
    if lost:
        print(f"kept for a look: {folder}")
        return 1
    shutil.rmtree(folder, ignore_errors=True)
    return 0


def _line(each: Fault, tally: Tally, seconds: float) -> str:
    if tally.skipped:
        return f"{each.name}: skipped, {tally.skipped}"
    lost = tally.tried - tally.survived
    return f"{each.name}: tried {tally.tried}, survived {tally.survived}, lost {lost}, {seconds:.0f} s"


def _table(chosen: list[Fault], done: dict[str, dict]) -> None:
    print("\n| fault | tried | survived | lost | let in |\n| --- | ---: | ---: | ---: | ---: |")
    for each in chosen:
        tally = done[each.name]
        lost = tally["tried"] - tally["survived"]
        counts = (
            f"skipped: {tally['skipped']} | | |"
            if tally["skipped"]
            else f"{tally['tried']} | {tally['survived']} | {lost} | {tally.get('let_in', 0)}"
        )
        print(f"| {each.told} | {counts} |")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument(
        "--short",
        dest="form",
        action="store_const",
        const="short",
        default="long",
        help="a few attempts of each, under a minute in all",
    )
    parser.add_argument("--only", nargs="+", metavar="FAULT", choices=FAULTS, help=", ".join(FAULTS))
    parser.add_argument("--count", type=int, metavar="N", help="attempts of each, instead of its own number")
    parser.add_argument("--seed", type=int, default=0, help="of the random moments and places")
    parser.add_argument("--json", metavar="PATH", help="write the counts there as well, beside those of other faults")
    parser.add_argument("--folder", metavar="PATH", help="where to work (default: the system's temporary folder)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
