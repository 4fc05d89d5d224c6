"""The answer to a probe: sentences, tables and panels of what was found, and the document that is kept."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from classify.experiments.outcome import Outcome
from classify.experiments.probe.entries import CANDIDATES
from classify.experiments.probe.found import ProbeRow, Standing, find, layer_of, of_kind
from classify.experiments.probe.scoring import Scores
from classify.experiments.probe.selecting import Selection
from classify.experiments.probe.tables import rows_table, shown_tables
from classify.experiments.validating import parse_folds
from classify.measure.choice import best_of, by_rank
from classify.measure.outcome import plain_json
from classify.measure.standing import LEVEL
from classify.measure.wording import count, duration, percent
from classify.show.layers import LayerRow, layer_panels
from classify.show.panels import Panel
from classify.show.table import Table
from features.digests import sha256_json

MOST_NAMED = 6  # rows that are as good as the best, in a sentence


@dataclass(frozen=True, eq=False, repr=False)
class ProbeResult(Outcome):
    """What `layerprobe.probe` found.

    Attributes
    ----------
    best : ProbeRow
        The row to choose, by validation: `backbone`, `layer`, `pool`, `head`, `validation` and `accuracy` (0 to 1),
        `saved`.
    rows : tuple of ProbeRow
        All rows, controls among them; `kind` is 'layer', 'random', 'pixels', ...
    standings : tuple of Standing
        Every layer of every network held against the best: p-value, FLOP and bytes for an image.
    equals : tuple of ProbeRow
        Those that cannot be told apart from the best on what it was chosen on.
    scores : Scores or None
        Those that need no training, and CKA.
    selection : Selection or None
        The layers joined greedily, of the network of the best row.
    pass_seconds : float or None
        Seconds of the pass over all layers of the network that the best row is of, training images alone, where it was
        measured.
    pass_images : int
        How many these are.
    tested : str
        What choosing among the candidates comes to, where all images were tested by cross-validation.
    """

    FORMAT: ClassVar[str] = "layerprobe probe"

    question: dict[str, Any]
    rows: tuple[ProbeRow, ...]
    best: ProbeRow
    standings: tuple[Standing, ...]
    scores: Scores | None
    selection: Selection | None
    notes: tuple[str, ...]
    pass_seconds: float | None
    folder: Path
    equals: tuple[ProbeRow, ...] = ()
    pass_images: int = 0
    tested: str = ""

    @property
    def table(self) -> Any:
        """All rows, controls among them, as a pandas DataFrame where pandas is installed, else as a `Table`."""
        try:
            import pandas
        except ImportError:
            return self.all_rows
        return pandas.DataFrame(self.all_rows.records())

    @property
    def all_rows(self) -> Table:
        return rows_table(self.rows)

    @property
    def tables(self) -> tuple[Table, ...]:
        return shown_tables(self.rows, self.best, self.standings, self.scores)

    @property
    def panels(self) -> tuple[Panel, ...]:
        return layer_panels(
            [
                LayerRow(row.kind, row.layer, row.pool, row.head, row.validation, row.estimate, row.network, row.size)
                for row in self.rows
            ]
        )

    @property
    def title(self) -> str:
        config, best = self.best.result.config, self.best
        sizes = ", ".join(str(size) for size in sorted({row.size for row in self.rows} - {0})) or config.image_size
        network = f"{config.backbone} ({config.weights}), {sizes} px"
        if self._networks:
            network = f"{len(self._networks)} networks"
        name = self._name(best) if best.sized else layer_of(best)
        return f"{config.dataset}, {network}\nbest on validation: {name} with {best.head}"

    @cached_property
    def digest(self) -> str:
        """64 hex digits of the question and of the rows that answer it."""
        rows = [[row.kind, row.result.digest] for row in self.rows]
        asked = {name: value for name, value in self.question.items() if name != "notes"}
        return sha256_json([plain_json(asked), rows])

    @property
    def stem(self) -> str:
        """What its files are called: 'probe-mnist-resnet18-<ten digits>'."""
        config, several = self.best.result.config, len(self._networks)
        network = f"{several}-networks" if several else config.backbone
        return f"probe-{config.dataset}-{network}-{self.digest[:10]}"

    @property
    def sentences(self) -> tuple[str, ...]:
        return self.answer()

    def answer(self) -> tuple[str, ...]:
        """The answer as sentences: the best, what is as good, what the controls reach, what extraction costs."""
        metrics = self.best.result.metrics
        low, high = metrics.accuracy_interval
        sentences = [
            f"Best on validation: {self._name(self.best)} with {self.best.head} ({percent(self.best.validation)} %).",
            f"{self.tested[0].upper()}{self.tested[1:]}."
            if self.tested
            else f"On {count(metrics.n)} test images it is right on {percent(self.best.accuracy)} % "
            f"(95 % interval {percent(low)} to {percent(high)}).",
            self._others(),
            self._as_good_there(),
            self._equals(),
            self._better(),
            self._more(),
            self._controls(),
            self._cost(),
        ]
        if self.selection:
            of_it = f" of {self.best.network}" if self._networks else ""
            sentences.append(f"Layers{of_it} joined one by one while validation gained (ridge): {self.selection}.")
        return tuple(sentence for sentence in sentences if sentence)

    def find(self, kind: str, row: ProbeRow, head: str | None = None) -> ProbeRow | None:
        """The row of another kind on the same layer under the same head (or the one named); pixels have no layer."""
        return find(self.rows, kind, row, head)

    def body(self) -> dict[str, Any]:
        rows = self.all_rows.records()
        for record, row in zip(rows, self.rows, strict=True):
            record |= {"config": row.result.config, "chosen": row.result.chosen, "result": row.saved.path.name}
        return {
            "digest": self.digest,
            "best": next(record for record, row in zip(rows, self.rows, strict=True) if row is self.best),
            "rows": rows,
            "equals": [row.saved.path.name for row in self.equals],
            "layers": [_standing(standing) for standing in self.standings],
            "scores": _scores(self.scores) if self.scores else None,
            "selection": vars(self.selection) | {"layer": self.selection.layer} if self.selection else None,
            "pass_seconds": self.pass_seconds,
            "environment": self.best.result.environment,
        }

    @cached_property
    def _networks(self) -> tuple[str, ...]:
        """What each network is called; none where there is one."""
        return tuple(dict.fromkeys(row.network for row in self.rows if row.network))

    def _name(self, row: ProbeRow) -> str:
        pools = {standing.row.pool for standing in self.standings}
        name = f"{row.layer} ({row.pool})" if len(pools) > 1 else row.layer
        name = f"Head2Toe over {name}" if row.kind == "head2toe" else name
        return f"{name} of {row.network}" if row.network else name

    def _listed(self, parts: Sequence[str]) -> str:
        """Layers in a sentence: of several networks or sizes they are too many for all to be named."""
        more = len(parts) - MOST_NAMED if self._networks or self.best.sized else 0
        return f"{', '.join(parts[:MOST_NAMED])} and {more} more" if more > 0 else ", ".join(parts)

    def _standing(self, row: ProbeRow) -> Standing:
        return next(standing for standing in self.standings if standing.row.place == row.place)

    def _as_good(self) -> list[Standing]:
        """The layers that cannot be told apart from the best."""
        return [mine for mine in self.standings if mine.row is not self.best and not mine.distinguishable]

    def _others(self) -> str:
        """What the other networks come to: of each its layer and head that are best on validation."""
        bests = []
        for name in self._networks:
            rows = [row for row in of_kind(self.rows, *CANDIDATES) if row.network == name]
            if name != self.best.network:
                row = best_of(rows, lambda row: [row.result])
                bests.append(f"{self._name(row)} with {row.head} ({percent(row.validation)} %)")
        others = "the other network" if len(bests) == 1 else "each other network"
        return f"On validation the best of {others}: {', '.join(bests)}." if bests else ""

    def _as_good_there(self) -> str:
        """The rows that are as good on what was chosen on, the best of them first."""
        if not self.equals:
            return ""
        folds = self.best.result.config.on_folds
        how = "corrected resampled t-test" if folds else "McNemar's test"
        rows = by_rank(self.equals, lambda row: [row.result])
        named = [f"{self._name(row)} with {row.head} ({percent(row.validation)} %)" for row in rows[:MOST_NAMED]]
        more = f" and {len(rows) - MOST_NAMED} more" if len(rows) > MOST_NAMED else ""
        ahead = max(row.validation for row in rows) > self.best.validation
        why = "; of those the surer one counts, not the larger number" if ahead else ""
        return (
            f"On validation it cannot be told apart ({how}, Holm's correction, 5 %) from {', '.join(named)}{more}{why}."
        )

    def _equals(self) -> str:
        if len(self.standings) < 2:
            return ""
        equals = [standing.row for standing in self._as_good()]
        how = "paired McNemar test on the same test images, Holm's correction, 5 %"
        if not equals:
            other = "Every other layer, of every network," if self._networks else "Every other layer"
            return f"{other} is significantly worse ({how})." if not self._better() else ""
        named = [f"{self._name(row)} with {row.head} ({percent(row.accuracy)} %)" for row in equals]
        return f"Not distinguishable from it ({how}): {self._listed(named)}."

    def _better(self) -> str:
        """What the test set shows and validation did not: said, and not acted upon."""
        better = [standing.row for standing in self.standings if standing.better]
        if not better:
            return ""
        named = self._listed([f"{self._name(row)} with {row.head} ({percent(row.accuracy)} %)" for row in better])
        rows = count(self.best.result.rows["validation"])
        return f"Better than it on the test set: {named}; {rows} validation images were too few to tell them apart."

    def _more(self) -> str:
        """Whether more images would help, from what half of them do."""
        half = self.best.result.extra.half
        if half is None:
            return ""
        reached = f"{percent(half['accuracy'])} % with half of them, {percent(half['whole'])} % with all, out of folds"
        folds = parse_folds(self.best.result.config.validate)
        if folds and folds.repeats > 1:
            # Halves are fitted on the first draw alone, and are held against the same heads there.
            reached += f" drawn once ({percent(self.best.validation)} % with all is the mean of {folds.repeats} draws)"
        if half["p_value"] >= LEVEL:
            return f"Whether more images would help cannot be told: {reached}."
        return f"More images would {'' if half['whole'] > half['accuracy'] else 'not '}help: {reached}."

    def _controls(self) -> str:
        parts = []
        for kind, words in (("random", "random weights"), ("pixels", "raw pixels")):
            if (row := self.find(kind, self.best)) is not None:
                parts.append(f"{percent(row.accuracy)} % on {words}")
        return f"The same head gets {' and '.join(parts)}." if parts else ""

    def _cost(self) -> str:
        parts = []
        for standing in (self._standing(self.best), *self._as_good()):
            flops = f"{standing.flops / 1e9:.2f} GFLOP and " if standing.flops is not None else ""
            parts.append(f"{self._name(standing.row)} {flops}{standing.bytes / 1000:.1f} kB")
        measured = ""
        if self.pass_seconds:
            of_it, images = " of the best network" if self._networks else "", count(self.pass_images)
            measured = f"; one pass makes all layers{of_it}, {images} images in {duration(self.pass_seconds)}"
        return f"To extract an image costs: {self._listed(parts)}{measured}."


def _standing(standing: Standing) -> dict[str, Any]:
    row = standing.row
    return {
        "kind": row.kind,
        **({"backbone": row.network} if row.network else {}),
        "layer": row.layer,
        "pool": row.pool,
        "head": row.head,
        "features": row.width,
        "accuracy": row.accuracy,
        "accuracy_interval": row.result.metrics.accuracy_interval,
        "flops": standing.flops,
        "bytes": standing.bytes,
        "p_value": standing.p_value,
        "distinguishable": standing.distinguishable,
        "better": standing.better,
    }


def _scores(scores: Scores) -> dict[str, Any]:
    return {
        **({"backbones": scores.networks} if scores.networks else {}),
        "layers": scores.layers,
        "rows": scores.rows,
        "scores": [vars(row) for row in scores.scores],
        "cka": {
            **({"backbones": scores.cka_networks} if scores.cka_networks else {}),
            "layers": scores.cka_layers,
            "values": scores.cka,
        },
    }
