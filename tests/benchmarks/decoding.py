"""Photographs in JPEG files to features: decoded in full, as drafts, and by torchvision's loader with workers.

The images are made up: smooth colours with grain, of as many bytes as a camera's. Everyone decodes, prepares and runs
the network on all of them.
"""

import argparse
import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from features.datasets import open_dataset
from tests.benchmarks.contest import Contender, Outcome, compete
from tests.benchmarks.served import Served

_HERE = Path(__file__).parent


def add_options(parser: argparse.ArgumentParser) -> None:
    """How many images, how large, and in which precision ours computes."""
    add = parser.add_argument
    add("--weights", required=True, help="a state dict of resnet18, the same for everybody")
    add("--images", type=int, default=40, help="in one turn (default 40)")
    add("--pixels", nargs=2, type=int, default=[4000, 3000], metavar=("W", "H"))
    add("--image-size", type=int, default=224)
    add("--precision", default="float32")
    add("--clock", default="wall", choices=("wall", "cpu"), help="cpu: seconds of all threads, on a busy machine")
    add("--threads", type=int, default=os.cpu_count())


def measure(options: argparse.Namespace) -> Iterator[Outcome]:
    """One contest."""
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder, contextlib.ExitStack() as stack:
        size = _photographs(Path(folder), options.images, tuple(options.pixels))
        dataset = f"folder:{folder}"
        files = [str(path) for path in open_dataset(dataset).load("train").images.paths]
        told = {
            "weights": str(Path(options.weights).absolute()),
            "dataset": dataset,
            "files": files,
            "count": len(files),
            "size": options.image_size,
            "layers": ["avgpool"],
            "threads": options.threads,
            "workers": options.threads,
            "compile": "auto",
        }
        contenders = []
        for decode in ("full", "draft"):
            served = stack.enter_context(
                Served(_HERE / "ours.py", {**told, "precision": options.precision, "decode": decode})
            )
            contenders.append(Contender(f"layerprobe, --decode {decode}", served.clocked(options.clock)))
        usual = stack.enter_context(Served(_HERE / "usual_loop.py", told))
        contenders.append(Contender(f"torchvision, {options.threads} workers", usual.clocked(options.clock)))
        width, height = options.pixels
        yield compete(
            f"{len(files)} JPEG files of {width:,} x {height:,} pixels, {size / 1e6:.1f} MB each, avgpool at "
            f"{options.image_size} pixels, {options.precision} ({options.clock})",
            contenders,
            amount=len(files),
            unit="images",
            rounds=options.rounds,
            ours=2,
        )


def _photographs(folder: Path, count: int, size: tuple[int, int]) -> float:
    """Files of two classes; their mean number of bytes."""
    draw = np.random.default_rng(0)
    grain = draw.normal(0, 4, (size[1], size[0], 3)).astype(np.float32)
    written = 0
    for number in range(count):
        colours = Image.fromarray(draw.integers(0, 256, (12, 16, 3), np.uint8)).resize(size, Image.Resampling.BICUBIC)
        pixels = np.asarray(colours, np.float32) + np.roll(grain, 997 * number)
        path = folder / str(number % 2) / f"{number}.jpg"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path, quality=92)
        written += path.stat().st_size
    return written / count
