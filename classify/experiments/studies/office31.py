"""The practice of the book (Wang and Chen 2023, chapter 8.6): fine-tuned on one domain of Office-31, tested on another.

Its protocol: SGD with momentum 0.9, learning rate 1e-4 for the body and ten times that for the new layer, batches of
64, 80 % of the source domain to train on and 20 % to choose the epoch on, at most 100 epochs, stopped after 20 without
a better one. The target domain is the test set, all of it. The learning rate falls as the book's does
(`TrainingSettings`, schedule 'book'); nothing is said there of weight decay, and there is none here.
"""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from classify.experiments.models import Model
from classify.experiments.settings import Settings
from classify.experiments.studies.asking import Asked, features_and_networks
from classify.experiments.studies.outcome import StudyResult
from classify.heads.network import DRAWN
from classify.measure.results import SavedResult
from classify.measure.wording import count, percent
from classify.show import columns
from classify.show.panels import Line, Panel
from classify.show.table import Table
from features.datasets.tree import folders_in
from features.errors import UserError
from features.home import user_path

DOMAINS = ("amazon", "webcam", "dslr")
# In the order of the book's table.
TRANSFERS = (
    ("amazon", "webcam"),
    ("dslr", "webcam"),
    ("webcam", "dslr"),
    ("amazon", "dslr"),
    ("dslr", "amazon"),
    ("webcam", "amazon"),
)
CLASSES = 31
EPOCHS = 100
PROTOCOL: dict[str, Any] = {
    "optimizer": "sgd",
    "learning_rate": 1e-4,
    "head_multiple": 10.0,
    "batch_size": 64,
    "schedule": "book",
    "weight_decay": 0.0,
    "epochs": EPOCHS,
    "patience": 20,
}
HELD_OUT = 0.2
QUICK_SIZE, QUICK_EPOCHS = 64, 5
IN_THE_BOOK = (
    "the book's table has, for ResNet50 fine-tuned: 68.4, 96.7, 99.3, 68.9, 62.5, 60.7, average 76.1; its author's own "
    "run 76.7, 91.8, 99.0, 78.9, 63.5, 65.0, average 79.2"
)


def office31(asked: Asked, data: str) -> StudyResult:
    """The study. data: the folder with the three domains' folders. Raises UserError where one of them is missing, or
    they have not the same classes."""
    folders = {domain: _folder(user_path(data).absolute(), domain) for domain in DOMAINS}
    asked = asked.quickly(epochs=(QUICK_EPOCHS, EPOCHS), image_size=QUICK_SIZE)
    specs = {pair: f"transfer:{folders[pair[0]]}->{folders[pair[1]]}" for pair in TRANSFERS}
    first = dataclasses.replace(asked, request=dataclasses.replace(asked.request, dataset=specs[TRANSFERS[0]]))
    models = features_and_networks(first)
    made: dict[Model, dict[tuple[str, str], SavedResult]] = {model: {} for model in models}
    for pair, spec in specs.items():
        asked.how.say(f"{_called(pair)}:")
        for model, saved in _transfer(asked, spec, models).items():
            made[model][pair] = saved
    classes = folders_in(folders[DOMAINS[0]])
    notes = [
        "tested on all images of the target domain, which nothing was chosen on",
        "a fifth of the source domain is held out: it chooses a network's epoch and a head's parameters; no refit",
    ]
    notes += [IN_THE_BOOK] if len(classes) == CLASSES else []
    return asked.outcome(
        "office31",
        {"models": list(map(str, models)), "transfers": list(map(_called, TRANSFERS))},
        answer=_answer(made),
        tables=(_table(made), _source_table(made)),
        panels=(_panel(made),),
        notes=notes,
        results=tuple(saved for transfers in made.values() for saved in transfers.values()),
    )


def average(accuracies: dict[tuple[str, str], float]) -> float:
    """The mean over the six transfers, each counting the same, as the book has it."""
    return float(np.mean([accuracies[pair] for pair in TRANSFERS]))


def _folder(data: Path, domain: str) -> Path:
    """Where a domain's classes are: in its folder, or in `images` inside, as Office-31 is given out."""
    folder = data / domain
    if not folder.is_dir():
        raise UserError(
            f"{folder} is not there; --data should name a folder with {', '.join(f'{name}/' for name in DOMAINS)}, "
            "each with one sub-folder per class"
        )
    return folder / "images" if folders_in(folder) == ["images"] else folder


def _transfer(asked: Asked, spec: str, models: tuple[Model, ...]) -> dict[Model, SavedResult]:
    request = dataclasses.replace(asked.request, dataset=spec)
    settings = Settings(seed=request.seed, refit=False, jobs=asked.how.jobs, validation_share=HELD_OUT)
    training = asked.settings(**{**PROTOCOL, **({"epochs": QUICK_EPOCHS} if asked.quick else {})})
    return asked.make_models(models, request, settings, training)


def _called(pair: tuple[str, str]) -> str:
    return f"{pair[0][0].upper()} to {pair[1][0].upper()}"


def _accuracies(saved: dict[tuple[str, str], SavedResult]) -> dict[tuple[str, str], float]:
    return {pair: result.result.metrics.accuracy for pair, result in saved.items()}


def _table(made: dict[Model, dict[tuple[str, str], SavedResult]]) -> Table:
    shown = [columns.text("method")]
    shown += [columns.share(f"{a}_{b}", _called((a, b))) for a, b in TRANSFERS]
    shown += [columns.share("average")]
    rows = []
    for model, saved in made.items():
        accuracies = _accuracies(saved)
        rows.append((model.label, *(accuracies[pair] for pair in TRANSFERS), average(accuracies)))
    notes = ("A amazon, W webcam, D dslr",)
    title = "Accuracy on the target domain, %"
    return Table(title, tuple(shown), tuple(rows), notes).best("average", note="highest average")


def _source_table(made: dict[Model, dict[tuple[str, str], SavedResult]]) -> Table:
    """What the source domain's own held-out images say, and the epochs."""
    shown = [columns.text("method")]
    shown += [columns.share(f"{a}_{b}", _called((a, b))) for a, b in TRANSFERS]
    shown += [columns.text("epochs", "best epochs")]
    rows = []
    for model, saved in made.items():
        validation = (saved[pair].result.validation_accuracy for pair in TRANSFERS)
        chosen = [saved[pair].result.chosen.get("epoch") for pair in TRANSFERS]
        rows.append((model.label, *validation, ", ".join(map(str, chosen)) if all(chosen) else "-"))
    return Table("Accuracy on the source domain's held-out images, %", tuple(shown), tuple(rows))


def _panel(made: dict[Model, dict[tuple[str, str], SavedResult]]) -> Panel:
    places = tuple(map(float, range(len(TRANSFERS) + 1)))
    lines = []
    for model, saved in made.items():
        accuracies = _accuracies(saved)
        heights = (*(100 * accuracies[pair] for pair in TRANSFERS), 100 * average(accuracies))
        lines.append(Line(model.label, places, heights, dashed=model.name in DRAWN))
    names = (*(_called(pair) for pair in TRANSFERS), "average")
    return Panel(
        "", "transfer", "accuracy on the target, %", tuple(lines), ticks=tuple(zip(places, names, strict=True))
    )


def _answer(made: dict[Model, dict[tuple[str, str], SavedResult]]) -> tuple[str, ...]:
    averages = {model: average(_accuracies(saved)) for model, saved in made.items()}
    best = max(averages, key=lambda model: averages[model])
    accuracies = _accuracies(made[best])
    easy, hard = (pick(TRANSFERS, key=lambda pair: accuracies[pair]) for pick in (max, min))
    others = (f"{model.label} {percent(value)} %" for model, value in averages.items() if model is not best)
    sentences = [
        f"{best.label} is best on average over {count(len(TRANSFERS))} transfers: {percent(averages[best])} %.",
        f"Its easiest transfer is {_called(easy)} ({percent(accuracies[easy])} %), its hardest {_called(hard)} "
        f"({percent(accuracies[hard])} %).",
    ]
    if named := ", ".join(others):
        sentences.append(f"The others on average: {named}.")
    return tuple(sentences)
