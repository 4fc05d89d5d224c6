"""Can probabilities be believed? `python -m tests.benchmarks.believing --weights W DATASET...`, by hand.

Every head at `--layer`, on each data set (mnist: 2,000 images, 64 pixels; others whole, 224): log loss and calibration
error on the test images before and after calibration, and what accuracy is where the least sure tenth is rejected. Then
how many ordinary test images are said to be unlike the training images, and how many of the first 40, inverted.
"""

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from classify import load_model
from classify.experiments.kinds.classical import Classical
from classify.experiments.making import make
from classify.experiments.row import Row
from classify.experiments.settings import How
from classify.experiments.sources import CachedLayer
from classify.heads import HEADS
from classify.measure.results import SavedResult
from classify.show.table import Column, Table
from extract.commands.ensure import ensure_features
from extract.planning import plan
from features.datasets import ImageFiles, open_dataset
from features.request import Request
from tests.benchmarks.contest import machine

INVERTED = 40
SHARE = 0.1


def main() -> None:
    """Measure and print a table for each data set."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.believing", description=__doc__)
    parser.add_argument("datasets", nargs="+", metavar="DATASET")
    parser.add_argument("--weights", required=True)
    parser.add_argument("--layer", default="avgpool")
    options = parser.parse_args()
    print(machine())
    for dataset in options.datasets:
        few = {"limit": 2000, "limit_test": 2000, "image_size": 64} if dataset == "mnist" else {}
        request = Request(dataset=dataset, weights=options.weights, layers=(options.layer,), pools=("avg",), **few)
        print(f"\n{measured(request.normalised())}", flush=True)


def measured(request: Request) -> Table:
    """A line for each head."""
    planned = plan(request)
    ensure_features(planned.request, quiet=True)
    source = CachedLayer(planned, request.layers[0], "avg")
    with TemporaryDirectory() as folder:
        saved = [
            make(Row(source=source, head=Classical(head=head)), How(folder=Path(folder))) for head in HEADS.values()
        ]
        rows = tuple(_line(result) for result in saved)
        told = told_inverted(saved[0])
    names = ("head", "accuracy %", "log loss before", "after", "ECE % before", "ECE % after", "rejecting a tenth %")
    columns = tuple(Column(name, align="left" if name == "head" else "right") for name in names)
    notes = (
        f"unlike the training images: {100 * saved[0].result.extra.unlike:.1f} % of the test images, and {told} of "
        f"{INVERTED} of them inverted",
    )
    return Table(
        f"{request.dataset}, {request.layers[0]}, {saved[0].result.metrics.n} test images", columns, rows, notes
    )


def _line(saved: SavedResult) -> tuple[str, ...]:
    result, kept = saved.result, saved.predictions()
    known, right = result.extra.calibration, kept.predicted == kept.labels
    surest = np.argsort(-kept.probabilities.max(axis=1), kind="stable")[: round((1 - SHARE) * len(right))]
    losses = (f"{known[name]:.3f}" for name in ("log_loss_before", "log_loss_after"))
    errors = (f"{100 * known[name]:.1f}" for name in ("ece_before", "ece_after"))
    return (result.config.head, f"{100 * right.mean():.1f}", *losses, *errors, f"{100 * right[surest].mean():.1f}")


def told_inverted(saved: SavedResult) -> int:
    """How many of the first test images, inverted, the saved model says to be unlike its training images."""
    data = open_dataset(saved.result.extra.places["dataset"]).load("test")
    rows = saved.predictions().rows[:INVERTED].tolist()
    read = data.images.read if isinstance(data.images, ImageFiles) else data.images.__getitem__
    return int(load_model(saved, device="cpu").unlike([255 - read(row) for row in rows]).sum())


if __name__ == "__main__":
    main()
