"""Extraction against the usual torchvision loop, thingsvision, img2vec and VisBench: the same images, the same file of
weights.

In a steady state everyone has been set up and warmed up; `--whole` times commands from the shell to the file, start-up
included, against the usual loop.
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.benchmarks.contest import Contender, Outcome, compete, timed
from tests.benchmarks.environments import path_with, thingsvision_python
from tests.benchmarks.limits import copy_rate, matrix_rate
from tests.benchmarks.ours import link_home
from tests.benchmarks.served import Served

_HERE = Path(__file__).parent
_ALTERNATIVES = ("torchvision", "channels-last", "thingsvision", "img2vec", "visbench")
_AVERAGE_POOL_ALONE = ("img2vec", "visbench")


def add_options(parser: argparse.ArgumentParser) -> None:
    """What to extract, and whom to measure."""
    add = parser.add_argument
    add("--weights", required=True, help="a state dict of the network, the same for everybody")
    add(
        "--backbone",
        default="resnet18",
        help="of torchvision; of others than resnet18 torchvision's loop alone is told",
    )
    add("--dataset", default="mnist")
    add("--images", type=int, default=512, help="in one turn (default 512)")
    add("--image-size", type=int, default=224)
    add(
        "--passes", nargs="+", default=["avgpool", "all", "layer1"], help="of ours, each its layers with commas between"
    )
    add(
        "--precision",
        nargs="+",
        default=["bfloat16", "float32", "int8"],
        help="of ours, each with the first of --passes",
    )
    add("--compile", default="auto", choices=("auto", "on", "off"))
    add("--clock", default="wall", choices=("wall", "cpu"), help="cpu: seconds of all threads, on a busy machine")
    add("--threads", type=int, default=os.cpu_count())
    add(
        "--against",
        nargs="*",
        default=list(_ALTERNATIVES),
        choices=_ALTERNATIVES,
        help="they take the first of --passes; img2vec and visbench know avgpool alone",
    )
    add("--whole", action="store_true", help="time whole commands instead, against the usual loop")
    add("--environments", default="~/.cache/layerprobe-benchmarks", help="where alternatives are installed")
    add("--thingsvision", metavar="PYTHON", help="an interpreter that has thingsvision")


def measure(options: argparse.Namespace) -> Iterator[Outcome]:
    """One contest: of all at once, or of whole commands."""
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        yield (_whole if options.whole else _steady)(options, _images(options, Path(folder)), Path(folder))


def _images(options: argparse.Namespace, folder: Path) -> dict:
    """What everybody is told, with the images as an array in a file."""
    import numpy as np

    from features.datasets import open_dataset
    from features.request import Request, selected_rows

    data = open_dataset(options.dataset).load("train")
    rows = selected_rows(data.labels, Request(dataset=options.dataset, limit=options.images), "train")
    np.save(folder / "images.npy", data.images[rows])
    return {
        "images": str(folder / "images.npy"),
        "weights": str(Path(options.weights).absolute()),
        "dataset": options.dataset,
        "backbone": options.backbone,
        "count": len(rows),
        "size": options.image_size,
        "layers": options.passes[0].split(","),
        "threads": options.threads,
        "workers": options.threads,
        "compile": options.compile,
    }


def _steady(options: argparse.Namespace, told: dict, folder: Path) -> Outcome:
    asked = [(options.passes[0], precision) for precision in options.precision]
    asked += [(layers, options.precision[0]) for layers in options.passes[1:]]
    with contextlib.ExitStack() as stack:
        contenders, shares = [], []
        for layers, precision in asked:
            served = stack.enter_context(
                Served(_HERE / "ours.py", {**told, "layers": layers.split(","), "precision": precision})
            )
            name = f"layerprobe, {layers}, {precision}, {served.told['engine']}"
            operations = served.told["operations"] * told["count"]
            contenders.append(Contender(name, _remembering(served, shares, options.clock), precision, operations))
        for name in options.against:
            if name in _AVERAGE_POOL_ALONE and told["layers"] != ["avgpool"]:
                continue
            served = stack.enter_context(_alternative(name, options, told))
            contenders.append(
                Contender(f"{name}, float32", served.clocked(options.clock), "float32", contenders[0].operations)
            )
        outcome = compete(
            f"{told['count']} images of {told['size']} pixels, {options.passes[0]}, steady state ({options.clock})",
            contenders,
            amount=told["count"],
            unit="images",
            rounds=options.rounds,
            limits={kind: matrix_rate(kind, options.clock) for kind in dict.fromkeys([*options.precision, "float32"])}
            | {"bytes copied": copy_rate},
            ours=len(asked),
        )
        return outcome.saying(
            f"the network computes {100 * min(shares):.1f} to {100 * max(shares):.1f} % of the time of ours"
        )


def _remembering(served: Served, shares: list[float], clock: str) -> Callable[[], float]:
    """A turn of ours that also notes the share of its time that the network computed."""

    def turn() -> float:
        said = served.ask()
        shares.append(said["computing"] / said["seconds"])
        return said["seconds" if clock == "wall" else "processor"]

    return turn


def _alternative(name: str, options: argparse.Namespace, told: dict) -> Served:
    folder = Path(options.environments).expanduser()
    if name in ("torchvision", "channels-last"):
        return Served(_HERE / "usual_loop.py", {**told, "channels_last": name == "channels-last"})
    if name == "thingsvision":
        return Served(_HERE / "thingsvision_loop.py", told, thingsvision_python(folder, options.thingsvision))
    return Served(_HERE / f"{name}_loop.py", told, path=path_with(name, folder))


def _whole(options: argparse.Namespace, told: dict, folder: Path) -> Outcome:
    # As many images as the others have, a quarter of them from the test split: ours fills a split's last batch up.
    test = told["count"] // 4
    start = [sys.executable, "-m", "extract", "--dataset", told["dataset"], "--weights", told["weights"], "--limit"]
    start += [str(told["count"] - test), "--limit-test", str(test)]
    start += ["--image-size", str(told["size"]), "--compile", told["compile"]]
    start += ["--backbone", told["backbone"]]
    start += ["--layer", *told["layers"], "--jobs", str(told["threads"]), "--precision"]
    usual = [sys.executable, str(_HERE / "usual_loop.py"), json.dumps({**told, "whole": str(folder / "usual.npy")})]

    def ours(precision: str) -> None:
        with tempfile.TemporaryDirectory(dir=folder) as home:
            environment = dict(os.environ)
            link_home(Path(home), environment)
            subprocess.run([*start, precision], check=True, env=environment, stdout=sys.stderr)

    contenders = [
        Contender(f"layerprobe, {kind}", timed(lambda kind=kind: ours(kind), options.clock))
        for kind in options.precision
    ]
    return compete(
        f"{told['count']} images of {told['size']} pixels, {options.passes[0]}, whole commands ({options.clock})",
        [
            *contenders,
            Contender("torchvision, float32", timed(lambda: subprocess.run(usual, check=True), options.clock)),
        ],
        amount=told["count"],
        unit="images",
        rounds=options.rounds,
        ours=len(contenders),
    )
