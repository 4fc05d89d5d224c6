"""`python -m tests.classifiers`: every classifier of torchvision, and many networks of the other families (timm's where
it is installed, and of one's own), tried in all that is promised of a backbone.

Weights of torchvision's are random values in files as it writes them, which its own builder and loader read too; of
others they are random. A process for
each network, which may take --seconds. --json keeps the rows, and those that stand there are not made again. 1 if a
column of any went wrong; what is refused in a line did not.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.classifiers.checks import COLUMNS, columns_of, row
from tests.classifiers.networks import SHORT, Network, networks
from tests.classifiers.others import SHORT_OTHERS, Other, others


def main() -> int:
    """Parse the command line, make the rows and print the table."""
    options = _parser().parse_args()
    chosen = {str(network): network for network in (*networks(), *others())}
    if options.row:
        told = Path(options.json)
        row(
            chosen[options.row], _columns(options), Path(options.folder), lambda made: told.write_text(json.dumps(made))
        )
        return 0
    kept = Path(options.json) if options.json else None
    rows = json.loads(kept.read_text()) if kept and kept.exists() else {}
    short = (*SHORT, *(name for name in SHORT_OTHERS if name in chosen))
    for name in short if options.short else options.only or chosen:
        if name not in rows:
            rows[name] = _made(chosen[name], options)
            print(_line(rows[name]), flush=True)
            if kept:
                kept.write_text(json.dumps(rows, indent=1))
    return _table(rows)


def _columns(options: argparse.Namespace) -> tuple[str, ...]:
    return tuple(column for column in COLUMNS if column not in options.without)


def _made(network: Network | Other, options: argparse.Namespace) -> dict:
    """A row, made in a process of its own."""
    folder, seconds = Path(tempfile.mkdtemp(prefix="classifiers-", dir=options.folder)), options.seconds
    told = folder / "row.json"
    command = [
        sys.executable,
        "-m",
        "tests.classifiers",
        "--row",
        str(network),
        "--json",
        str(told),
        "--folder",
        str(folder),
    ]
    command += ["--without", *options.without]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds)
        end = f"status {done.returncode} {done.stderr.strip()[-300:]}" if done.returncode else ""
    except subprocess.TimeoutExpired:
        end = f"not done in {seconds} s"
    made = {"network": str(network), "seconds": {}, **(json.loads(told.read_text()) if told.exists() else {})}
    shutil.rmtree(folder, ignore_errors=True)
    if end:
        tried = columns_of(network, _columns(options))
        made[next(column for column in tried if column not in made)] = f"FAILS: {end}"
    return made


def _line(made: dict) -> str:
    cells = [f"{column}: {made[column]}" for column in COLUMNS if column in made]
    return f"{made['network']}: {'; '.join(cells)} ({sum(made['seconds'].values()):.0f} s)"


def _table(rows: dict[str, dict]) -> int:
    print(f"\n| network | {' | '.join(COLUMNS)} |\n| --- |{' --- |' * len(COLUMNS)}")
    for made in rows.values():
        print(f"| {made['network']} | {' | '.join(made.get(column, '-') for column in COLUMNS)} |")
    for column in COLUMNS:
        cells = [made.get(column, "-") for made in rows.values()]
        right, refused = (sum(cell.startswith(start) for cell in cells) for start in ("ok", "refused"))
        print(f"{column}: {right} ok, {refused} refused, {len(cells) - right - refused} others, of {len(cells)}")
    return int(any(str(cell).startswith("FAILS") for made in rows.values() for cell in made.values()))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.classifiers", description=__doc__)
    parser.add_argument("--short", action="store_true", help=f"only {', '.join((*SHORT, *SHORT_OTHERS))}")
    parser.add_argument("--only", nargs="+", metavar="NETWORK", help="these: NAME, or NAME:ENTRY as the table has it")
    parser.add_argument("--without", nargs="*", default=(), choices=COLUMNS, help="leave these columns out")
    parser.add_argument("--seconds", type=int, default=900, help="the longest that a network may take (900)")
    parser.add_argument("--json", metavar="PATH", help="keep the rows there, and make only those that it lacks")
    parser.add_argument("--folder", metavar="PATH", help="where to work (default: the system's temporary folder)")
    parser.add_argument("--row", metavar="NETWORK", help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    sys.exit(main())
