"""What survives? Trained models on corrupted test images, and models trained on wrong labels and unequal classes.

Models are trained on clean images and see the corrupted ones only here. The error under a corruption is set beside that
of the network from scratch, as mean corruption error is beside a reference network's (Hendrycks and Dietterich 2019).
"""

import itertools
from collections.abc import Iterator, Sequence

import numpy as np

from classify.experiments.models import Model
from classify.experiments.settings import Settings
from classify.experiments.studies.asking import Asked, features_and_networks, images_at
from classify.experiments.studies.corruptions import CORRUPTIONS, SEVERITIES, corrupt
from classify.experiments.studies.outcome import StudyResult
from classify.experiments.training_sets import Change, Imbalance, LabelNoise
from classify.heads.network import DRAWN
from classify.measure.results import SavedResult
from classify.measure.wording import MISSING, percent
from classify.show import columns
from classify.show.panels import Line, Panel
from classify.show.table import Column, Table
from classify.use.saved import SavedModel
from features.datasets import ImageFiles, open_dataset
from features.errors import UserError

QUICK_ROWS, QUICK_TEST_ROWS, EPOCHS = 2_000, 500, (3, 10)
NOISE = (0.1, 0.2, 0.4)
IMBALANCE = (10, 100)
_FILES_AT_A_TIME = 32

# model -> corruption -> accuracy at each severity
Accuracies = dict[Model, dict[str, tuple[float, ...]]]


def robustness(asked: Asked, corruptions: Sequence[str] | None = None) -> StudyResult:
    """The study. corruptions: names from `CORRUPTIONS`, by default all. Raises UserError for an unknown one."""
    kinds = tuple(dict.fromkeys(corruptions or CORRUPTIONS))
    for kind in kinds:
        if kind not in CORRUPTIONS:
            raise UserError(f"there is no corruption called {kind!r}; choose from {', '.join(CORRUPTIONS)}")
    asked = asked.quickly(rows=QUICK_ROWS, test_rows=QUICK_TEST_ROWS, epochs=EPOCHS)
    models = features_and_networks(asked)
    clean = _train(asked, models, None)
    accuracies = _corrupted(asked, clean, kinds)

    changes: tuple[Change, ...] = (*map(LabelNoise, NOISE), *map(Imbalance, IMBALANCE))
    worse = {change: _train(asked, models, change) for change in changes}
    reference = next((model for model in models if model.name == "scratch"), None)
    notes = [
        "accuracy under a corruption: the mean over five severities, on the same test images",
        "heads are tuned and networks' epochs chosen on validation rows, which a worse training set makes worse too",
    ]
    if reference:
        notes.append("mCE: error under a corruption in percent of scratch's, the mean over corruptions")
    return asked.outcome(
        "robustness",
        {"corruptions": list(kinds), "models": list(map(str, models))},
        answer=_answer(clean, accuracies, worse, reference),
        tables=(_corruption_table(clean, accuracies, reference), _training_table(clean, worse)),
        panels=(*_corruption_panels(clean, accuracies, kinds), *_training_panels(clean, worse)),
        notes=notes,
        results=(*clean.values(), *itertools.chain.from_iterable(results.values() for results in worse.values())),
    )


def mean_corruption_error(
    accuracies: dict[str, tuple[float, ...]], reference: dict[str, tuple[float, ...]]
) -> float | None:
    """Hendrycks and Dietterich's mCE as a share: the errors of all severities together over the reference's, the mean
    over corruptions. None where the reference makes no error under one of them."""
    ratios = []
    for kind, values in reference.items():
        wrong = sum(1 - value for value in values)
        if not wrong:
            return None
        ratios.append(sum(1 - value for value in accuracies[kind]) / wrong)
    return float(np.mean(ratios))


def _train(asked: Asked, models: Sequence[Model], change: Change | None) -> dict[Model, SavedResult]:
    settings, training = Settings(seed=asked.request.seed, jobs=asked.how.jobs), asked.for_epochs(EPOCHS)
    return asked.make_models(models, asked.request, settings, training, change=change, keep=change is None)


def _corrupted(asked: Asked, clean: dict[Model, SavedResult], kinds: Sequence[str]) -> Accuracies:
    """Test every model on every corruption; each corrupted set is made once and shown to all."""
    device, weights = asked.request.device, asked.weights
    opened = {model: SavedModel.open(saved, device=device, weights=weights) for model, saved in clean.items()}
    dataset = open_dataset(asked.request.dataset)
    tested = next(iter(clean.values())).predictions()
    truth = np.array(dataset.classes)[tested.labels]
    images = images_at(dataset, "test", tested.rows)
    accuracies: Accuracies = {model: {} for model in clean}
    for kind in kinds:
        for severity in SEVERITIES:
            right = dict.fromkeys(opened, 0)
            for start, changed in _changed(images, kind, severity, asked.request.seed):
                for model, loaded in opened.items():
                    right[model] += int(np.sum(loaded.predict(changed) == truth[start : start + len(changed)]))
            for model in opened:
                accuracies[model][kind] = (*accuracies[model].get(kind, ()), right[model] / len(truth))
        means = (f"{model.label} {percent(float(np.mean(accuracies[model][kind])))} %" for model in opened)
        asked.how.say(f"{kind}: {', '.join(means)}")
    return accuracies


def _changed(
    images: np.ndarray | ImageFiles, kind: str, severity: int, seed: int
) -> Iterator[tuple[int, np.ndarray | list[np.ndarray]]]:
    """Corrupted images, with the row of the first: an array at once, files a few at a time."""
    if isinstance(images, np.ndarray):
        yield 0, corrupt(images, kind, severity, seed)
        return
    for start in range(0, len(images), _FILES_AT_A_TIME):
        part = images[start : start + _FILES_AT_A_TIME]
        yield start, [corrupt(image[None], kind, severity, seed + n)[0] for n, image in enumerate(part, start)]


def _corruption_table(clean: dict[Model, SavedResult], accuracies: Accuracies, reference: Model | None) -> Table:
    kinds = list(next(iter(accuracies.values())))
    shown = [columns.text("model"), columns.share("clean")]
    shown += [columns.share(kind) for kind in kinds]
    shown += [columns.share("mean", "mean corrupted")]
    shown += [Column("mce", "mCE", format=lambda value: MISSING if value is None else f"{100 * value:.0f}")]
    rows = []
    for model, saved in clean.items():
        means = [float(np.mean(accuracies[model][kind])) for kind in kinds]
        relative = mean_corruption_error(accuracies[model], accuracies[reference]) if reference else None
        rows.append((model.label, saved.result.metrics.accuracy, *means, float(np.mean(means)), relative))
    return Table("Accuracy on corrupted test images, %", tuple(shown), tuple(rows)).best("mean", note="least hurt")


def _training_table(clean: dict[Model, SavedResult], worse: dict[Change, dict[Model, SavedResult]]) -> Table:
    shown = [columns.text("model"), columns.share("clean")]
    shown += [columns.share(change.name) for change in worse]
    rows = []
    for model, saved in clean.items():
        changed = [results[model].result.metrics.accuracy for results in worse.values()]
        rows.append((model.label, saved.result.metrics.accuracy, *changed))
    return Table("Accuracy on clean test images after training on a worse set, %", tuple(shown), tuple(rows))


def _corruption_panels(
    clean: dict[Model, SavedResult], accuracies: Accuracies, kinds: Sequence[str]
) -> tuple[Panel, ...]:
    places = (0.0, *map(float, SEVERITIES))
    return tuple(
        Panel(
            kind,
            "severity",
            "accuracy, %",
            tuple(
                Line(
                    model.label,
                    places,
                    tuple(100 * value for value in (saved.result.metrics.accuracy, *accuracies[model][kind])),
                    dashed=model.name in DRAWN,
                )
                for model, saved in clean.items()
            ),
        )
        for kind in kinds
    )


def _training_panels(
    clean: dict[Model, SavedResult], worse: dict[Change, dict[Model, SavedResult]]
) -> tuple[Panel, ...]:
    panels = []
    for kind, title, x, value, start in (
        (LabelNoise, "wrong labels", "wrong labels in training, %", lambda change: 100 * change.share, 0.0),
        (Imbalance, "unequal classes", "largest class over smallest", lambda change: change.factor, 1.0),
    ):
        changes = [change for change in worse if isinstance(change, kind)]
        lines = []
        for model, saved in clean.items():
            results = [saved, *(worse[change][model] for change in changes)]
            heights = tuple(100 * result.result.metrics.accuracy for result in results)
            places = (start, *(float(value(change)) for change in changes))
            lines.append(Line(model.label, places, heights, dashed=model.name in DRAWN))
        ticks = tuple((place, f"{place:g}") for place in (start, *(float(value(change)) for change in changes)))
        panels.append(Panel(title, x, "accuracy, %", tuple(lines), log=kind is Imbalance, ticks=ticks))
    return tuple(panels)


def _answer(
    clean: dict[Model, SavedResult],
    accuracies: Accuracies,
    worse: dict[Change, dict[Model, SavedResult]],
    reference: Model | None,
) -> tuple[str, ...]:
    means = {model: float(np.mean(list(kinds.values()))) for model, kinds in accuracies.items()}
    best = max(means, key=lambda model: means[model])
    sentences = [
        f"Least hurt by corruptions is {best.label}: {percent(means[best])} % of corrupted images right on average, of "
        f"clean ones {percent(clean[best].result.metrics.accuracy)} %."
    ]
    if reference:
        others = [model for model in means if model is not reference]
        better = [model.label for model in others if means[model] > means[reference]]
        sentences.append(
            f"From scratch it is {percent(means[reference])} %; better than that: {', '.join(better) or 'none'}."
        )
    for change in (LabelNoise(NOISE[-1]), Imbalance(IMBALANCE[-1])):
        made = worse[change]
        top = max(made, key=lambda model: made[model].result.metrics.accuracy)
        sentence = f"With {change.name.replace('label noise', 'a share of wrong labels of')}"
        sentences.append(
            f"{sentence} in training {top.label} does best: {percent(made[top].result.metrics.accuracy)} %."
        )
    return tuple(sentences)
