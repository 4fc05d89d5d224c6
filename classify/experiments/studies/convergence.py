"""Does pre-training save time? Validation accuracy after every epoch, against epochs and against seconds.

Pre-trained and scratch networks see the same images in the same order under the same settings, one after the other on
an otherwise idle machine, since their seconds are the answer. Targets are reached on validation rows; the test set is
read once, for the table's last column.
"""

import dataclasses
import itertools
from collections.abc import Sequence

from classify.experiments.models import Model
from classify.experiments.studies.asking import Asked
from classify.experiments.studies.outcome import StudyResult
from classify.measure.record import EpochRecord
from classify.measure.results import SavedResult
from classify.measure.wording import MISSING, count, duration, percent
from classify.show import columns
from classify.show.panels import Line, Panel
from classify.show.table import Cell, Column, Table, table_of
from features.errors import UserError

TARGETS = (0.90, 0.95, 0.98, 0.99)
QUICK_ROWS, EPOCHS = 4_000, (6, 10)


def convergence(asked: Asked) -> StudyResult:
    """The study; models that are heads are refused, as they have no epochs."""
    for model in asked.models or ():
        if model.is_head or model.name == "untouched":
            raise UserError(f"--model {model}: convergence is about networks that train; give scratch, finetune:layer4")
    asked = asked.quickly(rows=QUICK_ROWS, epochs=EPOCHS)
    points = dict.fromkeys((*asked.points()[:2], "all"))
    models = asked.models or (*(Model("finetune", unfreeze=point) for point in points), Model("scratch"))
    settings = asked.for_epochs(EPOCHS)
    made = {
        model: [
            asked.make_network(asked.network_row(model, dataclasses.replace(asked.request, seed=seed), settings))
            for seed in asked.seeds
        ]
        for model in models
    }
    names = {model: made[model][0].result.config.network_label for model in models}
    first = {names[model]: saved[0] for model, saved in made.items()}
    notes = [
        "seconds: training and validation, without extracting the maps that partial fine-tuning reads",
        "epochs and seconds: until the first epoch whose validation accuracy is as high"
        + (f", with seed {asked.seeds[0]}" if len(asked.seeds) > 1 else ""),
    ]
    tables = [_table(first)]
    if len(asked.seeds) > 1:
        tables.append(_spread_table({names[model]: saved for model, saved in made.items()}, asked.seeds))
    return asked.outcome(
        "convergence",
        {"models": list(map(str, models)), "targets": list(TARGETS)},
        answer=_answer(first),
        tables=tuple(tables),
        panels=(_panel(first, seconds=False), _panel(first, seconds=True)),
        notes=notes,
        results=tuple(itertools.chain.from_iterable(made.values())),
    )


def reached(history: Sequence[EpochRecord], target: float) -> tuple[int, float] | None:
    """The first epoch whose validation accuracy is at least `target` and the seconds until its end, or None."""
    seconds = 0.0
    for epoch in history:
        seconds += epoch["seconds"]
        if (epoch["validation_accuracy"] or 0.0) >= target:
            return epoch["epoch"], seconds
    return None


def _history(saved: SavedResult) -> list[EpochRecord]:
    return saved.result.extra.history or []


def _table(first: dict[str, SavedResult]) -> Table:
    def seconds(name: str) -> float:
        history = _history(first[name])
        return sum(epoch["seconds"] for epoch in history) / len(history)

    def to(target: float) -> Cell:
        column = Column(
            f"to_{round(100 * target)}", f"to {percent(target, 0)} %", format=_when, parts=("epochs", "seconds")
        )
        return column, lambda name: reached(_history(first[name]), target)

    cells: tuple[Cell, ...] = (
        (columns.text("model"), str),
        (columns.seconds("epoch_seconds", "an epoch"), seconds),
        *map(to, TARGETS),
        (columns.share("validation", "best validation %"), lambda name: first[name].result.validation_accuracy),
        (columns.share("accuracy", "test %"), lambda name: first[name].result.metrics.accuracy),
    )
    rows_of = next(iter(first.values())).result.rows
    title = f"{count(rows_of['train'])} training and {count(rows_of['validation'])} validation images"
    return table_of(title, first, cells)


def _spread_table(made: dict[str, list[SavedResult]], seeds: Sequence[int]) -> Table:
    """Epochs to each target, seed by seed."""
    shown = [columns.text("model"), Column("target", "target %", format=lambda value: percent(value, 0))]
    shown += [Column(f"seed_{seed}", f"seed {seed}", format=count) for seed in seeds]
    rows = []
    for (name, saved), target in itertools.product(made.items(), TARGETS):
        when = [reached(_history(seed_result), target) for seed_result in saved]
        rows.append((name, target, *(seed_result and seed_result[0] for seed_result in when)))
    return Table("Epochs to each target, by seed", tuple(shown), tuple(rows))


def _panel(first: dict[str, SavedResult], seconds: bool) -> Panel:
    lines = []
    for name, saved in first.items():
        history = _history(saved)
        times = tuple(itertools.accumulate(epoch["seconds"] for epoch in history))
        x = times if seconds else tuple(float(epoch["epoch"]) for epoch in history)
        y = tuple(100 * (epoch["validation_accuracy"] or 0.0) for epoch in history)
        lines.append(Line(name, x, y, dashed=saved.result.config.head != "finetune"))
    label = "seconds of training" if seconds else "epochs"
    return Panel(f"against {label.split()[0]}", label, "validation accuracy, %", tuple(lines), log=seconds)


def _answer(first: dict[str, SavedResult]) -> tuple[str, ...]:
    """How much sooner the best pre-trained network reaches each target than the one from scratch."""
    scratch = next((name for name, saved in first.items() if saved.result.config.head == "scratch"), None)
    tuned = [name for name in first if name != scratch]
    sentences = []
    for target in TARGETS if tuned else ():
        if scratch is None:
            break
        slow = reached(_history(first[scratch]), target)
        when = {
            name: epoch_and_seconds for name in tuned if (epoch_and_seconds := reached(_history(first[name]), target))
        }
        goal = f"{percent(target, 0)} % on validation"
        if not when:
            other = f"scratch does after {count(slow[0])} epochs" if slow else "neither does scratch"
            sentences.append(f"No pre-trained network reaches {goal}; {other}.")
            continue
        quick = min(when, key=lambda name: when[name][1])
        epochs, seconds = when[quick]
        sentence = f"{quick} reaches {goal} after {count(epochs)} epoch{'s' * (epochs > 1)} ({duration(seconds)})"
        if slow is None:
            sentences.append(f"{sentence}; scratch does not reach it.")
        else:
            times = slow[1] / seconds
            longer = f"{duration(slow[1])}, {times:.1f} times as long"
            sentences.append(f"{sentence}; scratch after {count(slow[0])} ({longer}).")
    return tuple(sentences) or ("No pre-trained network and one from scratch were asked for: see the table.",)


def _when(value: tuple[int, float] | None) -> str:
    return MISSING if value is None else f"{count(value[0])} ({duration(value[1])})"
