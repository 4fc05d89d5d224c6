"""What a probe found, before anything is said of it: its rows, and how each layer stands to the best one."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from classify.experiments.probe.entries import CANDIDATES
from classify.experiments.sources import CachedLayer
from classify.measure.choice import best_of
from classify.measure.outcome import Result
from classify.measure.results import SavedResult
from classify.measure.standing import against_best, differs
from classify.measure.wording import percent
from classify.show.columns import estimate
from features.backbones import requested_backbone
from features.digests import sha256_json
from features.notes import remembered_answer
from features.request import Plan


@dataclass(frozen=True)
class ProbeRow:
    """One row of a probe: the part it plays, and its result with the stored predictions.

    sized: images of several sizes are probed, so that the size is told with the pooling. network: what its network is
    called where several are probed; '' where one is, and of pixels.
    """

    kind: str
    saved: SavedResult
    sized: bool = False
    network: str = ""

    def __repr__(self) -> str:
        name = " ".join(filter(None, (self.network, self.layer, self.pool, self.head)))
        return f"<{type(self).__name__}: {self.kind} {name}, {percent(self.accuracy)} % of the test images>"

    def _repr_html_(self) -> str:
        return self.saved._repr_html_()

    @property
    def result(self) -> Result:
        """What was measured."""
        return self.saved.result

    @property
    def backbone(self) -> str:
        """The network, with its weights where several of one backbone are probed; '' of pixels."""
        return self.network or self.result.config.backbone or ""

    @property
    def layer(self) -> str:
        """The layer, layers joined by '+', or 'pixels'."""
        return self.result.config.layer

    @property
    def pool(self) -> str:
        """The pooling, 'avg 112 px' where images of several sizes are probed; '' of pixels."""
        config = self.result.config
        return sized_pool(config.pool, config.image_size if self.sized else None) if config.pool else ""

    @property
    def size(self) -> int:
        """The size of the images in pixels where several are probed; else 0, and of pixels."""
        return (self.result.config.image_size or 0) if self.sized and self.pool else 0

    @property
    def head(self) -> str:
        """The head by name."""
        return self.result.config.head

    @property
    def width(self) -> int:
        """How many numbers the head takes for an image."""
        width = self.result.extra.features
        assert width is not None  # heads on features say how many they take
        return width

    @property
    def validation(self) -> float:
        """Accuracy on the validation rows, before any refit."""
        accuracy = self.result.validation_accuracy
        assert accuracy is not None  # a probe has validation rows
        return accuracy

    @property
    def accuracy(self) -> float:
        """Accuracy on the test rows."""
        return self.result.metrics.accuracy

    @property
    def estimate(self) -> tuple[float, float, float]:
        """Accuracy on the test rows with its interval."""
        return estimate(self.result.metrics)

    @property
    def place(self) -> tuple[str, str, str, str]:
        """What it stands on, whatever its head: the part that it plays, layer, pooling and network."""
        return self.kind, self.layer, self.pool, self.network

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
        return differs(self.p_value)


def find(rows: Sequence[ProbeRow], kind: str, row: ProbeRow, head: str | None = None) -> ProbeRow | None:
    """The row of another kind on the same layer under the same head, or the one named; pixels have no layer."""
    place = (kind, "pixels", "", "") if kind == "pixels" else (kind, *row.place[1:])
    return next((other for other in rows if other.place == place and other.head == (head or row.head)), None)


def layer_of(row: ProbeRow) -> str:
    """Its layer in a sentence, and of which network where several are probed."""
    return f"{row.layer} of {row.network}" if row.network else row.layer


def of_kind(rows: Sequence[ProbeRow], *kinds: str) -> list[ProbeRow]:
    """The rows that play these parts."""
    return [row for row in rows if row.kind in kinds]


def best_on_validation(rows: Sequence[ProbeRow]) -> ProbeRow:
    """The candidate to choose, as `classify.measure.choice` says."""
    return best_of(of_kind(rows, *CANDIDATES), lambda row: [row.result])


def sized_pool(pool: str, size: int | None) -> str:
    """A pooling with the size of the images, where that is told."""
    return pool if size is None else f"{pool} {size} px"


def standings(rows: Sequence[ProbeRow], best: ProbeRow, plans: Sequence[Plan]) -> tuple[Standing, ...]:
    """Every layer under its own best head, in the order of the rows; plans: one for each network and size of
    the images."""
    heads: dict[tuple[str, str, str, str], list[ProbeRow]] = {}
    for row in of_kind(rows, *CANDIDATES):
        heads.setdefault(row.place, []).append(row)
    # The best of all is the best of its layer, whatever the others come to among themselves.
    chosen = {
        place: best if place == best.place else best_of(here, lambda row: [row.result]) for place, here in heads.items()
    }
    p_values = against_best(best, list(chosen.values()), lambda row: row.saved)
    by_network = {_network_of(vars(plan.wanted[0].key), "weights"): plan for plan in plans}
    read = {row.place: by_network[_network_of(row.result.config)] for row in chosen.values()}
    flops = {
        network: layer_flops(plan, [row.layer for row in chosen.values() if read[row.place] is plan])
        for network, plan in by_network.items()
    }
    number_bytes = 2 if plans[0].request.dtype == "float16" else 4
    standing = []
    for row, p_value in zip(chosen.values(), p_values, strict=True):
        pool = row.result.config.pool
        assert pool is not None  # candidates stand on cached layers
        source = CachedLayer(read[row.place], row.layer, pool)
        better = differs(p_value) and row.accuracy > best.accuracy
        known, views = flops[_network_of(row.result.config)].get(row.layer), source.views
        stored = number_bytes * sum(source.widths) * views
        standing.append(Standing(row, known and views * known, stored, p_value, better))
    return tuple(standing)


def _network_of(fields: Mapping[str, Any], weights: str = "weights_sha256") -> tuple[Any, ...]:
    """What a plan is known by, in its keys and in the configurations of its rows."""
    return fields["backbone"], fields[weights], fields["image_size"]


def layer_flops(plan: Plan, layers: Sequence[str]) -> dict[str, int]:
    """Floating-point operations for one image up to the deepest of the layers joined in each name."""
    files = {layer: CachedLayer(plan, layer, plan.request.pools[0]).wanted for layer in dict.fromkeys(layers)}
    nodes = {layer: [wanted.key.layer for wanted in parts] for layer, parts in files.items()}
    key, request = plan.wanted[0].key, plan.request

    def count() -> str:
        cut = requested_backbone(request).cut(request.image_size)
        return json.dumps({layer: cut.flops(parts) for layer, parts in nodes.items()})

    question = sha256_json([key.backbone, key.image_size, key.weights, nodes])
    return json.loads(remembered_answer(f"operations up to layers, {question}", count))
