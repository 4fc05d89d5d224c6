"""What happens elsewhere? Heads and networks on another data set with the same classes, and on foreign images.

Trained on one data set, a model is tested on others whose classes have the same names. Images of no class of its own
should be told apart, by its outputs or its features. And its probabilities should mean what they say, before and after
temperature scaling, whose temperature is fitted on validation rows.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from classify.experiments.models import Model
from classify.experiments.settings import Settings
from classify.experiments.studies.asking import Asked, features_and_networks
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
from classify.show.table import Table
from classify.use.saved import SavedModel
from features.datasets import ImageFiles, open_dataset
from features.errors import UserError
from features.rows import limit_rows

QUICK_ROWS, QUICK_TEST_ROWS, QUICK_EPOCHS, EPOCHS = 2_000, 1_000, 3, 10
SAME_CLASSES = ("mnist", "usps", "svhn", "digits")
FOREIGN = ("fashion-mnist", "kmnist", "imagenet", "noise")
NOISE = "noise"


@dataclass(frozen=True, eq=False)
class _Seen:
    """What a model makes of images. scores: higher is more foreign, by the score's name."""

    predicted: np.ndarray
    outputs: np.ndarray
    scores: dict[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class _Opened:
    """A trained model, and what is known of its training features where it has any."""

    model: SavedModel
    mahalanobis: Mahalanobis | None
    neighbours: NearestNeighbours | None

    def look(self, images: Any) -> _Seen:
        """All there is to know of these images."""
        answers, features = [], []
        for start in range(0, len(images), self.model.batch):
            ready = self.model.prepare(images[start : start + self.model.batch])
            answers.append(self.model.answers(ready))
            if self.model.reader is not None and self.mahalanobis is not None:
                features.append(self.model.reader.features(ready))
        outputs = np.concatenate([answer.scores for answer in answers])
        predicted = np.concatenate([answer.predicted for answer in answers])
        scores = {"energy": energy_score(outputs)}
        probabilities = [answer.probabilities for answer in answers if answer.probabilities is not None]
        if probabilities:
            scores = {"softmax": softmax_score(np.concatenate(probabilities)), **scores}
        if features and self.mahalanobis is not None and self.neighbours is not None:
            rows = np.concatenate(features)
            scores |= {"Mahalanobis": self.mahalanobis.score(rows), "kNN": self.neighbours.score(rows)}
        return _Seen(predicted, outputs, scores)


def out_of_domain(
    asked: Asked, others: Sequence[str] | None = None, foreign: Sequence[str] | None = None
) -> StudyResult:
    """The study. others: data sets with the same classes; foreign: data sets with none of them, and 'noise'.

    By default those of `SAME_CLASSES` and `FOREIGN` that are to be had; what is left out is noted. Raises UserError for
    one that was asked for and is not to be had, or has other classes.
    """
    asked, cuts = asked.quickly(rows=QUICK_ROWS, test_rows=QUICK_TEST_ROWS, epochs=(QUICK_EPOCHS, EPOCHS))
    notes: list[str] = []
    home = open_dataset(asked.request.dataset)
    elsewhere = _same_classes(asked, others, home, notes)
    strangers = _foreign(asked, foreign, home, notes)
    models = features_and_networks(asked)
    saved = _train(asked, models)
    opened = {model: _open(asked, model, trained) for model, trained in saved.items()}

    rows = next(iter(saved.values())).predictions()
    assert rows.validation_rows is not None  # every model of a study chooses on validation
    own_images = _images(home, "test", rows.rows)
    names = np.array(home.classes)
    seen = {model: trained.look(own_images) for model, trained in opened.items()}
    abroad: dict[Model, dict[str, tuple[int, int]]] = {model: {} for model in models}
    for (name, images, labels), (model, trained) in itertools.product(elsewhere, opened.items()):
        looked = trained.look(images)
        guesses = np.array(trained.model.classes)[looked.predicted]
        abroad[model][name] = (int(np.sum(guesses == labels)), len(labels))
        asked.how.say(f"{model.label} on {name}: {percent(abroad[model][name][0] / len(labels))} %")
    apart: dict[Model, dict[tuple[str, str], Any]] = {model: {} for model in models}
    for (name, images), (model, trained) in itertools.product(strangers, opened.items()):
        looked = trained.look(images)
        for score, values in looked.scores.items():
            apart[model][name, score] = separation(seen[model].scores[score], values)
        asked.how.say(f"{model.label} against {name}: told apart")
    validation = _images(home, "train", rows.validation_rows)
    held = names[home.load("train").labels[rows.validation_rows]]
    truth = names[rows.labels]
    sure = {model: _calibrated(opened[model], validation, held, seen[model], truth) for model in models}

    notes += [
        "foreign images are scored without any of them having been seen; threshold: 95 % of own test images pass",
        "Mahalanobis and kNN: on the features that a head reads; a network trained from its input on has outputs alone",
        "ECE: expected calibration error on test images; temperature: fitted on validation rows",
    ]
    notes += [f"cut to be quick: {'; '.join(cuts)}"] if cuts else []
    tables = [table for table in (_abroad_table(saved, abroad), _apart_table(apart), _sure_table(sure)) if table.rows]
    return StudyResult(
        study="out-of-domain",
        question=asked.question(
            others=[name for name, *_ in elsewhere],
            foreign=[name for name, _ in strangers],
            models=[str(model) for model in models],
        ),
        answer=_answer(saved, abroad, apart, sure),
        tables=tuple(tables),
        panels=tuple(_sure_panel(model, looked) for model, looked in sure.items()),
        notes=tuple(notes),
        results=tuple(saved.values()),
        folder=asked.how.folder,
    )


def _train(asked: Asked, models: Sequence[Model]) -> dict[Model, SavedResult]:
    settings = Settings(seed=asked.request.seed, refit=False, jobs=asked.how.jobs)
    made = asked.make_heads([model for model in models if model.is_head], asked.request, settings, keep=True)
    training = asked.settings(epochs=QUICK_EPOCHS if asked.quick else EPOCHS)
    for model in models:
        if not model.is_head:
            made[model] = asked.make_network(asked.network_row(model, asked.request, training, keep=True))
    return {model: made[model] for model in models}


def _open(asked: Asked, model: Model, saved: SavedResult) -> _Opened:
    loaded = SavedModel.open(saved, device=asked.request.device, weights=asked.weights)
    if not model.is_head:
        return _Opened(loaded, None, None)
    rows, labels = asked.features_of(model, "train")
    return _Opened(loaded, Mahalanobis.fit(rows, labels), NearestNeighbours.fit(rows))


def _same_classes(asked: Asked, others: Sequence[str] | None, home: Any, notes: list[str]) -> list[tuple]:
    """(name, images, class names of the rows) of each data set with the same classes."""
    others_there = []
    for name in others if others is not None else SAME_CLASSES:
        if name == asked.request.dataset:
            continue
        try:
            dataset = open_dataset(name)
            if set(dataset.classes) != set(home.classes):
                raise UserError(
                    f"{name} has other classes than {asked.request.dataset}; name it with --foreign instead"
                )
            others_there.append((name, *_some(asked, dataset)))
        except UserError as error:
            if others is not None:
                raise
            notes.append(f"without {name}: {error}")
    return others_there


def _foreign(asked: Asked, foreign: Sequence[str] | None, home: Any, notes: list[str]) -> list[tuple[str, Any]]:
    strangers = []
    for name in foreign if foreign is not None else FOREIGN:
        try:
            if name == NOISE:
                strangers.append((name, _noise(asked, home)))
                continue
            dataset = open_dataset(name)
            if set(dataset.classes) & set(home.classes):
                raise UserError(f"{name} shares classes with {asked.request.dataset} and is not foreign to it")
            strangers.append((name, _some(asked, dataset)[0]))
        except UserError as error:
            if foreign is not None:
                raise
            notes.append(f"without {name}: {error}")
    return strangers


def _some(asked: Asked, dataset: Any) -> tuple[Any, np.ndarray]:
    """Test images of another data set, as many as were asked for at most, and the names of their classes."""
    split = "test" if "test" in dataset.splits else dataset.splits[0]
    labels = dataset.load(split).labels
    rows = limit_rows(labels, asked.request.limit_test, asked.request.seed)
    return _images(dataset, split, rows), np.array(dataset.classes)[labels[rows]]


def _images(dataset: Any, split: str, rows: np.ndarray) -> Any:
    images = dataset.load(split).images
    return [images.read(int(row)) for row in rows] if isinstance(images, ImageFiles) else images[rows]


def _noise(asked: Asked, home: Any) -> np.ndarray:
    """Evenly distributed pixels, in the shape of the data set's own images."""
    first = _images(home, "test", np.arange(1))[0]
    wanted = asked.request.limit_test or 1_000
    draw = np.random.default_rng([asked.request.seed, 4])
    return draw.integers(0, 256, (wanted, *first.shape), dtype=np.uint8)


def _calibrated(opened: _Opened, validation: Any, held: np.ndarray, seen: _Seen, truth: np.ndarray) -> dict[str, Any]:
    """ECE and reliability before and after temperature scaling."""
    classes = np.array(opened.model.classes)
    order = np.argsort(classes)
    codes, true = (order[np.searchsorted(classes, labels, sorter=order)] for labels in (held, truth))
    temperature = fit_temperature(opened.look(validation).outputs, codes)
    before, after = (probabilities_at(seen.outputs, heat) for heat in (1.0, temperature))
    return {
        "temperature": temperature,
        "before": expected_calibration_error(true, before),
        "after": expected_calibration_error(true, after),
        "diagrams": (reliability(true, before), reliability(true, after)),
    }


def _abroad_table(saved: dict[Model, SavedResult], abroad: dict[Model, dict]) -> Table:
    others = list(dict.fromkeys(name for estimates in abroad.values() for name in estimates))
    shown = [columns.text("model"), columns.accuracy("own", "own test set")]
    shown += [columns.accuracy(name, name) for name in others]
    rows = []
    for model, result in saved.items():
        metrics = result.result.metrics
        estimates = [(right / n, *wilson_interval(right, n)) for right, n in abroad[model].values()]
        rows.append((model.label, columns.estimate(metrics), *estimates))
    return Table("Accuracy on data sets with the same classes, %", tuple(shown), tuple(rows if others else ()))


def _apart_table(apart: dict[Model, dict]) -> Table:
    shown = (
        columns.text("model"),
        columns.text("foreign"),
        columns.text("score"),
        columns.share("auroc", "AUROC %"),
        columns.share("false_positives", "taken for own at 95 %"),
    )
    rows = tuple(
        (model.label, name, score, separation_there.auroc, separation_there.false_positives)
        for model, separations in apart.items()
        for (name, score), separation_there in separations.items()
    )
    return Table("Foreign images told apart", shown, rows)


def _sure_table(sure: dict[Model, dict[str, Any]]) -> Table:
    shown = (
        columns.text("model"),
        columns.share("before", "ECE %"),
        columns.plain("temperature"),
        columns.share("after", "ECE after scaling %"),
    )
    rows = tuple(
        (model.label, calibration["before"], calibration["temperature"], calibration["after"])
        for model, calibration in sure.items()
    )
    return Table("Calibration", shown, rows)


def _sure_panel(model: Model, found: dict[str, Any]) -> Panel:
    """The reliability diagram; only bins that hold images."""
    lines = [Line("exact", (0.0, 100.0), (0.0, 100.0), dashed=True)]
    for label, diagram in zip(("as it is", "after temperature scaling"), found["diagrams"], strict=True):
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
            f"{name} is told apart best by {score} of {model.label}: AUROC {percent(values[model, score].auroc)} %, "
            f"{percent(values[model, score].false_positives)} % taken for own images."
        )
    gained = [model for model, measured in sure.items() if measured["after"] < measured["before"]]
    sentences.append(
        f"Temperature scaling brings the calibration error down for {count(len(gained))} of {count(len(sure))} models."
    )
    return tuple(sentences)
