"""`python -m tests.gpu`: every check that a GPU needs, and a table of speeds; one JSON file with all of it.

Made for eight minutes on a bare machine with torch and this package: random weights, images made up, nothing
downloaded. Without a GPU it says so and ends. `--rehearse` makes the same checks on the processor, small, so that what
is run on a GPU for the first time has been run before. Exit status 1 where a check did not hold.
"""

import argparse
import json
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from classify.show.columns import text
from classify.show.table import Column, Table
from tests.gpu.checks import CHECKS, Bench, LeftOut
from tests.gpu.speeds import speeds


def main() -> int:
    """Parse the command line, make the checks and measure, as far as the time goes."""
    options = _parser().parse_args()
    if not options.rehearse and not torch.cuda.is_available():
        print("there is no GPU that torch can use here (torch.cuda.is_available() is False): nothing was checked")
        return 0
    started = time.monotonic()
    deadline = started + options.seconds
    device = torch.device("cpu" if options.rehearse else options.device)
    if device.type == "cuda" and device.index is None:
        device = torch.device("cuda", torch.cuda.current_device())
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="gpu-") as folder:
        bench = Bench(device, options.rehearse, Path(folder))
        print(bench.machine, flush=True)
        for name, check in CHECKS.items():
            rows.append(_checked(name, check, bench, deadline))
            print(f"{rows[-1]['outcome']:>8}  {name}: {rows[-1]['said']} ({rows[-1]['seconds']} s)", flush=True)
        measured = list(_measured(bench, deadline))
    print(f"\n{_table(measured).to_text()}")
    failed = [row["check"] for row in rows if row["outcome"] == "FAILS"]
    took = time.monotonic() - started
    print(f"{len(rows) - len(failed)} of {len(rows)} checks held or were left out, in {took:.0f} s")
    if options.json:
        told = {"machine": bench.machine, "checks": rows, "speeds": measured, "seconds": round(took)}
        Path(options.json).write_text(json.dumps(told, indent=1))
    return int(bool(failed))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.gpu", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda", help="the GPU (default cuda)")
    parser.add_argument("--json", metavar="PATH", help="write everything there")
    parser.add_argument("--seconds", type=float, default=480, help="after which no more is begun (default 480)")
    parser.add_argument("--rehearse", action="store_true", help="on the processor, with small images")
    return parser


def _checked(name: str, check: Callable[[Bench], str], bench: Bench, deadline: float) -> dict[str, Any]:
    row: dict[str, Any] = {"check": name}
    started = time.monotonic()
    if started > deadline:
        return {**row, "outcome": "left out", "said": "no time was left", "seconds": 0}
    try:
        row |= {"said": check(bench), "outcome": "holds"}
    except LeftOut as reason:
        row |= {"said": str(reason), "outcome": "left out"}
    except Exception as error:
        row |= {"said": f"{type(error).__name__}: {error}", "outcome": "FAILS", "traceback": traceback.format_exc()}
    return {**row, "seconds": round(time.monotonic() - started, 1)}


def _measured(bench: Bench, deadline: float) -> Iterator[dict[str, Any]]:
    for row in speeds(bench):
        print(f"measured: {row['network']}, {row['precision']}, {row['who']}", flush=True)
        yield row
        if time.monotonic() > deadline:
            print("no time is left for the other speeds")
            return


def _table(rows: list[dict[str, Any]]) -> Table:
    def number(value: float | None) -> str:
        return "-" if value is None else f"{value:,.1f}"

    columns = (
        *(text(name) for name in ("network", "precision", "who")),
        *(Column(name, format=number) for name in ("images/s", "TFLOP/s", "of the limit %")),
    )
    return Table("Speeds, images in memory", columns, tuple(tuple(row.values()) for row in rows), ())


if __name__ == "__main__":
    sys.exit(main())
