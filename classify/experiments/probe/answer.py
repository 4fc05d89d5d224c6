"""The answer to a probe: a plain value that prints itself, turns into JSON and tables, and draws itself."""

import html
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from classify.experiments.probe.scoring import Scores
from classify.experiments.probe.selecting import Selection
from classify.experiments.standing import ProbeRow, Standing
from classify.measure.outcome import plain_json
from classify.measure.wording import count, duration, percent
from features.digests import sha256_json

FORMAT = "layerprobe probe"
VERSION = 1


@dataclass(frozen=True, eq=False)
class ProbeResult:
    """What a probe found.

    question: what was asked, as plain values. rows: all rows, controls among them. best: the row with the highest
    validation accuracy. standings: every layer held against it. selection: the layers joined greedily, or None.
    scores: those that need no training, or None. notes: what was left out and why. pass_seconds: of the pass over all
    layers, training images alone, where it was measured. folder: where results and figures are kept.
    """

    question: dict[str, Any]
    rows: tuple[ProbeRow, ...]
    best: ProbeRow
    standings: tuple[Standing, ...]
    scores: Scores | None
    selection: Selection | None
    notes: tuple[str, ...]
    pass_seconds: float | None
    folder: Path

    @property
    def table(self):
        """All rows, controls among them: a pandas DataFrame where pandas is installed, else a `Table`."""
        from classify.show.probe_tables import rows_table

        table = rows_table(self)
        try:
            import pandas
        except ImportError:
            return table
        return pandas.DataFrame(table.records())

    @property
    def tables(self) -> tuple:
        """What is shown under the answer: layers x heads with their controls, the standings, widths, scores, CKA."""
        from classify.show.probe_tables import shown_tables

        return shown_tables(self)

    def plot(self, path: Path | str | None = None):
        """The matplotlib figure: accuracy by layer, controls dashed; written to `path` (its ending says how) if given.

        Without an ending both PNG and SVG are written.
        """
        from classify.show.figures import probe_figure, save_figure

        figure = probe_figure(self)
        if path is not None:
            save_figure(figure, path)
        return figure

    @cached_property
    def digest(self) -> str:
        """64 hex digits of the question and of the rows that answer it."""
        rows = [[row.kind, row.result.digest] for row in self.rows]
        asked = {name: value for name, value in self.question.items() if name != "notes"}
        return sha256_json([plain_json(asked), rows])

    @property
    def stem(self) -> str:
        """What its files are called: 'probe-mnist-resnet18-<ten digits>'."""
        config = self.best.result.config
        return f"probe-{config['dataset']}-{config['backbone']}-{self.digest[:10]}"

    def answer(self) -> tuple[str, ...]:
        """The answer as sentences: the best, what is as good, what the controls reach, what extraction costs."""
        low, high = self.best.interval
        metrics = self.best.result.metrics
        sentences = [
            f"Best on validation: {self._name(self.best)} with {self.best.head} ({percent(self.best.validation)} %).",
            f"On {count(metrics.n)} test images it is right on {percent(self.best.accuracy)} % "
            f"(95 % interval {percent(low)} to {percent(high)}).",
            self._equals(),
            self._better(),
            self._controls(),
            self._cost(),
        ]
        if self.selection:
            sentences.append(f"Layers joined one by one while validation gained (ridge): {self.selection}.")
        return tuple(sentence for sentence in sentences if sentence)

    def __str__(self) -> str:
        return "\n\n".join([*self._opening(), *(str(table) for table in self.tables)])

    def _opening(self) -> list[str]:
        notes = [f"note: {note}" for note in self.notes]
        return ["\n".join(self.answer()), *(["\n".join(notes)] if notes else [])]

    def to_markdown(self) -> str:
        """The answer, the notes, and all tables."""
        from classify.show.table import markdown_text

        opening = [" ".join(map(markdown_text, self.answer()))]
        opening += ["\n".join(f"- {markdown_text(note)}" for note in self.notes)] if self.notes else []
        return "\n\n".join([*opening, *(table.to_markdown() for table in self.tables)]) + "\n"

    def _repr_html_(self) -> str:
        lines = "".join(f"<p>{html.escape(line)}</p>" for line in self.answer())
        notes = "".join(f"<p>note: {html.escape(note)}</p>" for note in self.notes)
        return lines + notes + "".join(table.to_html() for table in self.tables)

    def to_csv(self) -> str:
        """All rows, controls among them, with full numbers."""
        from classify.show.probe_tables import rows_table

        return rows_table(self).to_csv()

    def to_json(self) -> dict[str, Any]:
        """Everything as plain values; `results` name the records that hold predictions and environment."""
        from classify.show.probe_tables import rows_table

        rows = rows_table(self).records()
        for record, row in zip(rows, self.rows, strict=True):
            record |= {"config": row.result.config, "chosen": row.result.chosen, "result": row.saved.path.name}
        body = {
            "format": FORMAT,
            "version": VERSION,
            "digest": self.digest,
            "question": self.question,
            "answer": self.answer(),
            "best": next(record for record, row in zip(rows, self.rows, strict=True) if row is self.best),
            "rows": rows,
            "layers": [_standing(standing) for standing in self.standings],
            "scores": _scores(self.scores) if self.scores else None,
            "selection": vars(self.selection) | {"layer": self.selection.layer} if self.selection else None,
            "notes": self.notes,
            "pass_seconds": self.pass_seconds,
            "environment": self.best.result.environment,
        }
        return plain_json(body, "probe")

    def find(self, kind: str, row: ProbeRow, head: str | None = None) -> ProbeRow | None:
        """The row of another kind on the same layer under the same head (or the one named); pixels have no layer."""
        head = head or row.head
        place = ("pixels", "") if kind == "pixels" else (row.layer, row.pool)
        return next(
            (each for each in self.rows if (each.kind, each.layer, each.pool, each.head) == (kind, *place, head)), None
        )

    def _name(self, row: ProbeRow) -> str:
        pools = {each.row.pool for each in self.standings}
        name = f"{row.layer} ({row.pool})" if len(pools) > 1 else row.layer
        return f"Head2Toe over {name}" if row.kind == "head2toe" else name

    def _standing(self, row: ProbeRow) -> Standing:
        return next(
            each
            for each in self.standings
            if (each.row.kind, each.row.layer, each.row.pool) == (row.kind, row.layer, row.pool)
        )

    def _equals(self) -> str:
        if len(self.standings) < 2:
            return ""
        equals = [each.row for each in self.standings if each.row is not self.best and not each.distinguishable]
        how = "paired McNemar test on the same test images, Holm's correction, 5 %"
        if not equals:
            return f"Every other layer does worse, for certain ({how})." if not self._better() else ""
        named = ", ".join(f"{self._name(row)} with {row.head} ({percent(row.accuracy)} %)" for row in equals)
        return f"Not distinguishable from it ({how}): {named}."

    def _better(self) -> str:
        """What the test set shows and validation did not: said, and not acted upon."""
        better = [each.row for each in self.standings if each.better]
        if not better:
            return ""
        named = ", ".join(f"{self._name(row)} with {row.head} ({percent(row.accuracy)} %)" for row in better)
        rows = count(self.best.result.rows["validation"])
        return f"Better than it on the test set: {named}; {rows} validation images were too few to tell them apart."

    def _controls(self) -> str:
        parts = []
        for kind, words in (("random", "random weights"), ("pixels", "raw pixels")):
            if (row := self.find(kind, self.best)) is not None:
                parts.append(f"{percent(row.accuracy)} % on {words}")
        return f"The same head gets {' and '.join(parts)}." if parts else ""

    def _cost(self) -> str:
        named = [self._standing(self.best)]
        named += [each for each in self.standings if each.row is not self.best and not each.distinguishable]
        parts = []
        for each in named:
            flops = f"{each.flops / 1e9:.2f} GFLOP and " if each.flops is not None else ""
            parts.append(f"{self._name(each.row)} {flops}{each.bytes / 1000:.1f} kB")
        measured = ""
        if self.pass_seconds:
            rows = self.best.result.rows["train"] + self.best.result.rows["validation"]
            measured = f"; one pass makes all layers, {count(rows)} images in {duration(self.pass_seconds)}"
        return f"To extract an image costs: {', '.join(parts)}{measured}."


def _standing(standing: Standing) -> dict[str, Any]:
    row = standing.row
    return {
        "kind": row.kind,
        "layer": row.layer,
        "pool": row.pool,
        "head": row.head,
        "features": row.width,
        "accuracy": row.accuracy,
        "accuracy_interval": row.interval,
        "flops": standing.flops,
        "bytes": standing.bytes,
        "p_value": standing.p_value,
        "distinguishable": standing.distinguishable,
        "better": standing.better,
    }


def _scores(scores: Scores) -> dict[str, Any]:
    return {
        "layers": scores.layers,
        "rows": scores.rows,
        "scores": [vars(row) for row in scores.scores],
        "cka": {"layers": scores.cka_layers, "values": scores.cka},
    }
