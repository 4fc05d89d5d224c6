"""How the layers stand to the best one: paired tests on the stored test predictions, and what each layer costs."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from classify.experiments.probe.entries import CANDIDATES, Entry
from classify.experiments.sources import CachedLayer
from classify.measure.paired import holm, mcnemar
from classify.measure.results import SavedResult
from features.digests import remembered_answer, sha256_json
from features.errors import UserError
from features.request import Plan

LEVEL = 0.05


@dataclass(frozen=True)
class ProbeRow:
    """One row of a probe: the part it plays, and its result with the stored predictions."""

    kind: str
    layer: str
    pool: str
    head: str
    width: int
    saved: SavedResult

    @property
    def result(self):
        """The `Result`."""
        return self.saved.result

    @property
    def validation(self) -> float:
        """Accuracy on the validation rows, before any refit."""
        return self.result.validation_accuracy

    @property
    def accuracy(self) -> float:
        """Accuracy on the test rows."""
        return self.result.metrics.accuracy

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the accuracy on the test rows."""
        return self.result.metrics.accuracy_interval

    @property
    def seconds(self) -> float:
        """Seconds of its search and its last fit."""
        return sum(self.result.seconds.get(step, 0.0) for step in ("search", "fit"))


@dataclass(frozen=True)
class Standing:
    """A layer (or layers joined) under its head that was best on validation, held against the best of all.

    flops: for one image, up to this layer; None where it is unknown. bytes: of one image in the cache. p_value:
    McNemar's against the best, corrected by Holm over all layers; None for the best itself. better: than the best on
    validation, for certain: validation had too few rows to see it.
    """

    row: ProbeRow
    flops: int | None
    bytes: int
    p_value: float | None
    better: bool = False

    @property
    def distinguishable(self) -> bool:
        """Whether it differs from the best for certain, at the 5 % level."""
        return self.p_value is not None and self.p_value < LEVEL


def probe_row(entry: Entry, saved: SavedResult) -> ProbeRow:
    """An entry with its result."""
    source = entry.row.source
    pool = source.pool if isinstance(source, CachedLayer) else ""
    return ProbeRow(entry.kind, source.layer, pool, entry.row.head.name, saved.result.extra["features"], saved)


def best_on_validation(rows: Sequence[ProbeRow]) -> ProbeRow:
    """The candidate with the highest validation accuracy; of equals the first, which is the shallowest layer."""
    return max((row for row in rows if row.kind in CANDIDATES), key=lambda row: row.validation)


def standings(rows: Sequence[ProbeRow], best: ProbeRow, answer: Plan) -> tuple[Standing, ...]:
    """Every layer under its own best head, in the order of the rows."""
    chosen: dict[tuple[str, str, str], ProbeRow] = {}
    for row in rows:
        place = (row.kind, row.layer, row.pool)
        if row.kind in CANDIDATES and (place not in chosen or row.validation > chosen[place].validation):
            chosen[place] = row
    others = [row for row in chosen.values() if row is not best]
    reference = best.saved.predictions()
    p_values = []
    for row in others:
        predictions = row.saved.predictions()
        if not np.array_equal(predictions.rows, reference.rows):
            raise UserError(f"{row.saved.path} was tested on other rows than {best.saved.path}; give --again")
        p_values.append(mcnemar(reference.labels, reference.predicted, predictions.predicted).p_value)
    corrected = dict(zip(map(id, others), holm(p_values).tolist(), strict=True))
    flops = layer_flops(answer, [row.layer for row in chosen.values()])
    found = []
    for row in chosen.values():
        p_value = corrected.get(id(row))
        better = p_value is not None and p_value < LEVEL and row.accuracy > best.accuracy
        found.append(Standing(row, flops.get(row.layer), _bytes(answer, row), p_value, better))
    return tuple(found)


def layer_flops(answer: Plan, layers: Sequence[str]) -> dict[str, int]:
    """Floating-point operations for one image up to the deepest of the layers joined in each name."""
    nodes = {layer: CachedLayer(answer, layer, answer.request.pools[0]).wanted for layer in dict.fromkeys(layers)}
    nodes = {layer: [wanted.key.layer for wanted in parts] for layer, parts in nodes.items()}
    key = answer.wanted[0].key
    question = sha256_json([key.backbone, key.image_size, key.weights, nodes])

    def count() -> str:
        from features.backbones import load_backbone
        from features.cut import Cut

        request = answer.request
        backbone = load_backbone(request.backbone, request.weights, request.seed)
        cut = Cut(backbone.model, key.image_size, backbone.headless)
        return json.dumps({layer: cut.flops(parts) for layer, parts in nodes.items()})

    return json.loads(remembered_answer(f"operations up to layers, {question}", count))


def _bytes(answer: Plan, row: ProbeRow) -> int:
    source = CachedLayer(answer, row.layer, row.pool)
    return sum(source.widths) * (2 if answer.request.dtype == "float16" else 4)
