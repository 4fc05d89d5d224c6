"""What a network's row is: everything that determines it, what it reads, and the classifier that it trains.

Nothing is extracted or trained here; `classify.experiments.networks` does that.
"""

import dataclasses
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from classify.experiments.sources import CachedLayer
from classify.experiments.training_sets import Change
from classify.heads.network import DRAWN, NETWORKS
from classify.heads.network.batches import Part
from classify.heads.network.network import layer_below
from classify.heads.network.settings import TrainingSettings
from classify.heads.network.trained import TrainedNetwork
from classify.heads.regularizers import RegularizerSpec
from classify.measure.outcome import plain_json
from extract.planning import plan
from features import reading
from features.backbones import load_backbone
from features.cut import Cut
from features.datasets import ImageFiles, Split, open_dataset
from features.device import resolve_device, resolve_precision
from features.digests import sha256_json
from features.errors import UserError
from features.ranges import asks_int8
from features.request import Plan, Request, selected_rows
from features.rows import VALIDATION_SHARE


@dataclass(frozen=True)
class NetworkRow:
    """What a network's row is, before anything is computed.

    request: data, backbone, weights, image size and how maps are computed and stored; its seed is the row's (limits,
    validation split, new weights, order of batches). network: 'finetune', 'scratch' or 'convnet'. unfreeze: the first
    stage that trains (finetune). in_loop: run the frozen part for each batch instead of reading its cached output.
    keep: the trained network is kept with the result. validation: False trains on every row, and the weights after the
    last step are the result. validation_share: of the training rows, held out. change: the training set is
    made worse first.
    fresh_above: weights above this layer are drawn anew (finetune). until: the last stage that trains beside the new
    classifier (finetune; None: all that follow).
    """

    request: Request
    network: str
    settings: TrainingSettings = TrainingSettings()
    unfreeze: str = "all"
    regularizers: tuple[RegularizerSpec, ...] = ()
    in_loop: bool = False
    keep: bool = True
    validation: bool = True
    validation_share: float = VALIDATION_SHARE
    change: Change | None = None
    fresh_above: str | None = None
    until: str | None = None

    def __post_init__(self) -> None:
        request = self.request
        if self.network != "finetune":
            # Drawn weights take nothing from the ones asked for; the images are prepared alike.
            request = dataclasses.replace(request, weights="random" if self.network == "scratch" else request.weights)
            object.__setattr__(self, "unfreeze", "all")
        object.__setattr__(self, "request", request)
        object.__setattr__(self, "settings", dataclasses.replace(self.settings, seed=request.seed))

    @cached_property
    def layer(self) -> str:
        """The cut: what lies below it is frozen."""
        if self.unfreeze == "all":
            return "input"
        backbone = load_backbone(self.request.backbone, self.request.weights, self.request.seed)
        size = backbone.preprocessing.at(self.request.image_size).crop
        return layer_below(Cut(backbone.model, size, backbone.headless), self.unfreeze)

    @property
    def reads_maps(self) -> bool:
        """Whether it trains on cached maps."""
        return self.layer != "input" and not self.in_loop and not self.settings.augment

    @cached_property
    def answer(self) -> Plan:
        """The plan for the maps that it reads; for a network that reads images, one that only says what is what."""
        if not self.reads_maps:
            return plan(dataclasses.replace(self.request, layers=("avgpool",), pools=("avg",)))
        both = plan(dataclasses.replace(self.request, layers=(self.layer,), pools=("avg", "none")))
        # What is one number a channel already is the file that classical heads read.
        sizes = {pool: int(np.prod(both.get(self.layer, "train", pool).shape)) for pool in ("avg", "none")}
        pool = "avg" if sizes["avg"] == sizes["none"] else "none"
        return plan(dataclasses.replace(self.request, layers=(self.layer,), pools=(pool,)))

    @cached_property
    def config(self) -> dict[str, Any]:
        """All that determines the row: two rows with equal configurations are one."""
        source = CachedLayer(self.answer, self.answer.layers[0], self.answer.request.pools[0]).config
        training = {**self.settings.to_json(), "precision": self.precision}
        del training["seed"]
        config = {**source, "layer": self.layer, "head": self.network, "seed": self.request.seed, "refit": False}
        unused = ["pool"] if self.reads_maps else ["pool", "precision", "dtype"]
        apart = self.trunk_precision is not None and source["precision"] != self.precision
        if apart and self.layer != "input" and not self.reads_maps:
            # The frozen part runs for each batch, in a precision of its own.
            unused.remove("precision")
        if self.network == "scratch":
            unused += ["weights", "weights_sha256"]
        elif self.network == "convnet":
            unused += ["weights", "weights_sha256", "backbone", "image_size"]
        else:
            config["unfreeze"] = self.unfreeze
        if self.fresh_above:
            config["fresh_above"] = self.fresh_above
        if self.until:
            config["until"] = self.until
        if self.regularizers:
            config["regularizers"] = [str(spec) for spec in self.regularizers]
        if not self.validation:
            config["validation"] = False
        if self.validation_share != VALIDATION_SHARE:
            config["validation_share"] = self.validation_share
        if self.change:
            config["training_set"] = self.change.name
        if self.layer != "input":
            config["maps"] = "cached" if self.reads_maps else "in the loop"
        return {**{name: value for name, value in config.items() if name not in unused}, "training": training}

    @property
    def precision(self) -> str:
        """The precision of training, `auto` resolved."""
        return resolve_precision(self.settings.precision, resolve_device(self.request.device))

    @property
    def trunk_precision(self) -> str | None:
        """The precision of the frozen part where it runs: that of the maps. None is that of training, which stands in
        for int8: its ranges belong to extraction."""
        asked = self.request.precision
        return None if asks_int8(asked) else asked

    @property
    def digest(self) -> str:
        """What names the row, as in its result."""
        return sha256_json(plain_json(self.config))

    @property
    def label(self) -> str:
        """The row in a few words: 'finetune layer4, bss=0.001'."""
        name = f"{self.network} {self.unfreeze}" if self.network == "finetune" else self.network
        name += f" until {self.until}" if self.until else ""
        drawn = [f"drawn anew above {self.fresh_above}"] if self.fresh_above else []
        return ", ".join([name, *drawn, *map(str, self.regularizers)])

    @property
    def source(self) -> CachedLayer:
        """Where its maps stand, or would."""
        return CachedLayer(self.answer, self.layer, self.answer.request.pools[0])

    def read(self, split: str) -> tuple[Any, np.ndarray, np.ndarray]:
        """Images or maps, labels (N,), and positions (N,) in the split, of the rows selected."""
        if self.reads_maps:
            maps, cached = reading.read_layer(self.answer, self.layer, split)
            return maps, cached.labels(), cached.index()
        data: Split = open_dataset(self.request.dataset).load(split)
        rows = selected_rows(data.labels, self.request, split)
        return take(data.images, rows), data.labels[rows], rows

    def build(self) -> TrainedNetwork:
        """The unfitted classifier."""
        head, request = NETWORKS[self.network], self.request
        shared = {
            "classes": len(self.answer.wanted[0].about.classes),
            "settings": self.settings,
            "device": request.device,
        }
        if self.network == "convnet":
            return head.build(**shared)
        start = {"unfreeze": self.unfreeze, "fresh_above": self.fresh_above, "until": self.until}
        start["trunk_precision"] = self.trunk_precision
        start = start if self.network == "finetune" else {}
        return head.build(
            backbone=request.backbone,
            weights=request.weights,
            weights_seed=request.seed,
            image_size=request.image_size,
            regularizers=self.regularizers,
            **shared,
            **start,
        )


def check_row(row: NetworkRow) -> None:
    """Raise UserError for what cannot be trained as asked, before anything is extracted or trained."""
    if row.validation:
        reading.require_training_rows(row.request)
    else:
        reading.require_splits(row.request, "train", "test")
    if row.regularizers and row.network == "convnet":
        raise UserError("--regularizer acts on a backbone, and the convnet has none; leave it out, or take finetune")
    if row.network in DRAWN and row.settings != row.settings.from_drawn_weights():
        raise UserError(
            f"{row.network} starts from drawn weights: there are neither statistics to freeze nor features to probe; "
            "leave out --batch-norm freeze and --init-head probe"
        )
    row.answer  # noqa: B018 - finds out about unknown layers, weights and files
    # Only these settings can fail on a network that exists; building one to find out takes about a second.
    plain = row.settings.batch_norm == "train" and row.settings.batch_size > 1 and row.settings.init_head == "random"
    if row.regularizers or not plain:
        row.build().check()


def training_image(request: Request) -> Any:
    """The first training image of a request, as a batch of one: a uint8 array."""
    data = open_dataset(request.dataset).load("train")
    row = int(selected_rows(data.labels, request, "train")[0])
    image = data.images.read(row) if isinstance(data.images, ImageFiles) else data.images[row]
    return image[None]


def take(inputs: Any, rows: np.ndarray) -> Any:
    """These rows of images or of maps; of maps without a copy."""
    if isinstance(inputs, ImageFiles):
        return ImageFiles(tuple(inputs.paths[row] for row in rows.tolist()))
    return inputs[rows] if inputs.dtype == np.uint8 else Part(inputs, rows)
