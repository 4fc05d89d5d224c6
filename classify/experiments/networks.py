"""One row for a network: trained on the rows that classical heads train on, its epoch chosen on the same validation
rows, tested once, and kept in the same form.

A network that trains from above its input reads the cached maps below the cut; others read images. A run that was
killed carries on from its last epoch, and one that only lacks its test is not trained again.
"""

import dataclasses
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from classify.experiments.sources import CachedLayer
from classify.experiments.timing import seconds_for_one
from classify.experiments.training_sets import Change
from classify.heads.estimator import FitError, softmax
from classify.heads.network import NETWORKS
from classify.heads.network.batches import Part
from classify.heads.network.network import layer_below
from classify.heads.network.settings import TrainingSettings
from classify.heads.network.trained import TrainedNetwork
from classify.heads.regularizers import RegularizerSpec
from classify.measure.memory import peak_memory
from classify.measure.metrics import measure
from classify.measure.outcome import Predictions, Result, plain_json
from classify.measure.results import SavedResult, find_result, save_result
from extract.commands.ensure import ensure_features
from features import reading
from features.backbones import load_backbone
from features.cut import Cut
from features.datasets import ImageFiles, Split, open_dataset
from features.device import resolve_device, resolve_precision
from features.digests import read_json, sha256_file, sha256_json, write_json
from features.errors import UserError
from features.request import Plan, Request, plan, selected_rows
from features.rows import train_and_validation

Say = Callable[[str], None]
# What is told of every epoch of a row: the row and an `Epoch`.
OnEpoch = Callable[["NetworkRow", Any], None]


@dataclass(frozen=True)
class NetworkRow:
    """What a network's row is, before anything is computed.

    request: data, backbone, weights, image size and how maps are computed and stored; its seed is the row's (limits,
    validation split, new weights, order of batches). network: 'finetune', 'scratch' or 'convnet'. unfreeze: the first
    stage that trains (finetune). in_loop: run the frozen part for each batch instead of reading its cached output.
    keep: the trained network is kept with the result. validation: False trains on every row, and the weights after the
    last step are the result. change: the training set is made worse first.
    fresh_above: weights above this layer are drawn anew (finetune).
    """

    request: Request
    network: str
    settings: TrainingSettings = TrainingSettings()
    unfreeze: str = "all"
    regularizers: tuple[RegularizerSpec, ...] = ()
    in_loop: bool = False
    keep: bool = True
    validation: bool = True
    change: Change | None = None
    fresh_above: str | None = None

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
        if self.network == "scratch":
            unused += ["weights", "weights_sha256"]
        elif self.network == "convnet":
            unused += ["weights", "weights_sha256", "backbone", "image_size"]
        else:
            config["unfreeze"] = self.unfreeze
        if self.fresh_above:
            config["fresh_above"] = self.fresh_above
        if self.regularizers:
            config["regularizers"] = [str(spec) for spec in self.regularizers]
        if not self.validation:
            config["validation"] = False
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
    def digest(self) -> str:
        """What names the row, as in its result."""
        return sha256_json(plain_json(self.config))

    @property
    def label(self) -> str:
        """The row in a few words: 'finetune layer4, bss=0.001'."""
        name = f"{self.network} {self.unfreeze}" if self.network == "finetune" else self.network
        drawn = [f"drawn anew above {self.fresh_above}"] if self.fresh_above else []
        return ", ".join([name, *drawn, *map(str, self.regularizers)])

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
        start = {"unfreeze": self.unfreeze, "fresh_above": self.fresh_above} if self.network == "finetune" else {}
        return head.build(
            backbone=request.backbone,
            weights=request.weights,
            weights_seed=request.seed,
            image_size=request.image_size,
            regularizers=self.regularizers,
            **shared,
            **start,
        )


@dataclass(frozen=True, eq=False)
class FittedNetwork:
    """A row whose network is trained and waits in `folder` for its test; fields are those of the `Result`."""

    row: NetworkRow
    folder: Path
    fields: dict[str, Any]
    validation_rows: np.ndarray | None
    validation_predicted: np.ndarray | None


def check_row(row: NetworkRow) -> None:
    """Raise UserError for what cannot be trained as asked, before anything is extracted or trained."""
    if row.validation:
        reading.require_training_rows(row.request)
    else:
        reading.require_splits(row.request, "train", "test")
    if row.regularizers and row.network == "convnet":
        raise UserError("--regularizer acts on a backbone, and the convnet has none; leave it out, or take finetune")
    if row.network in ("scratch", "convnet") and (row.settings.batch_norm, row.settings.init_head) != (
        "train",
        "random",
    ):
        raise UserError(
            f"{row.network} starts from drawn weights: there are neither statistics to freeze nor features to probe; "
            "leave out --batch-norm freeze and --init-head probe"
        )
    row.answer  # noqa: B018 - finds out about unknown layers, weights and files


def evaluate_network(
    row: NetworkRow,
    *,
    folder: Path | str = "results",
    command: str = "",
    again: bool = False,
    compiled: str = "auto",
    jobs: int | None = None,
    say: Say = print,
    on_epoch: OnEpoch | None = None,
) -> SavedResult:
    """Train and test a network and keep the result in `folder`; one that stands there is returned as it is, unless it
    is to be made `again`."""
    check_row(row)
    if not again and (known := find_result(folder, row.config)) is not None:
        return known
    how = {"again": again, "compiled": compiled, "jobs": jobs, "say": say, "on_epoch": on_epoch}
    fitted = fit_network(row, folder=folder, **how)
    return test_network(fitted, folder=folder, command=command)


def fit_network(
    row: NetworkRow,
    *,
    folder: Path | str = "results",
    again: bool = False,
    compiled: str = "auto",
    jobs: int | None = None,
    say: Say = print,
    on_epoch: OnEpoch | None = None,
) -> FittedNetwork:
    """Train a row's network, or carry on where a killed run stopped; the test split is not opened.

    What is trained waits in `folder`/.running-<digest>, and goes when it has been tested.
    """
    running = Path(folder) / f".running-{row.digest[:16]}"
    if again:
        shutil.rmtree(running, ignore_errors=True)
    if (noted := _noted(running / "fitted.json")) is not None:
        say(f"{row.label}: trained in an earlier run")
        held = [noted.pop(name) for name in ("validation_rows", "predicted")]
        return FittedNetwork(row, running, noted, *(each and np.array(each, dtype=np.int64) for each in held))
    _limit_threads(jobs)
    if row.reads_maps:
        ensure_features(row.answer.request, compiled=compiled, jobs=jobs, quiet=True)
    try:
        running.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: results cannot be kept there ({error.strerror}); choose another folder") from error
    inputs, labels, index = _rows(row, "train")
    if row.change:
        kept, labels = row.change.apply(labels, row.settings.seed)
        inputs, index = _take(inputs, kept), index[kept]
    train, validation = train_and_validation(labels, row.settings.seed, row.validation)
    network, trained_here = row.build(), []

    def told(epoch: Any) -> None:
        trained_here.append(epoch.seconds)
        say(f"{row.label}: {epoch}")
        if on_epoch is not None:
            on_epoch(row, epoch)

    started = time.perf_counter()
    try:
        with peak_memory() as peak:
            network.fit(
                _take(inputs, train),
                labels[train],
                (_take(inputs, validation), labels[validation]) if len(validation) else None,
                checkpoint=running / "run",
                on_epoch=told,
            )
    except FitError:
        # The same settings would fail again; others make a run of their own.
        shutil.rmtree(running, ignore_errors=True)
        raise
    preparing = time.perf_counter() - started - sum(trained_here)
    predicted = network.predict(_take(inputs, validation)) if len(validation) else None
    seconds = {"fit": network.seconds_ + max(0.0, preparing)}
    if row.reads_maps and (extracting := _source(row).extract_seconds()) is not None:
        seconds["extract"] = extracting
    fields = {
        "chosen": {"epoch": network.best_epoch_} if row.validation and not row.settings.steps else {},
        "validation_accuracy": None if predicted is None else float(np.mean(predicted == labels[validation])),
        "refit": False,
        "converged": network.converged_,
        "seconds": seconds,
        "rows": {"train": len(train), "validation": len(validation)},
        "keys": _source(row).keys() if row.reads_maps else {},
        "extra": {
            "places": _source(row).places(),
            "trained_parameters": network.trained_parameters_,
            "epochs": network.history_[-1].epoch,
            "steps": network.n_iter_,
            "stopped_early": network.stopped_early_,
            "history": [dataclasses.asdict(epoch) for epoch in network.history_],
            "regularizer_notes": list(getattr(network, "regularizer_notes_", ())),
            "predict_one_seconds": seconds_for_one(network.predict, _image(row)),
            **peak.to_json(),
        },
    }
    fields = plain_json(fields)
    network.save(running / "network")
    held = (None, None) if predicted is None else (index[validation], predicted)
    lists = (each if each is None else each.tolist() for each in held)
    noted = {**fields, **dict(zip(("validation_rows", "predicted"), lists, strict=True))}
    write_json(running / "fitted.json", {"noted": noted, "sha256": sha256_json(noted)})
    # The last epoch's state is of no use any more, and takes three times the network's room.
    shutil.rmtree(running / "run", ignore_errors=True)
    return FittedNetwork(row, running, fields, *held)


def test_network(fitted: FittedNetwork, *, folder: Path | str = "results", command: str = "") -> SavedResult:
    """Test a trained network and keep the result; the test split is opened here."""
    row = fitted.row
    network = NETWORKS[row.network].estimator_class().load(fitted.folder / "network", device=row.request.device)
    inputs, labels, index = _rows(row, "test")
    started = time.perf_counter()
    logits = network.decision_function(inputs)
    seconds = time.perf_counter() - started
    predictions = Predictions(
        rows=index,
        labels=labels,
        predicted=network.classes_[logits.argmax(axis=1)],
        probabilities=softmax(logits.astype(np.float64)),
        validation_rows=fitted.validation_rows,
        validation_predicted=fitted.validation_predicted,
    )
    weights = fitted.folder / "network" / "network.safetensors"
    classes = row.answer.wanted[0].about.classes
    result = Result(
        config=row.config,
        metrics=measure(labels, predictions.predicted, predictions.probabilities, classes),
        command=command,
        **{
            **fitted.fields,
            "seconds": {**fitted.fields["seconds"], "predict": seconds},
            "rows": {**fitted.fields["rows"], "test": len(labels)},
            "extra": {**fitted.fields["extra"], **(_digests(weights.parent) if row.keep else {})},
        },
    )
    place = Path(folder) / result.stem
    shutil.rmtree(place, ignore_errors=True)
    if row.keep:
        shutil.copytree(weights.parent, place)
    saved = save_result(folder, result, predictions)
    shutil.rmtree(fitted.folder, ignore_errors=True)
    return saved


# pytest would take the name for that of a test.
test_network.__test__ = False


def load_network(saved: SavedResult, device: str = "auto") -> TrainedNetwork:
    """The trained network of a saved result; UserError where it was not kept or is no longer the one it was."""
    wanted = saved.result.extra.get("network_sha256")
    folder = saved.path.with_suffix("")
    if wanted is None:
        raise UserError(f"{saved.path}: this result was saved without its network; run it again")
    weights, about = folder / "network.safetensors", folder / "network.json"
    # Earlier records say nothing about the second file.
    for path, digest in ((weights, wanted), (about, saved.result.extra.get("network_json_sha256"))):
        if not path.is_file() or (digest is not None and sha256_file(path, fresh=True) != digest):
            raise UserError(f"{path}: not the network that {saved.path.name} was written with; run it again")
    return NETWORKS[saved.result.config["head"]].estimator_class().load(folder, device=device)


def _digests(folder: Path) -> dict[str, str]:
    """What a record says of the network's two files."""
    names = {"network_sha256": "network.safetensors", "network_json_sha256": "network.json"}
    return {key: sha256_file(folder / name, fresh=True) for key, name in names.items()}


def training_image(request: Request) -> Any:
    """The first training image of a request, as a batch of one: a uint8 array."""
    data = open_dataset(request.dataset).load("train")
    row = int(selected_rows(data.labels, request, "train")[0])
    image = data.images.read(row) if isinstance(data.images, ImageFiles) else data.images[row]
    return image[None]


def _noted(path: Path) -> dict[str, Any] | None:
    """What was noted of a trained network; None where there is nothing, or not what was written: it trains again."""
    note = read_json(path)
    noted = note.get("noted") if isinstance(note, dict) else None
    return noted if isinstance(noted, dict) and note.get("sha256") == sha256_json(noted) else None


def _image(row: NetworkRow) -> Any:
    return training_image(row.request)


def _source(row: NetworkRow) -> CachedLayer:
    return CachedLayer(row.answer, row.layer, row.answer.request.pools[0])


def _rows(row: NetworkRow, split: str) -> tuple[Any, np.ndarray, np.ndarray]:
    """(images or maps, labels, positions) of a split's selected rows."""
    if row.reads_maps:
        maps, cached = reading.read_layer(row.answer, row.layer, split)
        return maps, cached.labels(), cached.index()
    data: Split = open_dataset(row.request.dataset).load(split)
    rows = selected_rows(data.labels, row.request, split)
    return _take(data.images, rows), data.labels[rows], rows


def _take(inputs: Any, rows: np.ndarray) -> Any:
    if isinstance(inputs, ImageFiles):
        return ImageFiles(tuple(inputs.paths[row] for row in rows.tolist()))
    return inputs[rows] if inputs.dtype == np.uint8 else Part(inputs, rows)


def _limit_threads(jobs: int | None) -> None:
    if jobs is not None:
        import torch

        torch.set_num_threads(jobs)
