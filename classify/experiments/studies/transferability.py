"""How transferable is each stage? Yosinski et al. 2014 in small, on the halves of a data set's own classes.

The classes are dealt into two halves, A and B. baseA and baseB are trained from scratch on theirs. A network XnB takes
the first n stages of baseX, draws the others anew and is trained on B: XnB keeps the taken stages frozen, XnB+ trains
them on. BnB falls below baseB where stages depend on each other (co-adaptation), AnB below BnB where they are too
specific to A. ImageNet's network, where there is one, is a third source.
"""

import dataclasses
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from classify.experiments.row import Row, network_row
from classify.experiments.studies.asking import Asked
from classify.experiments.studies.outcome import StudyResult
from classify.heads.network.settings import TrainingSettings
from classify.measure.intervals import mean_interval
from classify.measure.results import SavedResult
from classify.measure.wording import percent
from classify.show import columns
from classify.show.panels import Line, Panel
from classify.show.table import Table
from features.datasets import open_dataset
from features.errors import UserError
from features.home import home
from features.regular import open_regular
from features.request import Request
from features.whole import whole

QUICK_ROWS, QUICK_TEST_ROWS, EPOCHS = 2_000, 1_000, (3, 10)
BASE, IMAGENET = "baseB", "ImageNet"

# (source, frozen) -> stage -> one accuracy a seed
Curves = dict[tuple[str, bool], dict[str, tuple[float, ...]]]


def transferability(asked: Asked, stages: Sequence[str] | None = None) -> StudyResult:
    """The study. stages: the last stage taken over, by default each in turn. Raises UserError for an unknown one, and
    for a data set of fewer than four classes, whose halves would leave nothing to tell apart."""
    asked = asked.quickly(rows=QUICK_ROWS, test_rows=QUICK_TEST_ROWS, epochs=EPOCHS)
    chosen, inner = asked.stages(stages, "can be taken up to"), asked.cut().inner_stages
    training = asked.for_epochs(EPOCHS)
    bases: dict[str, tuple[float, ...]] = {}
    curves: Curves = {}
    made: list[SavedResult] = []
    for seed in asked.seeds:
        halves = [_on(asked, names, seed) for names in class_halves(asked.request.dataset, seed)]
        sources = {}
        for name, request in zip(("A", "B"), halves, strict=True):
            saved = asked.make_network(network_row(request, "scratch", training=training))
            made.append(saved)
            bases[f"base{name}"] = (*bases.get(f"base{name}", ()), saved.result.metrics.accuracy)
            sources[name] = str(_weights_of(saved))
        if asked.request.weights != "random":
            sources[IMAGENET] = asked.request.weights
        for source, weights in sources.items():
            for stage in chosen:
                for frozen in (True, False):
                    row = transferred(halves[1], weights, stage, inner, frozen, training)
                    saved = asked.make_network(row)
                    made.append(saved)
                    curve = curves.setdefault((source, frozen), {})
                    curve[stage] = (*curve.get(stage, ()), saved.result.metrics.accuracy)
    notes = [
        "halves: of the classes, dealt anew with each seed; all networks of a seed are trained alike and tested on B",
        "+: the stages taken over train on; without it they are frozen, statistics included",
    ]
    if len(asked.seeds) > 1:
        notes.append(f"± half of Student's 95 % interval of the mean over {len(asked.seeds)} seeds{columns.ENDS}")
    return asked.outcome(
        "transferability",
        {"stages": list(chosen)},
        answer=_answer(bases, curves, chosen),
        tables=(_table(bases, curves, chosen),),
        panels=_panels(bases, curves, chosen),
        notes=notes,
        results=tuple(made),
    )


def class_halves(dataset: str, seed: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names of the classes, dealt into two halves; of an odd number the first half is the larger."""
    classes = open_dataset(dataset).classes
    if len(classes) < 4:
        raise UserError(f"{dataset} has {len(classes)} classes, and halves need two each; take one with four or more")
    order = np.random.default_rng([seed, 5]).permutation(len(classes))
    middle = -(-len(classes) // 2)
    # In the data set's own order: which half a class is in is drawn, not its place there.
    first, second = (tuple(classes[place] for place in sorted(part)) for part in (order[:middle], order[middle:]))
    return first, second


def transferred(
    request: Request, weights: str, stage: str, stages: Sequence[str], frozen: bool, settings: TrainingSettings
) -> Row:
    """The row of XnB or XnB+: all up to `stage` from `weights`, the rest drawn anew."""
    above = (*stages, "fc")[stages.index(stage) + 1]
    return network_row(
        dataclasses.replace(request, weights=weights),
        "finetune",
        training=settings,
        unfreeze=above if frozen else "all",
        fresh_above=stage,
    )


def _on(asked: Asked, names: Sequence[str], seed: int) -> Request:
    dataset = f"{asked.request.dataset}[{','.join(names)}]"
    return dataclasses.replace(asked.request, dataset=dataset, seed=seed, weights="random")


def _weights_of(saved: SavedResult) -> Path:
    """The weights of a trained network under a name that is theirs alone: another training does not change them."""
    digest = str(saved.result.extra.network_sha256)
    kept = home() / "fitted" / f"{digest[:32]}.safetensors"
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        with whole(kept) as stream, open_regular(saved.network_path / "network.safetensors") as network:
            shutil.copyfileobj(network, stream)
    return kept


def _called(source: str, frozen: bool) -> str:
    return f"{source}nB{'' if frozen else '+'}"


def _table(bases: dict[str, tuple[float, ...]], curves: Curves, stages: Sequence[str]) -> Table:
    shown = [columns.text("network"), columns.accuracy("base", "from scratch")]
    shown += [columns.accuracy(stage, f"up to {stage}") for stage in stages]
    rows = [(name, mean_interval(values), *(None for _ in stages)) for name, values in bases.items()]
    for (source, frozen), curve in curves.items():
        rows.append((_called(source, frozen), None, *(mean_interval(curve[stage]) for stage in stages)))
    return Table("Test accuracy in percent (baseA on A, all others on B)", tuple(shown), tuple(rows))


def _panels(bases: dict[str, tuple[float, ...]], curves: Curves, stages: Sequence[str]) -> tuple[Panel, ...]:
    places = tuple(float(place) for place in range(1, len(stages) + 1))
    base = 100 * float(np.mean(bases[BASE]))
    ticks = ((0.0, BASE), *zip(places, stages, strict=True))
    panels = []
    for title, sources in (("halves of the classes", ("A", "B")), ("from ImageNet", (IMAGENET,))):
        lines = []
        for (source, frozen), curve in curves.items():
            if source in sources:
                means, lows, highs = zip(*(mean_interval(curve[stage]) for stage in stages), strict=True)
                heights, low, high = ((base, *(100 * end for end in ends)) for ends in (means, lows, highs))
                lines.append(Line(_called(source, frozen), (0.0, *places), heights, low, high, dashed=frozen))
        if lines:
            panels.append(
                Panel(title, "stages taken over", "accuracy on B, %", tuple(lines), ticks=ticks, levels=(base,))
            )
    return tuple(panels)


def _answer(bases: dict[str, tuple[float, ...]], curves: Curves, stages: Sequence[str]) -> tuple[str, ...]:
    base = float(np.mean(bases[BASE]))
    sentences = [f"From scratch, B's network gets {percent(base)} % of B's test images right."]
    for (source, frozen), curve in curves.items():
        means = {stage: float(np.mean(curve[stage])) for stage in stages}
        best, last = max(stages, key=lambda stage: means[stage]), stages[-1]
        sentences.append(
            f"{_called(source, frozen)} is best up to {best} ({percent(means[best])} %, "
            f"{100 * (means[best] - base):+.2f} points against {BASE}) and has {percent(means[last])} % up to {last}."
        )
    return tuple(sentences)
