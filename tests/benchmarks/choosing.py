"""What choosing on folds is worth where images are few: `python -m tests.benchmarks.choosing DATASET --weights W`.

For each seed the same probe is chosen on a hold-out and on what `auto` takes, or as --validate says: the test accuracy
of the chosen row, how far it is behind the row that is best on the test set, behind the one row that is best over the
tests of all seeds together, and how much less it is than where it was chosen. The row that is best on a small test is
picked by its luck, over all seeds by less of it. A DATASET with {seed} in its name is another one, or another split of
it, for each seed.
"""

import argparse
import statistics
import tempfile

from classify import probe
from classify.show.columns import text
from classify.show.table import Column, Table


def main() -> None:
    """Print a line for each way of choosing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dataset")
    parser.add_argument("--weights", default="default")
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--model", nargs="+", default=["svm", "logistic"])
    parser.add_argument("--layer", nargs="+", default=["all"])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--validate", nargs="+", default=["holdout", "auto"])
    options = parser.parse_args()
    lines = []
    for validate in options.validate:
        reached, behind, optimism, chosen = [], [], [], []
        of_rows: dict[tuple[str, str], list[float]] = {}
        for seed in range(options.seeds):
            with tempfile.TemporaryDirectory() as results:
                found = probe(
                    options.dataset.format(seed=seed),
                    layers=options.layer,
                    heads=options.model,
                    weights=options.weights,
                    image_size=options.image_size,
                    limit=options.limit,
                    seed=seed,
                    validate=validate,
                    test="split",
                    controls=False,
                    widths=False,
                    scores=False,
                    results=results,
                )
            reached.append(100 * found.best.accuracy)
            behind.append(100 * max(row.accuracy for row in found.rows) - reached[-1])
            for row in found.rows:
                of_rows.setdefault((row.layer, row.head), []).append(100 * row.accuracy)
            optimism.append(100 * found.best.validation - reached[-1])
            chosen.append(f"{found.best.layer} {found.best.head}")
            print(f"seed {seed}, {validate}: {chosen[-1]}, {reached[-1]:.2f} % on test", flush=True)
        best_of_all = max(map(statistics.fmean, of_rows.values()))
        means = (
            statistics.fmean(reached),
            statistics.fmean(behind),
            best_of_all - statistics.fmean(reached),
            statistics.fmean(optimism),
        )
        spread = statistics.stdev(reached) if len(reached) > 1 else 0.0
        lines.append((validate, *means, spread, min(reached), len(set(chosen))))
    names = ("test %", "behind the best", "behind the best of all seeds", "above test", "deviation", "worst %")
    names = (*names, "different rows")
    columns = (text("chosen on"), *(Column(name, format=lambda value: f"{value:.2f}") for name in names))
    print(Table(f"{options.dataset}, {options.seeds} seeds", columns, tuple(lines), ()).to_text())


if __name__ == "__main__":
    main()
