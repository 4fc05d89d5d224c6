"""`python -m tests.fuzz`: bytes that anyone may have written, through everything that reads files from outside.

Each target runs in a process of its own with bounded memory. With atheris the inputs are guided by coverage, and as
many targets run side by side as there are processors; without it, or with --plain, they are the seeds changed at
random.
"""

import argparse
import importlib.util
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.fuzz.guard import CANARY, Finding, bound_memory, read_guarded
from tests.fuzz.mutation import MOST, mutated

NAMES = (
    "idx", "idx.gz", "image", "npz", "csv", "pth", "safetensors", "cache", "cache-sealed", "partial", "result",
    "result-sealed", "checkpoint", "note", "head", "predictions", "config", "states", "array-header", "waiting",
    "answer",
)  # fmt: skip


def main() -> int:
    """Parse the command line and fuzz; 1 if anything was found."""
    options = _parser().parse_args()
    if options.target:
        return _fuzz_here(options, guided=True)
    guided = not (options.plain or options.inputs) and importlib.util.find_spec("atheris") is not None
    found = {}
    # Targets that are forked take turns: a fork beside a thread may keep its locks for ever.
    with ThreadPoolExecutor(len(os.sched_getaffinity(0)) if guided else 1) as pool:
        names = options.only or NAMES
        for name, tally in zip(names, pool.map(lambda name: _tally(name, options, guided), names), strict=True):
            found[name] = tally
            print(f"{name}: {tally['inputs']:,} inputs, {len(tally['findings'])} findings", flush=True)
            for finding in tally["findings"]:
                print(f"    {finding}", flush=True)
    if options.json:
        Path(options.json).write_text(json.dumps(found, indent=1))
    return 1 if any(tally["findings"] for tally in found.values()) else 0


def _tally(name: str, options: argparse.Namespace, guided: bool) -> dict:
    """What a target's process tells."""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        return _in_another_process(argparse.Namespace(**{**vars(options), "target": name, "folder": folder}), guided)


def _in_another_process(options: argparse.Namespace, guided: bool) -> dict:
    """The tally of a target, with a finding more where its process died."""
    if guided:
        # Coverage is taken by changing the code as it is imported, so each target imports it anew.
        passed = ["--target", options.target, "--folder", options.folder, "--seconds", str(options.seconds)]
        done = subprocess.run([sys.executable, "-m", "tests.fuzz", *passed], capture_output=True, text=True)
        status, complaint = done.returncode, done.stderr
    else:
        importlib.import_module("tests.fuzz.targets")
        if (child := os.fork()) == 0:
            status = 70
            try:
                status = _fuzz_here(options)
            finally:
                os._exit(status)
        status, complaint = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), ""
    told = Path(options.folder) / "told.json"
    tally = json.loads(told.read_text()) if told.exists() else {"inputs": 0, "findings": []}
    if status not in (0, 1) or not told.exists():
        tally["findings"].append(f"the process ended with {status}: {complaint.strip()[-2000:]}")
    return tally


def _fuzz_here(options: argparse.Namespace, guided: bool = False) -> int:
    folder = Path(options.folder)
    os.environ[CANARY] = str(folder / "canary")
    os.environ["LAYERPROBE_HOME"] = str(folder / "home")
    if guided:
        import atheris

        with atheris.instrument_imports(include=["features", "classify.measure", "classify.heads.network.checkpoint"]):
            from tests.fuzz.targets import TARGETS
    else:
        from tests.fuzz.targets import TARGETS
    target = TARGETS[options.target]
    seeds = target.make(folder)
    bound_memory()
    tally = {"inputs": 0, "findings": []}
    place = folder / "place"
    place.mkdir()

    def attempt(data: bytes) -> None:
        tally["inputs"] += 1
        try:
            read_guarded(lambda: target.read(data, place))
        except Finding as finding:
            kept = Path(tempfile.gettempdir()) / f"layerprobe-fuzz-{options.target}-{len(tally['findings'])}"
            if len(tally["findings"]) < 10:
                kept.write_bytes(data[:10_000_000])
                tally["findings"].append(f"{' '.join(str(finding).split())[:500]} ({kept})")
        if tally["inputs"] % 50 == 0 or tally["findings"]:
            (folder / "told.json").write_text(json.dumps(tally))

    for data in seeds:
        attempt(data)
    source, ends = random.Random(options.seed), time.monotonic() + options.seconds
    # Bombs are tried as they are; changing and unpacking them thousands of times would take all the time there is.
    small = [data for data in seeds if len(data) < MOST]
    if guided:
        (folder / "told.json").write_text(json.dumps(tally))
        _guided(atheris, attempt, small, folder, options.seconds)
    while tally["inputs"] < options.inputs or (not options.inputs and time.monotonic() < ends):
        attempt(mutated(small, source))
    (folder / "told.json").write_text(json.dumps(tally))
    return 1 if tally["findings"] else 0


def _guided(atheris, attempt, small: list[bytes], folder: Path, seconds: float) -> None:
    """Fuzz with atheris, which ends the process when its time is up."""
    corpus = folder / "corpus"
    corpus.mkdir()
    for number, data in enumerate(small):
        (corpus / str(number)).write_bytes(data)
    arguments = [sys.argv[0], f"-max_total_time={int(seconds)}", "-max_len=65536", "-rss_limit_mb=0", "-timeout=60"]
    atheris.Setup([*arguments, "-verbosity=0", str(corpus)], attempt)
    atheris.Fuzz()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60, metavar="N", help="for each target (60)")
    parser.add_argument("--inputs", type=int, default=0, metavar="N", help="so many inputs instead, without atheris")
    parser.add_argument("--only", nargs="+", choices=NAMES, metavar="T", help=", ".join(NAMES))
    parser.add_argument("--plain", action="store_true", help="without atheris, though it is there")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", metavar="PATH", help="write the counts there as well")
    parser.add_argument("--target", choices=NAMES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    sys.exit(main())
