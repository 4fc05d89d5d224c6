"""What is wrong with a data set, or may be, before anything is trained: what its files say, and what one layer's
features say of its labels, of images that are nearly the same and of images that are unlike all others.

Test images and their labels are looked at like all others. Nothing is chosen by what is found, but whoever corrects a
data set by it has looked at his test set.
"""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from classify.experiments.outcome import Outcome
from classify.experiments.settings import Say
from classify.experiments.sources import CachedLayer, Rows
from classify.measure.environment import this_environment
from classify.measure.glances import SIDE, glances
from classify.measure.suspicion import (
    NEAR,
    NEAR_AT_A_GLANCE,
    contradicted,
    far_from_all,
    near_duplicates,
    out_of_fold,
)
from classify.measure.wording import percent
from classify.show.panels import Panel
from classify.show.table import Cell, Column, Table, table_of
from features.commands.speaking import not_again
from features.datasets import Dataset, open_dataset
from features.datasets.catalogue import READABLE
from features.datasets.findings import Finding, Item
from features.datasets.survey import AbsentImages, UnreadableImages
from features.digests import sha256_json
from features.first_use import ChangedContent, note_looked_at
from features.request import Request

HEAD = "logistic"  # whose out-of-fold predictions the labels are held against
MOST_NAMED = 3  # images that a line names
MOST_SHOWN = 8  # images of a finding in a table for people


@dataclass(frozen=True)
class SplitSize:
    """How many images a split has, and its largest and smallest classes with theirs."""

    split: str
    images: int
    classes: int
    largest: str
    most: int
    smallest: str
    least: int

    @property
    def share(self) -> float:
        """Of the largest class."""
        return self.most / self.images


@dataclass(frozen=True, eq=False)
class CheckOutcome(Outcome):
    """What a check found. findings: in the order in which they were looked for; none where all is well."""

    FORMAT: ClassVar[str] = "layerprobe check"

    dataset: str
    sizes: tuple[SplitSize, ...]
    findings: tuple[Finding, ...]
    question: dict[str, Any]
    notes: tuple[str, ...] = ()
    folder: Path = Path("results")
    panels: ClassVar[tuple[Panel, ...]] = ()

    @property
    def sentences(self) -> tuple[str, ...]:
        return tuple(finding.line for finding in self.findings)

    @property
    def tables(self) -> tuple[Table, ...]:
        shown = _items_table(self.findings, MOST_SHOWN)
        return (shown, self.sizes_table) if shown.rows else (self.sizes_table,)

    @property
    def sizes_table(self) -> Table:
        """Images and classes of each split."""
        return table_of("images of each split", self.sizes, _SIZES)

    @property
    def all_rows(self) -> Table:
        return _items_table(self.findings, None)

    @property
    def title(self) -> str:
        return self.dataset

    @cached_property
    def stem(self) -> str:
        """What a document of it is called: 'check-folder-photos-<ten digits>'."""
        digest = sha256_json([self.question, [finding.to_json() for finding in self.findings]])
        return f"check-{self.dataset}-{digest[:10]}"

    @property
    def summary(self) -> str:
        """What was looked at, in a line."""
        images = sum(size.images for size in self.sizes)
        parts = ", ".join(f"{size.split} {size.images:,}" for size in self.sizes)
        first = self.sizes[0]
        largest = f"the largest, '{first.largest}', is {percent(first.share)} % of {first.split}"
        return f"looked at {images:,} images ({parts}) of {first.classes} classes; {largest}"

    def body(self) -> dict[str, Any]:
        return {
            "dataset": self.dataset,
            "splits": self.sizes_table.records(),
            "findings": [finding.to_json() for finding in self.findings],
            "environment": this_environment(),
        }


def check(
    request: Request,
    *,
    features: bool = True,
    results: Path | str = "results",
    compiled: str = "auto",
    jobs: int | None = None,
    say: Say = lambda line: None,
) -> CheckOutcome:
    """Look at the data set of a request, all its splits; the features of its first layer are extracted where missing.

    features: without them only what the files say is looked at, and no network runs. say: told what is worked on.
    UserError where the data set cannot be read at all; images that cannot be read are findings.
    """
    request = request.normalised()
    findings: list[Finding] = []
    readable = dataclasses.replace(request, dataset=READABLE + request.dataset.removeprefix(READABLE))
    try:
        dataset = open_dataset(request.dataset)
    except AbsentImages as error:
        findings.append(Finding("absent", str(error).removesuffix(error.ADVICE)))
        request, dataset = readable, open_dataset(readable.dataset)
    try:
        survey = dataset.survey()
    except UnreadableImages as error:
        findings.append(_unreadable(dataset, error))
        request, dataset = readable, open_dataset(readable.dataset)
        survey = dataset.survey()
    findings += survey.findings
    if features:
        # They are the answer here, and not what is said on the way to one.
        not_again(remark for remark in survey.remarks if any(remark.endswith(finding.line) for finding in findings))
        try:
            findings += _in_features(request, dataset, compiled=compiled, jobs=jobs, say=say)
        except ChangedContent as error:
            # Whoever corrects what was found asks again: what the files say is told all the same.
            findings.append(Finding("changed", str(error)))
    question = {"request": request.to_json(), "features": features, "dataset_sha256": dataset.fingerprint()}
    note_looked_at(request.dataset, dataset.fingerprint())
    return CheckOutcome(
        dataset=dataset.name,
        sizes=tuple(_sizes(dataset)),
        findings=tuple(findings),
        question=question,
        folder=Path(results),
    )


def _unreadable(dataset: Dataset, error: UnreadableImages) -> Finding:
    # Of a list that has such images nothing can be loaded; its paths are relative to what they all lie in.
    root = getattr(dataset, "root", None)
    folder = root if root is None or root.is_dir() else root.parent
    items = []
    for path, reason in error.reasons.items():
        inside = folder is not None and path.is_relative_to(folder)
        items.append(Item(str(path.relative_to(folder)) if inside and folder else str(path), says=reason))
    named = [f"{item.path}: {item.says}" for item in items]
    are = "1 image cannot" if len(items) == 1 else f"{len(items):,} images cannot"
    return Finding("unreadable", f"{are} be read ({_some(named)}); the rest is looked at without", tuple(items))


def _sizes(dataset: Dataset) -> Iterator[SplitSize]:
    for split in dataset.splits:
        labels = dataset.load(split).labels
        counts = np.bincount(labels, minlength=len(dataset.classes))
        there = np.flatnonzero(counts)
        most, least = int(counts.argmax()), int(there[counts[there].argmin()])
        yield SplitSize(
            split,
            len(labels),
            len(there),
            dataset.classes[most],
            int(counts[most]),
            dataset.classes[least],
            int(counts[least]),
        )


def _in_features(request: Request, dataset: Dataset, *, compiled: str, jobs: int | None, say: Say) -> Iterator[Finding]:
    """What the features of all splits together say."""
    from classify.heads import HEADS
    from extract.planning import plan

    planned = plan(request)
    layer, pool = planned.distinct()[0]
    source = CachedLayer(planned, layer, pool)
    source.ensure(compiled=compiled, jobs=jobs)
    read = {split: source.read(split) for split in planned.splits}
    rows = _Rows(dataset, read)
    say(f"comparing {len(rows.labels):,} images with each other across splits")
    yield from _nearly_the_same(rows, layer)
    say(f"fitting {HEAD} on {layer}, on all folds but one in turn")
    probabilities = out_of_fold(
        rows.features, rows.labels, rows.together, lambda: HEADS[HEAD].build(seed=request.seed), request.seed
    )
    wrong = contradicted(probabilities, rows.labels)
    if wrong:
        items = tuple(
            rows.item(
                suspect.row,
                f"'{dataset.classes[suspect.other]}' ({suspect.other_probability:.0%})",
                suspect.own_probability,
            )
            for suspect in wrong
        )
        named = [f"{item.path}, labelled '{item.label}': {item.says}" for item in items]
        count = "1 label is" if len(items) == 1 else f"{len(items):,} labels are"
        yield Finding(
            "contradicted label",
            f"{count} contradicted by {HEAD} on {layer}, fitted without the image ({_some(named, '; ')}); look at them",
            items,
        )
    far, times = far_from_all(rows.features)
    if len(far):
        items = tuple(
            rows.item(int(row), f"{ratio:.2f} times as far as usual", float(ratio))
            for row, ratio in zip(far, times, strict=True)
        )
        count = "1 image is" if len(items) == 1 else f"{len(items):,} images are"
        yield Finding(
            "unlike all others",
            f"{count} unlike all others in {layer} ({_some([item.path for item in items])}): "
            f"{times[-1]:.2f} to {times[0]:.2f} times as far from the tenth nearest as usual"
            if len(items) > 1
            else f"{count} unlike all others in {layer} ({items[0].path}): {items[0].says} from the tenth nearest",
            items,
        )


def _nearly_the_same(rows: "_Rows", layer: str) -> Iterator[Finding]:
    splits = list(rows.numbers)
    for place, split in enumerate(splits):
        for other in splits[:place]:
            equal = {rows.content[row] for row in rows.numbers[other].tolist()}
            second = np.array(
                [row for row in rows.numbers[split].tolist() if rows.content[row] not in equal], dtype=np.int64
            )
            in_features = near_duplicates(rows.features, rows.numbers[other], second)
            at_a_glance = near_duplicates(rows.glances, rows.numbers[other], second, NEAR_AT_A_GLANCE, 0.0)
            # An image that is near in both ways is named once.
            pairs = {
                int(row): (int(twin), float(distance))
                for near in (at_a_glance, in_features)
                for row, twin, distance in zip(*near, strict=True)
            }
            if not pairs:
                continue
            items = tuple(
                rows.item(row, f"nearly {rows.item(twin).path} in {other}", distance)
                for row, (twin, distance) in sorted(pairs.items(), key=lambda pair: (pair[1][1], pair[0]))
            )
            are = "is" if len(items) == 1 else "are"
            named = [f"{item.path}, {item.says}" for item in items]
            yield Finding(
                f"nearly in {other}",
                f"{len(items)} of {len(rows.numbers[split])} {split} images {are} nearly the same as one in {other} "
                f"({_some(named, '; ')}): closer in {layer} than {NEAR} of the distance to the tenth nearest, or than "
                f"{NEAR_AT_A_GLANCE} of it as {SIDE} x {SIDE} grey pixels",
                items,
            )


class _Rows:
    """The rows of all splits together, which can be told apart again.

    features (N, D), labels (N,); numbers: for each split its rows among all; content: equal for equal images.
    """

    def __init__(self, dataset: Dataset, read: dict[str, Rows]) -> None:
        self._dataset, self._read = dataset, read
        self.features = np.concatenate([rows.features for rows in read.values()])
        self.labels = np.concatenate([rows.labels for rows in read.values()])
        ends = np.cumsum([len(rows.labels) for rows in read.values()])
        self.numbers = dict(zip(read, np.split(np.arange(len(self.labels)), ends[:-1]), strict=True))
        self.content: list[str] = []
        for split, rows in read.items():
            digests = dataset.digests(split)
            own = rows.index.tolist()
            self.content += [digests[row] for row in own] if digests else [f"{row} of {split}" for row in own]

    @cached_property
    def glances(self) -> np.ndarray:
        """The images themselves (N, D), small and grey."""
        return np.concatenate(
            [glances(self._dataset.load(split).images, rows.index.tolist()) for split, rows in self._read.items()]
        )

    def item(self, row: int, says: str = "", value: float | None = None) -> Item:
        """A row as findings name it."""
        split = next(split for split, numbers in self.numbers.items() if len(numbers) and row <= numbers[-1])
        place = int(self._read[split].index[row - self.numbers[split][0]])
        label = self._dataset.classes[self.labels[row]]
        return Item(self._dataset.name_of(split, place), split, place, label, says, value)

    @property
    def together(self) -> np.ndarray:
        """Codes (N,) that are equal for rows of one group, and for copies, which know each other's label."""
        codes = self._dataset.together(*self._read)
        if codes is None:
            return np.arange(len(self.labels))
        return np.concatenate([own[rows.index] for own, rows in zip(codes, self._read.values(), strict=True)])


def _items_table(findings: tuple[Finding, ...], most: int | None) -> Table:
    """The images of all findings, a line each; most: of one finding."""
    pairs = [(finding, item) for finding in findings for item in finding.items[:most]]
    left = sum(len(finding.items) for finding in findings) - len(pairs)
    more = [f"{left:,} more: see --json, --csv or the page that `report` makes"] if left else []
    return table_of("what was found", pairs, _ITEMS, more)


def _some(texts: list[str], between: str = ", ") -> str:
    """The first of some texts."""
    more = f" and {len(texts) - MOST_NAMED} more" if len(texts) > MOST_NAMED else ""
    return between.join(texts[:MOST_NAMED]) + more


_ITEMS: tuple[Cell, ...] = (
    (Column("finding", align="left"), lambda pair: pair[0].kind),
    (Column("image", align="left", path=True), lambda pair: pair[1].path),
    (Column("says", "what", align="left", path=True), lambda pair: pair[1].says or None),
    (Column("label", align="left"), lambda pair: pair[1].label or None),
    (Column("split", align="left"), lambda pair: pair[1].split or None),
    (Column("value", format=lambda value: "" if value is None else f"{value:.3f}"), lambda pair: pair[1].value),
)
_SIZES: tuple[Cell, ...] = (
    (Column("split", align="left"), lambda size: size.split),
    (Column("images"), lambda size: size.images),
    (Column("classes"), lambda size: size.classes),
    (Column("largest", "largest class", align="left"), lambda size: size.largest),
    (Column("most", "images"), lambda size: size.most),
    (Column("share", "%", format=percent), lambda size: size.share),
    (Column("smallest", "smallest class", align="left"), lambda size: size.smallest),
    (Column("least", "images"), lambda size: size.least),
)
