"""What happens elsewhere? Heads and networks on another data set with the same classes, and on foreign images.

Trained on one data set, a model is tested on others whose classes have the same names. Images of no class of its own
should be told apart, by its outputs or its features. And its probabilities should mean what they say, before and after
temperature scaling, whose temperature is fitted on validation rows.
"""

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from classify.experiments.models import Model
from classify.experiments.settings import Settings
from classify.experiments.studies.asking import Asked, features_and_networks, images_at
from classify.experiments.studies.outcome import StudyResult
from classify.measure.calibration import (
    expected_calibration_error,
    fit_temperature,
    probabilities_at,
    reliability,
)
from classify.measure.foreign import Mahalanobis, NearestNeighbours, energy_score, separation, softmax_score
from classify.measure.intervals import wilson_interval
from classify.measure.results import SavedResult
from classify.measure.wording import count, percent
from classify.show import columns
from classify.show.panels import Line, Panel
from classify.show.table import Cell, Table, table_of
from classify.use.saved import SavedModel
from features.datasets import Dataset, open_dataset
from features.errors import UserError
from features.rows import limit_rows

QUICK_ROWS, QUICK_TEST_ROWS, EPOCHS = 2_000, 1_000, (3, 10)
SAME_CLASSES = ("mnist", "usps", "svhn", "digits")
FOREIGN = ("fashion-mnist", "kmnist", "imagenet", "noise")
NOISE = "noise"


@dataclass(frozen=True, eq=False)
class _Seen:
    """What a model makes of images. scores: higher is more foreign, by the score's name."""

    predicted: np.ndarray
    outputs: np.ndarray
    scores: dict[str, np.ndarray]


# A trained model, and what scores its features by what is known of those it was trained on: of heads alone.
_Opened = tuple[SavedModel, dict[str, Mahalanobis | NearestNeighbours]]


def _look(opened: _Opened, images: Any) -> _Seen:
    """All there is to know of these images."""
    (model, by_features), parts, features = opened, [], []
    for start in range(0, len(images), model.batch):
        ready = model.prepare(images[start : start + model.batch])
        parts.append(model.answers(ready))
        if model.reader is not None and by_features:
            features.append(model.reader.features(ready))
    outputs = np.concatenate([part.scores for part in parts])
    probabilities = [part.probabilities for part in parts if part.probabilities is not None]
    scores = {"softmax": softmax_score(np.concatenate(probabilities))} if probabilities else {}
    scores["energy"] = energy_score(outputs)
    if features:
        rows = np.concatenate(features)
        scores |= {name: fitted.score(rows) for name, fitted in by_features.items()}
    return _Seen(np.concatenate([part.predicted for part in parts]), outputs, scores)


def out_of_domain(
    asked: Asked, others: Sequence[str] | None = None, foreign: Sequence[str] | None = None
) -> StudyResult:
    """The study. others: data sets with the same classes; foreign: data sets with none of them, and 'noise'.

    By default those of `SAME_CLASSES` and `FOREIGN` that are to be had; what is left out is noted. Raises UserError for
    one that was asked for and is not to be had, or has other classes.
    """
    asked = asked.quickly(rows=QUICK_ROWS, test_rows=QUICK_TEST_ROWS, epochs=EPOCHS)
    notes: list[str] = []
    home = open_dataset(asked.request.dataset)
    kin = [name for name in (SAME_CLASSES if others is None else others) if name != asked.request.dataset]
    elsewhere = _to_be_had(kin, lambda name: _kin(asked, home, name), notes, required=others is not None)
    wanted = FOREIGN if foreign is None else foreign
    strangers = _to_be_had(wanted, lambda name: _stranger(asked, home, name), notes, required=foreign is not None)
    models = features_and_networks(asked)
    settings = Settings(seed=asked.request.seed, refit=False, jobs=asked.how.jobs)
    saved = asked.make_models(models, asked.request, settings, asked.for_epochs(EPOCHS), keep=True)
    opened = {model: _open(asked, model, trained) for model, trained in saved.items()}

    rows = next(iter(saved.values())).predictions()
    assert rows.validation_rows is not None  # every model of a study chooses on validation
    own_images = images_at(home, "test", rows.rows)
    names = np.array(home.classes)
    seen = {model: _look(trained, own_images) for model, trained in opened.items()}
    abroad: dict[Model, dict[str, tuple[int, int]]] = {model: {} for model in models}
    for (name, images, labels), (model, trained) in itertools.product(elsewhere, opened.items()):
        guesses = np.array(trained[0].classes)[_look(trained, images).predicted]
        abroad[model][name] = (int(np.sum(guesses == labels)), len(labels))
        asked.how.say(f"{model.label} on {name}: {percent(abroad[model][name][0] / len(labels))} %")
    apart: dict[Model, dict[tuple[str, str], Any]] = {model: {} for model in models}
    for (name, images), (model, trained) in itertools.product(strangers, opened.items()):
        for score, values in _look(trained, images).scores.items():
            apart[model][name, score] = separation(seen[model].scores[score], values)
        asked.how.say(f"{model.label} against {name}: detected")
    held_out = "validation" if "validation" in home.splits else "train"
    validation = images_at(home, held_out, rows.validation_rows)
    held = names[home.load(held_out).labels[rows.validation_rows]]
    truth = names[rows.labels]
    sure = {model: _calibrated(opened[model], validation, held, seen[model], truth) for model in models}

    notes += [
        "foreign images are scored without any of them having been seen; threshold: 95 % of own test images pass",
        "Mahalanobis and kNN: on the features that a head reads; a network trained from its input on has outputs alone",
        "ECE: expected calibration error on test images; temperature: fitted on validation rows",
    ]
    tables = [table for table in (_abroad_table(saved, abroad), _apart_table(apart), _sure_table(sure)) if table.rows]
    return asked.outcome(
        "out-of-domain",
        {
            "others": [name for name, *_ in elsewhere],
            "foreign": [name for name, *_ in strangers],
            "models": list(map(str, models)),
        },
        answer=_answer(saved, abroad, apart, sure),
        tables=tuple(tables),
        panels=tuple(_sure_panel(model, looked) for model, looked in sure.items()),
        notes=notes,
        results=tuple(saved.values()),
    )


def _open(asked: Asked, model: Model, saved: SavedResult) -> _Opened:
    loaded = SavedModel.open(saved, device=asked.request.device, weights=asked.weights)
    if not model.is_head:
        return loaded, {}
    rows, labels = asked.features_of(model, "train")
    return loaded, {"Mahalanobis": Mahalanobis.fit(rows, labels), "kNN": NearestNeighbours.fit(rows)}


def _to_be_had(
    names: Iterable[str], images_of: Callable[[str], tuple], notes: list[str], *, required: bool
) -> list[tuple]:
    """(name, images, ...) of each data set; of one that is not to be had a note, unless it is required."""
    there = []
    for name in names:
        try:
            there.append((name, *images_of(name)))
        except UserError as error:
            if required:
                raise
            notes.append(f"without {name}: {error}")
    return there


def _kin(asked: Asked, home: Dataset, name: str) -> tuple[Any, np.ndarray]:
    """Images of a data set with the same classes, and the names of these."""
    dataset = open_dataset(name)
    if set(dataset.classes) != set(home.classes):
        raise UserError(f"{name} has other classes than {asked.request.dataset}; name it with --foreign instead")
    return _some(asked, dataset)


def _stranger(asked: Asked, home: Dataset, name: str) -> tuple[Any]:
    """Images of a data set with none of the classes, or noise."""
    if name == NOISE:
        return (_noise(asked, home),)
    dataset = open_dataset(name)
    if set(dataset.classes) & set(home.classes):
        raise UserError(f"{name} shares classes with {asked.request.dataset} and is not foreign to it")
    return (_some(asked, dataset)[0],)


def _some(asked: Asked, dataset: Dataset) -> tuple[Any, np.ndarray]:
    """Test images of another data set, as many as were asked for at most, and the names of their classes."""
    split = "test" if "test" in dataset.splits else dataset.splits[0]
    labels = dataset.load(split).labels
    rows = limit_rows(labels, asked.request.limit_test, asked.request.seed)
    return images_at(dataset, split, rows), np.array(dataset.classes)[labels[rows]]


def _noise(asked: Asked, home: Dataset) -> np.ndarray:
    """Evenly distributed pixels, in the shape of the data set's own images."""
    first = next(iter(images_at(home, "test", np.arange(1))))
    wanted = asked.request.limit_test or 1_000
    draw = np.random.default_rng([asked.request.seed, 4])
    return draw.integers(0, 256, (wanted, *first.shape), dtype=np.uint8)


def _calibrated(opened: _Opened, validation: Any, held: np.ndarray, seen: _Seen, truth: np.ndarray) -> dict[str, Any]:
    """ECE and reliability before and after temperature scaling."""
    classes = np.array(opened[0].classes)
    order = np.argsort(classes)
    codes, true = (order[np.searchsorted(classes, labels, sorter=order)] for labels in (held, truth))
    temperature = fit_temperature(_look(opened, validation).outputs, codes)
    before, after = (probabilities_at(seen.outputs, heat) for heat in (1.0, temperature))
    return {
        "temperature": temperature,
        "before": expected_calibration_error(true, before),
        "after": expected_calibration_error(true, after),
        "diagrams": (reliability(true, before), reliability(true, after)),
    }


def _abroad_table(saved: dict[Model, SavedResult], abroad: dict[Model, dict]) -> Table:
    others = list(dict.fromkeys(name for estimates in abroad.values() for name in estimates))
    shown = [columns.text("model"), columns.accuracy("own", "own test set"), *map(columns.accuracy, others, others)]
    rows = []
    for model, result in saved.items():
        estimates = [(right / n, *wilson_interval(right, n)) for right, n in abroad[model].values()]
        rows.append((model.label, columns.estimate(result.result.metrics), *estimates))
    title, notes = "Accuracy on data sets with the same classes, %", (columns.INTERVAL,)
    return Table(title, tuple(shown), tuple(rows if others else ()), notes)


def _apart_table(apart: dict[Model, dict]) -> Table:
    shown = (
        columns.text("model"),
        columns.text("foreign"),
        columns.text("score"),
        columns.share("auroc", "AUROC %"),
        columns.share("false_positives", "taken for own at 95 %"),
    )
    rows = tuple(
        (model.label, name, score, told_apart.auroc, told_apart.false_positives)
        for model, separations in apart.items()
        for (name, score), told_apart in separations.items()
    )
    return Table("Foreign images detected", shown, rows)


def _sure_table(sure: dict[Model, dict[str, Any]]) -> Table:
    cells: tuple[Cell, ...] = (
        (columns.text("model"), lambda model: model.label),
        (columns.share("before", "ECE %"), lambda model: sure[model]["before"]),
        (columns.plain("temperature"), lambda model: sure[model]["temperature"]),
        (columns.share("after", "ECE after scaling %"), lambda model: sure[model]["after"]),
    )
    return table_of("Calibration", sure, cells)


def _sure_panel(model: Model, calibration: dict[str, Any]) -> Panel:
    """The reliability diagram; only bins that hold images."""
    lines = [Line("exact", (0.0, 100.0), (0.0, 100.0), dashed=True)]
    for label, diagram in zip(("as it is", "after temperature scaling"), calibration["diagrams"], strict=True):
        held = diagram.counts > 0
        lines.append(Line(label, tuple(100 * diagram.confidence[held]), tuple(100 * diagram.accuracy[held])))
    return Panel(model.label, "confidence, %", "accuracy, %", tuple(lines))


def _answer(
    saved: dict[Model, SavedResult], abroad: dict[Model, dict], apart: dict[Model, dict], sure: dict[Model, dict]
) -> tuple[str, ...]:
    sentences = []
    for name in dict.fromkeys(name for counts in abroad.values() for name in counts):
        shares = {model: counts[name][0] / counts[name][1] for model, counts in abroad.items()}
        best = max(shares, key=lambda model: shares[model])
        own = saved[best].result.metrics.accuracy
        others = (f"{model.label} {percent(share)} %" for model, share in shares.items() if model is not best)
        sentences.append(
            f"On {name} {best.label} holds up best: {percent(shares[best])} %, where its own test set gives "
            f"{percent(own)} %; the others {', '.join(others)}."
        )
    for name in dict.fromkeys(name for counts in apart.values() for name, _ in counts):
        values = {
            (model, score): measured
            for model, counts in apart.items()
            for (foreign, score), measured in counts.items()
            if foreign == name
        }
        model, score = max(values, key=lambda key: values[key].auroc)
        sentences.append(
            f"{name} is detected best by {score} of {model.label}: AUROC {percent(values[model, score].auroc)} %, "
            f"{percent(values[model, score].false_positives)} % taken for own images."
        )
    gained = [model for model, measured in sure.items() if measured["after"] < measured["before"]]
    sentences.append(
        f"Temperature scaling brings the calibration error down for {count(len(gained))} of {count(len(sure))} models."
    )
    return tuple(sentences)
