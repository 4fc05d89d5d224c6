"""How much data does it take? Accuracy against training images per class, for heads, fine-tuning and from scratch.

Nothing is chosen here, so that one image a class is possible: heads take their untuned defaults, networks a fixed
number of steps, and every row trains. Within a seed, smaller training sets nest in larger ones.
"""

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np

from classify.experiments.models import Model
from classify.experiments.settings import Settings
from classify.experiments.studies.asking import Asked, features_and_networks
from classify.experiments.studies.outcome import StudyResult
from classify.heads.network import DRAWN
from classify.heads.network.settings import TrainingSettings
from classify.measure.intervals import mean_interval
from classify.measure.results import SavedResult
from classify.measure.wording import count, percent
from classify.show import columns
from classify.show.panels import Line, Panel
from classify.show.table import Table
from features.datasets import open_dataset
from features.errors import UserError
from features.rows import limit_rows

QUICK_SIZES = (1, 2, 5, 10, 20, 50, 100)
QUICK_STEPS, STEPS = 60, 300
BATCH = 64
# With many images a fixed number of steps would not even see all of them.
EPOCHS = 3


def data_size(asked: Asked, per_class: Sequence[int] | None = None) -> StudyResult:
    """The study. per_class: images per class (on average, where classes differ in size), by default 1, 2, 5, ... all.

    Raises UserError for a size that the data set does not have, before anything is computed.
    """
    asked = asked.quickly()
    labels = open_dataset(asked.request.dataset).load("train").labels
    labels = labels[limit_rows(labels, asked.request.limit, asked.request.seed)]
    classes, most = len(np.unique(labels)), len(labels)
    sizes = _sizes(asked, per_class, classes, most)
    models = features_and_networks(asked)
    cuts = asked.cuts
    if cuts and per_class is None:
        cuts += (f"at most {QUICK_SIZES[-1]} images per class",)
    if cuts and not asked.has_length:
        cuts += (f"networks trained for {QUICK_STEPS} steps instead of {STEPS}",)
    asked = dataclasses.replace(asked, cuts=cuts)

    made: dict[tuple[Model, int], list[SavedResult]] = {}
    for seed, size in itertools.product(asked.seeds, sizes):
        images = min(size * classes, most)
        request = dataclasses.replace(asked.request, seed=seed, limit=images)
        settings = Settings(seed=seed, search=False, refit=False, jobs=asked.how.jobs, validation=False)
        for model, saved in asked.make_models(models, request, settings, _training(asked, images)).items():
            made.setdefault((model, size), []).append(saved)

    accuracies = {key: tuple(saved.result.metrics.accuracy for saved in saved_rows) for key, saved_rows in made.items()}
    notes = [
        "nothing is chosen: heads take their untuned defaults, networks a fixed number of steps, every row trains",
        f"± half of Student's 95 % interval of the mean over {len(asked.seeds)} seeds{columns.ENDS}"
        if len(asked.seeds) > 1
        else "one seed: nothing is said about the spread",
    ]
    return asked.outcome(
        "data-size",
        {"per_class": list(sizes), "models": list(map(str, models))},
        answer=_answer(accuracies, models, sizes),
        tables=(_table(accuracies, models, sizes),),
        panels=(_panel(accuracies, models, sizes),),
        notes=notes,
        results=tuple(itertools.chain.from_iterable(made.values())),
    )


def crossings(sizes: Sequence[int], first: Sequence[float], second: Sequence[float]) -> tuple[int, ...]:
    """The sizes from which on the other of two curves is ahead, one for each change of the lead; ties change nothing.

    first, second: mean accuracies at `sizes`.
    """
    places, ahead = [], 0
    for size, difference in zip(sizes, np.subtract(first, second), strict=True):
        sign = int(np.sign(difference))
        if sign and ahead and sign != ahead:
            places.append(size)
        ahead = sign or ahead
    return tuple(places)


def _sizes(asked: Asked, per_class: Sequence[int] | None, classes: int, most: int) -> tuple[int, ...]:
    full = -(-most // classes)
    if per_class is not None:
        for size in per_class:
            if not 1 <= size <= full:
                raise UserError(
                    f"--per-class {size}: {asked.request.dataset} has {full:,} training images per class at most; give "
                    f"numbers from 1 to {full:,}"
                )
        return tuple(sorted(set(per_class)))
    if asked.quick:
        return tuple(size for size in QUICK_SIZES if size <= full)
    steps = (digit * 10**power for power in range(9) for digit in (1, 2, 5))
    return (*itertools.takewhile(lambda size: size < full, steps), full)


def _training(asked: Asked, images: int) -> TrainingSettings:
    batch = int(asked.training.get("batch_size", BATCH))
    fewest = QUICK_STEPS if asked.quick else STEPS
    return asked.settings(steps=max(fewest, EPOCHS * -(-images // batch)), batch_size=BATCH)


def _table(accuracies: dict, models: Sequence[Model], sizes: Sequence[int]) -> Table:
    shown = [columns.text("model"), *(columns.accuracy(f"n{size}", f"{size:,}") for size in sizes)]
    rows = [(model.label, *(mean_interval(accuracies[model, size]) for size in sizes)) for model in models]
    table = Table("Test accuracy in percent, by training images per class", tuple(shown), tuple(rows))
    for size in sizes:
        table = table.best(f"n{size}")
    return dataclasses.replace(table, notes=(*table.notes, "* highest mean"))


def _panel(accuracies: dict, models: Sequence[Model], sizes: Sequence[int]) -> Panel:
    lines = []
    for model in models:
        means, lows, highs = zip(*(mean_interval(accuracies[model, size]) for size in sizes), strict=True)
        low, high = (tuple(min(100.0, max(0.0, 100 * end)) for end in ends) for ends in (lows, highs))
        scratch = model.name in DRAWN
        lines.append(
            Line(model.label, tuple(map(float, sizes)), tuple(100 * m for m in means), low, high, dashed=scratch)
        )
    ticks = tuple((float(size), f"{size:,}") for size in sizes)
    return Panel("", "training images per class", "accuracy on the test set, %", tuple(lines), log=True, ticks=ticks)


def _answer(accuracies: dict, models: Sequence[Model], sizes: Sequence[int]) -> tuple[str, ...]:
    means = {model: [float(np.mean(accuracies[model, size])) for size in sizes] for model in models}
    sentences = []
    for place in sorted({0, len(sizes) - 1}):
        best = max(models, key=lambda model: means[model][place])
        sentences.append(
            f"With {count(sizes[place])} image{'s' * (sizes[place] > 1)} per class {best.label} is ahead "
            f"({percent(means[best][place])} %)."
        )
    for first, second in itertools.combinations(models, 2):
        changes = crossings(sizes, means[first], means[second])
        if len(changes) == 1:
            size = changes[0]
            place = sizes.index(size)
            ahead, behind = (first, second) if means[first][place] > means[second][place] else (second, first)
            sentences.append(
                f"{ahead.label} overtakes {behind.label} at {count(size)} images per class"
                f"{_surely(accuracies, ahead, behind, sizes[place:])}."
            )
        elif changes:
            sentences.append(f"{first.label} and {second.label} change the lead {len(changes)} times.")
        else:
            ahead, behind = (first, second) if sum(means[first]) > sum(means[second]) else (second, first)
            sentences.append(
                f"{ahead.label} leads {behind.label} at every size{_surely(accuracies, ahead, behind, sizes)}."
            )
    return tuple(sentences)


def _surely(accuracies: dict, ahead: Model, behind: Model, sizes: Sequence[int]) -> str:
    """At how many of the sizes the difference, taken seed by seed, is certain."""
    if len(accuracies[ahead, sizes[0]]) < 2:
        return ""
    differences = (np.subtract(accuracies[ahead, size], accuracies[behind, size]) for size in sizes)
    certain = sum(mean_interval(difference)[1] > 0 for difference in differences)
    return f" (significant over seeds at {certain} of {len(sizes)})"
