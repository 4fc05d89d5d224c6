"""Which blocks to adapt? Each stage alone, and three ways to have it decided, beside fine-tuning everything.

Surgical fine-tuning (Lee et al. 2022) trains one stage and freezes the others; which, the relative gradient norm says
before training (`relative_gradient_norms`). SpotTune (Guo et al. 2019) decides block by block for each image
(`classify.heads.network.spottune`). L2T-ww (Jang et al. 2019) starts a network from drawn weights and learns which
layers of the pre-trained one it should match (`classify.heads.regularizers.l2t_ww`); from scratch is its control.

All are trained on the same images for the same number of steps; what a step costs differs, and is in the table. The
classes being new, the new classifier trains everywhere, from a fitted probe (not in networks from drawn weights): in
Lee et al. the network knows its classes before it is adapted.
"""

from collections.abc import Sequence
from typing import Any

from classify.experiments.kinds.network import Network, take
from classify.experiments.models import Model
from classify.experiments.row import Row
from classify.experiments.studies.asking import Asked
from classify.experiments.studies.outcome import StudyResult
from classify.heads.network.gradients import relative_gradient_norms
from classify.heads.network.settings import TrainingSettings
from classify.heads.regularizers import parse_regularizers
from classify.measure.results import SavedResult
from classify.measure.standing import against, differs
from classify.measure.wording import count, decimal, percent
from classify.show import columns
from classify.show.panels import Line, Panel
from classify.show.table import Cell, Column, Table, table_of
from features.errors import UserError

QUICK_ROWS, EPOCHS = 1_000, (3, 10)
BATCH = 32
PLAIN, FC, SPOTTUNE, SCRATCH, L2T = "everything", "fc alone", "SpotTune", "from scratch", "L2T-ww, from scratch"


def where(asked: Asked, stages: Sequence[str] | None = None) -> StudyResult:
    """The study. stages: those that are trained alone, by default each. Raises UserError for an unknown one, and for
    weights that were drawn: there would be nothing to keep."""
    if asked.request.weights == "random":
        raise UserError("--weights random: what to adapt is a question about pre-trained weights; give such weights")
    asked = asked.quickly(rows=QUICK_ROWS, epochs=EPOCHS)
    chosen = asked.stages(stages, "has the stages")
    rows = _rows(asked, chosen, asked.for_epochs(EPOCHS, batch_size=BATCH, init_head="probe"))
    for row in rows.values():
        row.check()
    norms = _gradient_norms(rows[PLAIN])
    made = {name: asked.make_network(row) for name, row in rows.items()}
    notes = [
        "alone: the other stages are frozen, statistics included; the new classifier trains everywhere",
        f"relative gradient norm: before training, on at most 512 training images; the largest of {len(norms)} stages "
        "is the choice",
        "SpotTune and L2T-ww see the same images as often; a step of theirs takes longer",
    ]
    learned = {name: saved.result.extra.learned or {} for name, saved in made.items()}
    tuned, matching = learned[SPOTTUNE]["tuned"], learned[L2T]["matching"]
    return asked.outcome(
        "where",
        {"stages": list(chosen)},
        answer=_answer(made, chosen, norms, tuned, matching),
        tables=(_table(made, norms), _tuned_table(tuned), _matching_table(matching)),
        panels=(*_stage_panels(made, chosen, norms), _tuned_panel(tuned), _matching_panel(matching)),
        notes=notes,
        results=tuple(made.values()),
    )


def choice(norms: dict[str, float], stages: Sequence[str]) -> str:
    """The stage with the largest relative gradient norm, among those that were trained alone."""
    return max(stages, key=lambda stage: norms.get(stage, 0.0))


def _rows(asked: Asked, stages: Sequence[str], settings: TrainingSettings) -> dict[str, Row]:
    points = asked.points()
    drawn = settings.from_drawn_weights()

    def tuned(point: str, **more: Any) -> Row:
        return asked.network_row(Model("finetune", unfreeze=point), asked.request, settings, **more)

    rows = {PLAIN: tuned("all"), FC: tuned("fc")}
    for stage in stages:
        rows[stage] = tuned(stage if stage in points else "all", until=stage)
    rows[SPOTTUNE] = asked.network_row(Model("spottune"), asked.request, settings)
    rows[SCRATCH] = asked.network_row(Model("scratch"), asked.request, drawn)
    matched = Model("finetune", unfreeze="all", regularizers=parse_regularizers(["l2t-ww"]))
    rows[L2T] = asked.network_row(matched, asked.request, drawn, fresh_above="input")
    return rows


def _gradient_norms(row: Row) -> dict[str, float]:
    """Before training, on the rows that the network would be trained on."""
    training, head = row.training(), row.head
    rows = training.required()
    assert isinstance(head, Network)
    _, context = head.build(row.source).starting(take(rows.features, training.train), rows.labels[training.train])
    return relative_gradient_norms(context)


def _accuracy(saved: SavedResult) -> tuple[float, float, float]:
    return columns.estimate(saved.result.metrics)


def _called(name: str) -> str:
    return name if name in (PLAIN, FC, SPOTTUNE, SCRATCH, L2T) else f"{name} alone"


def _table(made: dict[str, SavedResult], norms: dict[str, float]) -> Table:
    cells: tuple[Cell, ...] = (
        (columns.text("trained"), _called),
        (columns.plain("norm", "relative gradient norm"), norms.get),
        (columns.VALIDATION, lambda name: made[name].result.validation_accuracy),
        (columns.accuracy(header="test %"), lambda name: _accuracy(made[name])),
        (columns.number("parameters", "trained parameters"), lambda name: made[name].result.extra.trained_parameters),
        (columns.seconds("fit", "training"), lambda name: made[name].result.seconds["fit"]),
    )
    sizes = next(iter(made.values())).result.rows
    title = f"{count(sizes['train'])} training and {count(sizes['validation'])} validation images"
    notes = (f"test %: {columns.ACCURACY_NOTE}",)
    return table_of(title, made, cells, notes).best("validation", note="best on validation")


def _tuned_table(tuned: dict[str, float]) -> Table:
    shown = (
        columns.text("block"),
        Column("share", "images that take the tuned copy, %", format=lambda share: percent(share, 0)),
    )
    return Table("SpotTune's routes", shown, tuple(tuned.items()))


def _grid(matching: dict[str, float]) -> tuple[list[str], list[str]]:
    pairs = [name.split(" to ") for name in matching]
    return list(dict.fromkeys(m for m, _ in pairs)), list(dict.fromkeys(n for _, n in pairs))


def _matching_table(matching: dict[str, float]) -> Table:
    sources, targets = _grid(matching)
    shown = [columns.text("source", "source layer")]
    shown += [columns.plain(f"to_{target}", f"to {target}", 2) for target in targets]
    rows = tuple((m, *(matching[f"{m} to {n}"] for n in targets)) for m in sources)
    return Table("L2T-ww's weights of the pairs (lambda, 0 to 6; 1 at the start)", tuple(shown), rows)


def _stage_panels(made: dict[str, SavedResult], stages: Sequence[str], norms: dict[str, float]) -> tuple[Panel, ...]:
    places = tuple(map(float, range(len(stages))))
    ticks = tuple(zip(places, stages, strict=True))
    values, lows, highs = (
        tuple(100 * end for end in ends) for ends in zip(*(_accuracy(made[s]) for s in stages), strict=True)
    )
    level = 100 * made[PLAIN].result.metrics.accuracy
    alone = Line("one stage alone", places, values, lows, highs)
    norm = Line("relative gradient norm", places, tuple(norms.get(stage, 0.0) for stage in stages))
    return (
        Panel(
            "one stage alone (level: everything)", "stage", "test accuracy, %", (alone,), ticks=ticks, levels=(level,)
        ),
        Panel("before training", "stage", "relative gradient norm", (norm,), ticks=ticks),
    )


def _tuned_panel(tuned: dict[str, float]) -> Panel:
    places = tuple(float(place) for place in range(1, len(tuned) + 1))
    line = Line("SpotTune", places, tuple(100 * share for share in tuned.values()))
    return Panel("SpotTune", "block, from the bottom", "images that take the tuned copy, %", (line,))


def _matching_panel(matching: dict[str, float]) -> Panel:
    sources, targets = _grid(matching)
    places = tuple(map(float, range(len(targets))))
    lines = tuple(Line(f"from {m}", places, tuple(matching[f"{m} to {n}"] for n in targets)) for m in sources)
    return Panel("L2T-ww", "target layer", "weight of the pair", lines, ticks=tuple(zip(places, targets, strict=True)))


def _answer(
    made: dict[str, SavedResult],
    stages: Sequence[str],
    norms: dict[str, float],
    tuned: dict[str, float],
    matching: dict[str, float],
) -> tuple[str, ...]:
    best = max(made, key=lambda name: _validated(made[name]))
    sentences = [
        f"Best on validation is training {_called(best)} ({percent(made[best].result.validation_accuracy)} %), with "
        f"{percent(_accuracy(made[best])[0])} % of the test images right."
    ]
    top = max(stages, key=lambda stage: _validated(made[stage]))
    sentences.append(f"Of single stages {top} is best on validation: {_beside(made, top, PLAIN)}.")
    picked = choice(norms, stages)
    same = "the same stage" if picked == top else f"{picked} instead: {_beside(made, picked, PLAIN)}"
    sentences.append(f"The relative gradient norm chooses {same}.")
    share = sum(tuned.values()) / len(tuned)
    sentences.append(f"SpotTune tunes {percent(share, 0)} % of its ways: {_beside(made, SPOTTUNE, PLAIN)}.")
    order = sorted(matching, key=lambda pair: matching[pair])
    sentences.append(
        f"L2T-ww: {_beside(made, L2T, SCRATCH)}; it matches {order[-1]} most ({decimal(matching[order[-1]], 2)}) "
        f"and {order[0]} least ({decimal(matching[order[0]], 2)})."
    )
    return tuple(sentences)


def _beside(made: dict[str, SavedResult], name: str, other: str) -> str:
    """'98.10 % on test, -0.40 points against everything (p = 0.02)', by McNemar's test."""
    (p_value,) = against(made[name], [made[other]])
    points = 100 * (_accuracy(made[name])[0] - _accuracy(made[other])[0])
    sure = "" if differs(p_value) else ", not significant"
    return (
        f"{percent(_accuracy(made[name])[0])} % on test, {points:+.2f} points against {other} (p = {p_value:.2g}{sure})"
    )


def _validated(saved: SavedResult) -> float:
    accuracy = saved.result.validation_accuracy
    assert accuracy is not None  # every network of the study has validation rows
    return accuracy
