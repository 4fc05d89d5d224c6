"""What a row is, before anything is computed: inputs, a head, and how that is fitted.

A row's configuration is all that determines its numbers, and its digest names its result. It is written exactly as
version 0.1.0 wrote it: a field that came later is left out at its 0.1.0 meaning, which is its default in `RowConfig`.
`Row.from_config` reads it.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from classify.experiments.kinds.classical import Classical
from classify.experiments.kinds.kind import Kind, Training
from classify.experiments.kinds.network import Network
from classify.experiments.kinds.untouched import Untouched
from classify.experiments.learning_rows import folds_of_rows, learning_rows
from classify.experiments.settings import PLAINLY, How, Settings
from classify.experiments.sources import Rows, Source
from classify.experiments.training_sets import Change, change_called
from classify.heads.network import NETWORKS
from classify.measure.corrections import superseded
from classify.measure.outcome import plain_json
from classify.measure.record import RowConfig
from features.datasets import open_dataset
from features.datasets.catalogue import dataset_plugin
from features.digests import canonical_json, sha256_json
from features.errors import UserError
from features.named_code import require_trust
from features.plugins import plugins
from features.preprocessing import Preparation, Preprocessing
from features.request import Request
from features.views import Views

# The settings that are a part of what a row is.
SETTINGS = tuple(name for name in Settings.__dataclass_fields__ if hasattr(RowConfig, name))


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row of any table.

    shuffled: the training rows' labels are permuted, so that a head can only learn by heart. change: the training set
    is made worse first. keep: the fitted model is kept with the result; that is no part of what the row is.
    """

    source: Source
    head: Kind
    settings: Settings = Settings()
    shuffled: bool = False
    change: Change | None = None
    keep: bool = True

    @cached_property
    def config(self) -> RowConfig:
        """All that determines the row: two rows with equal configurations are one."""
        source, settings = self.source, self.settings
        described = {name: value for name, value in source.config.items() if name not in self.head.unread}
        always = {**described, "head": self.head.name, "seed": settings.seed, **self.head.config(source, settings)}
        options = {
            "validation": settings.validation,
            "validation_share": settings.validation_share,
            "validate": settings.validate if settings.validation else RowConfig.validate,
            "test": settings.test,
            "score": settings.score if settings.validation else RowConfig.score,
            "labels": "shuffled" if self.shuffled else None,
            "training_set": self.change.name if self.change else None,
            "groups": self._groups,
            "plugins": self._plugins() or None,
            **self.head.options(source, settings),
        }
        later = {name: value for name, value in options.items() if value != getattr(RowConfig, name)}
        return RowConfig(plain_json({**always, **later}, "config"))

    @property
    def _groups(self) -> str | None:
        """What decides, besides the labels, which rows are learnt from, chosen on and tested on, if that is drawn."""
        splits, settings = open_dataset(self.source.request.dataset).splits, self.settings
        if "train" not in splits:
            return None
        if settings.test != "split":
            return self.source.groups_sha256(*splits)
        own = settings.validation and "validation" in splits
        if not (self.head.holds_out or settings.validation and not own):
            return None
        return self.source.groups_sha256("train", *(["validation"] if own else []))

    def _plugins(self) -> list[str]:
        """Who brings what is not ours."""
        origins = {getattr(getattr(self.head, "head", None), "plugin", ""), dataset_plugin(self.source.request.dataset)}
        if self.source.config.get("backbone") and self.source.request.backbone in plugins("backbones"):
            from features.architectures import backbone_plugin  # torch comes with it

            origins.add(backbone_plugin(self.source.request.backbone))
        return sorted(filter(None, origins))

    @cached_property
    def digest(self) -> str:
        """64 hex digits that name the row, as in its result."""
        return sha256_json(dict(self.config))

    @cached_property
    def superseded(self) -> RowConfig | None:
        """What version 0.1.0 called this row, where its numbers were wrong or may have been; None where they stand."""
        earlier = {name: value for name, value in self.config.items() if name not in ("revisions", "corrections")}
        preprocessing = self.source.superseded
        if preprocessing and "preprocessing" not in self.head.unread:
            earlier.pop("preprocessing", None)
            earlier["image_size"] = preprocessing["crop"]
        return RowConfig(earlier) if earlier != dict(self.config) else None

    @property
    def label(self) -> str:
        """The row in a few words: 'finetune layer4, bss=0.001', 'layer3 avg ridge shuffled labels'."""
        return f"{self.head.label(self.source)}{' shuffled labels' if self.shuffled else ''}"

    @classmethod
    def from_config(
        cls, config: Mapping[str, Any], *, dataset: str | None = None, weights: str | None = None, keep: bool = True
    ) -> "Row":
        """The row that a configuration describes; UserError where it comes to another one here.

        dataset, weights: where these stand now, as the command line has them; by default those of the same names. Code
        that it names is run where that is trusted (`features.named_code`).
        """
        written = RowConfig(config)
        require_trust(written.backbone, "the record")
        if wrong := superseded(written):
            raise UserError(f"the row cannot be made again as it was: {wrong}; run it anew")
        request = _request(written, dataset, weights)
        kind: type[Kind] = Classical
        if written.head in NETWORKS:
            kind = Untouched if written.head == "untouched" else Network
        source, head = kind.from_config(written, request)
        row = cls(
            source=source,
            head=head,
            settings=Settings(**{name: getattr(written, name) for name in SETTINGS}),
            shuffled=written.labels == "shuffled",
            change=change_called(written.training_set) if written.training_set else None,
            keep=keep,
        )
        here = row.config
        differing = sorted(name for name in {*here, *written} if here.get(name) != written.get(name))
        if row.superseded == written:
            raise UserError(
                "the row cannot be made again: version 0.1.0 computed it wrongly, or may have done; make it anew with "
                "its own command"
            )
        if differing:
            differences = "; ".join(
                f"{name} is {here.get(name)!r} here and {written.get(name)!r} in the record" for name in differing
            )
            raise UserError(
                f"the row cannot be made again: {differences}; say with --dataset or --weights where the right ones are"
            )
        return row

    def check(self) -> None:
        """Raise UserError for what cannot be fitted as asked, before anything is extracted or trained."""
        self.head.check(self.source, self.settings)

    def place(self, folder: Path | str) -> Path:
        """Where the fitted row waits for its test; folder: that of the results."""
        return self.head.place(self.digest, Path(folder))

    def training(self, how: How = PLAINLY) -> Training:
        """What its head learns from: read now, made worse if it is to be, and split."""

        def tell(epoch: Any) -> None:
            how.say(f"{self.label}: {epoch}")
            if how.on_epoch is not None:
                how.on_epoch(self, epoch)

        source, settings = self.source, self.settings
        shared: dict[str, Any] = {"source": source, "settings": settings, "how": how, "tell": tell}
        shared |= {"place": self.place(how.folder), "called": self.label}
        if "train" not in open_dataset(source.request.dataset).splits:
            return Training(**shared)
        rows, train, validation = learning_rows(source, settings, self._worsened)
        if self.shuffled:
            rows = dataclasses.replace(rows, labels=shuffled_labels(rows.labels, settings.seed))
        folds = folds_of_rows(rows, settings)
        return Training(rows=rows, train=train, validation=validation, folds=folds, **shared)

    def _worsened(self, rows: Rows) -> Rows:
        if not self.change:
            return rows
        kept, labels = self.change.apply(rows.labels, self.settings.seed)
        groups = None if rows.groups is None else rows.groups[kept]
        return Rows(self.head.take(rows.features, kept), labels, rows.index[kept], groups)


def network_row(request: Request, network: str, *, settings: Settings | None = None, **options: Any) -> Row:
    """The row of a network on a request, whose seed is the row's.

    options: those of `Network.on` (training, unfreeze, regularizers, in_loop, ...), and keep and change of `Row`.
    """
    outer = {name: options.pop(name) for name in ("keep", "change") if name in options}
    source, head = Network.on(request, network, **options)
    return Row(source=source, head=head, settings=_seeded(settings, request), **outer)


def untouched_row(request: Request, reading: str, settings: Settings | None = None) -> Row:
    """The row of one reading of the untouched network's outputs; UserError where it has none."""
    source, head = Untouched.on(request, reading)
    return Row(source=source, head=head, settings=_seeded(settings, request))


def untouched_rows(request: Request, settings: Settings | None = None) -> tuple[Row, ...]:
    """The rows that there are for a data set: three readings, or its own classes alone where there is no training
    split. UserError where the weights came without a classifier, or with one of fewer classes than there are labels."""
    from classify.heads.network.untouched import READINGS

    readings = READINGS if "train" in open_dataset(request.dataset).splits else ("own",)
    rows = tuple(untouched_row(request, reading, settings) for reading in readings)
    # What the last reading asks for, the others ask for too.
    rows[-1].check()
    return rows


def shuffled_labels(labels: np.ndarray, seed: int) -> np.ndarray:
    """The labels (N,) in an order of their own: as many of each class, and none belongs to its image."""
    return np.random.default_rng([seed, 2]).permutation(labels)


def _seeded(settings: Settings | None, request: Request) -> Settings:
    return dataclasses.replace(settings or Settings(), seed=request.seed)


def _prepared(preprocessing: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a request that come to the preprocessing of a row; UserError where there can be none like it."""
    try:
        return dataclasses.asdict(Preparation.exactly(Preprocessing.parse(canonical_json(preprocessing), "center")))
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"the record's preprocessing, {str(preprocessing)[:80]}, is not known; make the row anew with its own "
            "command"
        ) from error


def _request(config: RowConfig, dataset: str | None, weights: str | None) -> Request:
    """What a configuration asks for."""
    name = str(config.weights)
    # What was drawn is drawn again, whatever weights the rest of the table had.
    random = name.startswith("random (seed ") or config.weights is None
    fields = {field: config[field] for field in ("backbone", "image_size", "precision", "dtype") if field in config}
    if config.preprocessing is not None:
        fields |= _prepared(config.preprocessing)
    if config.maps == "in the loop" and config.training:
        # Where the frozen part has no precision of its own, it is computed in that of training.
        fields.setdefault("precision", config.training["precision"])
    if config.views is not None:
        views = Views.parse(config.views)
        fields |= {"views": views.count, "view_augment": views.augment}
    return Request(
        dataset=dataset or config.dataset,
        weights="random" if random else weights or name,
        limit=config.limit,
        limit_test=config.limit_test,
        seed=config.seed if config.row_seed is None else config.row_seed,
        test_views=config.test_views,
        **fields,
    ).normalised()
