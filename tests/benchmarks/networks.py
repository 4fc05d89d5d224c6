"""Fine-tuning every layer against the usual loop: the same images, weights, batch size and optimiser, one epoch."""

import argparse
import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.benchmarks.contest import Contender, Outcome, compete
from tests.benchmarks.served import Served

_HERE = Path(__file__).parent


def add_options(parser: argparse.ArgumentParser) -> None:
    """What to train on."""
    add = parser.add_argument
    add("--weights", required=True, help="a state dict of resnet18, the same for both")
    add("--dataset", default="mnist")
    add("--images", type=int, default=1024, help="of one epoch, which is a turn (default 1024)")
    add("--image-size", type=int, default=64)
    add("--batch-size", type=int, default=128)
    add("--precision", nargs="+", default=["bfloat16", "float32"], help="of ours")
    add("--clock", default="wall", choices=("wall", "cpu"), help="cpu: seconds of all threads, on a busy machine")
    add("--threads", type=int, default=os.cpu_count())


def measure(options: argparse.Namespace) -> Iterator[Outcome]:
    """One contest."""
    import numpy as np

    from features.datasets import open_dataset
    from features.request import Request, selected_rows

    dataset = open_dataset(options.dataset)
    data = dataset.load("train")
    rows = selected_rows(data.labels, Request(dataset=options.dataset, limit=options.images), "train")
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder, contextlib.ExitStack() as stack:
        np.save(f"{folder}/images.npy", data.images[rows])
        np.save(f"{folder}/labels.npy", data.labels[rows])
        told = {
            "images": f"{folder}/images.npy",
            "labels": f"{folder}/labels.npy",
            "weights": str(Path(options.weights).absolute()),
            "classes": len(dataset.classes),
            "size": options.image_size,
            "batch": options.batch_size,
            "threads": options.threads,
            "workers": options.threads,
        }
        contenders = []
        for precision in options.precision:
            served = stack.enter_context(Served(_HERE / "our_training.py", {**told, "precision": precision}))
            contenders.append(Contender(f"layerprobe, {precision}", served.clocked(options.clock)))
        usual = stack.enter_context(Served(_HERE / "usual_training.py", told))
        contenders.append(Contender("usual loop, float32", usual.clocked(options.clock)))
        yield compete(
            f"an epoch of {len(rows)} images of {options.image_size} pixels, all layers trained ({options.clock})",
            contenders,
            amount=len(rows),
            unit="images",
            rounds=options.rounds,
            ours=len(options.precision),
        )
