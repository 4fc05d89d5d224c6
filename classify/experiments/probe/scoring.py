"""Transferability scores of layers, how well each ranks them, and how alike the layers are. All on training rows."""

import dataclasses
import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from classify.experiments.learning_rows import training_numbers
from classify.experiments.parallel import in_parallel
from classify.experiments.probe.entries import single_sources, sources_of
from classify.experiments.probe.networks import Variant
from classify.experiments.probe.question import WIDE, Question
from classify.experiments.sources import CachedLayer
from classify.measure.environment import this_environment
from classify.measure.transferability import OURS, SCORES, linear_cka, source_probabilities, weighted_tau
from features.commands.progress import going
from features.digests import sha256_json, sha256_rows
from features.notes import remembered_answer
from features.rows import limit_rows

FC = "fc"


@dataclass(frozen=True)
class ScoreRow:
    """One score over the layers.

    values: one for each layer, or a single one that belongs to the network as a whole (`of_network`). seconds: for all
    layers. tau: weighted Kendall tau against the layers' best validation accuracy, tau_by_head against that of each
    head; None where there is no ranking.
    """

    name: str
    title: str
    paper: str
    values: tuple[float, ...]
    seconds: float
    of_network: bool = False
    tau: float | None = None
    tau_by_head: dict[str, float | None] | None = None


@dataclass(frozen=True)
class Scores:
    """What needs no training: the scores of all layers, and debiased linear CKA between layers (L, L), None
    between layers of two networks.

    layers: (layer, pooling) of each value. rows: training rows that were looked at. notes: what was left out and why.
    networks: what the network of each of `layers` is called, cka_networks of each of `cka_layers`; empty where one is
    probed.
    """

    layers: tuple[tuple[str, str], ...]
    rows: int
    scores: tuple[ScoreRow, ...]
    cka_layers: tuple[str, ...]
    cka: tuple[tuple[float | None, ...], ...]
    notes: tuple[str, ...]
    networks: tuple[str, ...] = ()
    cka_networks: tuple[str, ...] = ()

    @property
    def places(self) -> tuple[tuple[str, str, str], ...]:
        """(layer, pooling, network) of each value, the network being '' where one is probed."""
        networks = self.networks or ("",) * len(self.layers)
        return tuple((*layer, network) for layer, network in zip(self.layers, networks, strict=True))

    @classmethod
    def from_json(cls, plain: dict[str, Any]) -> "Scores":
        """The scores from what `dataclasses.asdict` and JSON made of them."""
        rows = tuple(ScoreRow(**{**row, "values": tuple(row["values"])}) for row in plain.pop("scores"))
        layers, cka = (tuple(map(tuple, plain.pop(name))) for name in ("layers", "cka"))
        listed = {name: tuple(value) for name, value in plain.items() if isinstance(value, list)}
        return cls(layers=layers, cka=cka, scores=rows, **{**plain, **listed})


def score_layers(question: Question, probed: Sequence[Variant]) -> Scores:
    """All scores of every layer, and CKA between the single ones of each network, on the same stratified training
    rows; remembered, and not computed again for the same features."""
    sources = [source for network in probed for source in sources_of(network.plan)]
    read = sources[0].read("train")
    labels, train = read.labels, training_numbers(sources[0], read.labels, question.settings, read.groups)
    widest = max(sum(source.widths) for source in sources)
    most = question.score_rows if widest <= WIDE else min(question.score_rows, WIDE)
    rows = train[limit_rows(labels[train], most, question.settings.seed)]
    notes = () if widest <= WIDE else (f"scores on {len(rows):,} rows, since a layer gives {widest:,} numbers",)

    if set(SCORES) != set(OURS):
        # What a plug-in computes may change without its saying so.
        return _computed(question, probed, rows, notes)

    def work_out() -> str:
        return json.dumps(dataclasses.asdict(_computed(question, probed, rows, notes)))

    keys = [[network.name, source.layer, source.pool, source.keys()] for network in probed for source in sources]
    asked = [keys, sha256_rows(read.index[rows]), sha256_rows(labels[rows]), list(SCORES), this_environment()]
    ahead = going().done + cost_of_scores(probed)
    scores = Scores.from_json(json.loads(remembered_answer(f"scores of layers, {sha256_json(asked)}", work_out)))
    going().expect(going().done - ahead)
    return scores


def cost_of_scores(probed: Sequence[Variant]) -> float:
    """How long the scores take beside rows, in the unit of their costs: about a head with a search for each layer."""
    return sum(_cost(source) for network in probed for source in sources_of(network.plan))


def _cost(source: CachedLayer) -> float:
    return 10.0 * sum(source.widths)


def _computed(question: Question, probed: Sequence[Variant], rows: np.ndarray, notes: tuple[str, ...]) -> Scores:
    named = [(source, network.name) for network in probed for source in sources_of(network.plan)]
    compared = [(source, network.name) for network in probed for source in single_sources(sources_of(network.plan))]
    tasks = [(source, rows) for source, _ in named]
    by_layer = []
    for number, values in enumerate(in_parallel(scores_of, tasks, question.settings.jobs), start=1):
        going().advance(_cost(named[number - 1][0]), f"scores {number}/{len(tasks)}")
        by_layer.append(values)
    scores = [
        ScoreRow(
            name,
            SCORES[name].title,
            SCORES[name].paper,
            tuple(values[name][0] for values in by_layer),
            sum(values[name][1] for values in by_layer),
        )
        for name in by_layer[0]
    ]
    of_network: list[ScoreRow] = []
    for network in probed:
        made, reason = _network_scores(network, rows)
        of_network += made
        notes += (reason,) if reason else ()
    cka = _alignments(compared, rows, question.settings.jobs)
    return Scores(
        layers=tuple((source.layer, source.pool) for source, _ in named),
        rows=len(rows),
        scores=(*scores, *of_network),
        cka_layers=tuple(source.layer for source, _ in compared),
        cka=cka,
        notes=notes,
        networks=tuple(filter(None, (name for _, name in named))),
        cka_networks=tuple(filter(None, (name for _, name in compared))),
    )


def scores_of(source: CachedLayer, rows: np.ndarray) -> dict[str, tuple[float, float]]:
    """Every score that reads features: name -> (value, seconds)."""
    read = source.read("train")
    features, labels = np.asarray(source.of_images(read.features[rows])), read.labels[rows]
    return {score.name: _timed(score, features, labels) for score in SCORES.values() if score.needs == "features"}


def _timed(score: Any, array: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    started = time.perf_counter()
    return float(score.function(array, labels)), time.perf_counter() - started


def _network_scores(network: Variant, rows: np.ndarray) -> tuple[list[ScoreRow], str]:
    """LEEP and NCE, which read the network's own classes; none and the reason where it has none."""
    wanted = [score for score in SCORES.values() if score.needs == "source_probabilities"]
    titles = " and ".join(score.title for score in wanted)
    whose = f" of {network.name}" if network.name else ""
    fc = next((source for source in sources_of(network.plan) if source.layer == FC), None)
    if fc is None:
        return [], f"no {titles}{whose}: they read the classifier's output, and 'fc' is not among the layers"
    if network.plan.request.weights == "random":
        return [], f"no {titles}{whose}: the classes of random weights mean nothing"
    read = fc.read("train")
    probabilities = source_probabilities(fc.of_images(read.features[rows]))
    timed = ((score, *_timed(score, probabilities, read.labels[rows])) for score in wanted)
    return [ScoreRow(s.name, f"{s.title}{whose}", s.paper, (value,), seconds, True) for s, value, seconds in timed], ""


def _alignments(
    named: Sequence[tuple[CachedLayer, str]], rows: np.ndarray, jobs: int | None
) -> tuple[tuple[float | None, ...], ...]:
    """CKA of layers with the names of their networks: None between those of two."""
    pairs = [(i, j) for i in range(len(named)) for j in range(i) if named[i][1] == named[j][1]]
    matrix: list[list[float | None]] = [[1.0 if i == j else None for j in range(len(named))] for i in range(len(named))]
    values = in_parallel(alignment, [(named[i][0], named[j][0], rows) for i, j in pairs], jobs)
    for (i, j), value in zip(pairs, values, strict=True):
        matrix[i][j] = matrix[j][i] = value
    return tuple(map(tuple, matrix))


def alignment(first: CachedLayer, second: CachedLayer, rows: np.ndarray) -> float:
    """Debiased linear CKA of two layers on these training rows."""
    pair = ((source, source.read("train").features[rows]) for source in (first, second))
    return linear_cka(*(np.asarray(source.of_images(features)) for source, features in pair))


def ranked(scores: Scores, accuracies: dict[tuple[str, str, str], dict[str, float]]) -> Scores:
    """The same scores with their rank correlations; accuracies: (layer, pooling, network) -> head -> accuracy on
    validation."""
    heads = list(dict.fromkeys(head for place in scores.places for head in accuracies[place]))
    best = [max(accuracies[place].values()) for place in scores.places]
    rows = []
    for row in scores.scores:
        if not row.of_network:
            values = [value if SCORES[row.name].direction == "higher" else -value for value in row.values]
            by_head = {head: _tau(values, [accuracies[place][head] for place in scores.places]) for head in heads}
            row = dataclasses.replace(row, tau=_tau(values, best), tau_by_head=by_head)
        rows.append(row)
    return dataclasses.replace(scores, scores=tuple(rows))


def _tau(values: Sequence[float], accuracies: Sequence[float]) -> float | None:
    tau = weighted_tau(values, accuracies)
    return None if math.isnan(tau) else tau
