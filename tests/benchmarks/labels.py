"""How many wrong labels `check` finds: `python -m tests.benchmarks.labels --dataset folder:PATH --weights W`.

A share of the labels is changed at random; out-of-fold predictions then order the images from the most suspicious on.
Printed for each seed: of the first 20 the share that is wrong, of as many as were changed the share that is, and what
`check` would name.
"""

import argparse
import time

import numpy as np

from classify.experiments.check import HEAD
from classify.experiments.sources import CachedLayer
from classify.experiments.training_sets import LabelNoise
from classify.heads import HEADS
from classify.measure.suspicion import contradicted, out_of_fold, suspicion_order
from extract.planning import plan
from features.request import Request

FIRST = 20


def main() -> int:
    """Measure for some seeds, and print a line each and the means."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.labels", description=__doc__)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--weights", default="default")
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--share", type=float, default=0.1)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    options = parser.parse_args()
    planned = plan(Request(dataset=options.dataset, weights=options.weights, image_size=options.image_size))
    source = CachedLayer(planned, *planned.distinct()[0])
    source.ensure()
    read = [source.read(split) for split in planned.splits]
    features = np.concatenate([rows.features for rows in read])
    labels = np.concatenate([rows.labels for rows in read])
    results = []
    for seed in options.seeds:
        noisy = LabelNoise(options.share).apply(labels, seed)[1]
        wrong = noisy != labels
        started = time.perf_counter()
        probabilities = out_of_fold(features, noisy, np.arange(len(labels)), lambda: HEADS[HEAD].build(seed=0), seed)
        seconds = time.perf_counter() - started
        order = suspicion_order(probabilities, noisy)
        precision, recall = wrong[order[:FIRST]].mean(), wrong[order[: wrong.sum()]].mean()
        named = np.array([found.row for found in contradicted(probabilities, noisy)], dtype=np.int64)
        results.append((precision, recall))
        print(
            f"seed {seed}: {wrong.sum()} of {len(labels)} labels wrong; of the first {FIRST} {precision:.0%} are, of "
            f"the first {wrong.sum()} {recall:.0%}; named {len(named)}, of which {wrong[named].sum()}; {seconds:.1f} s",
            flush=True,
        )
    precision, recall = np.mean(results, axis=0)
    print(f"mean: precision at {FIRST} {precision:.1%}, recall at as many as were changed {recall:.1%}")
    return 0


if __name__ == "__main__":
    main()
