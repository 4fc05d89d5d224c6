"""A network that trains: its epoch is chosen on the validation rows that classical heads choose on.

One that trains from above its input reads the cached maps below the cut; others read images. A run that was killed
carries on from its last epoch, and one that only lacks its test is not trained again: what is trained waits in the
results' folder, in .running-<digest>.

On folds it is trained outside each of them, its epoch chosen on rows held out there, so that the rows inside choose
nothing; the last training, on all rows, ends after the median of these epochs.
"""

import contextlib
import dataclasses
import functools
import shutil
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from scipy.special import log_softmax, softmax

from classify.experiments.kinds.kind import Kind, Learned, Predicted, Training
from classify.experiments.kinds.running import Arrays, kept_arrays, read_fitted, write_fitted
from classify.experiments.settings import Settings
from classify.experiments.sources import Images, Maps, Rows, Source, below, take_images, training_image
from classify.experiments.timing import seconds_for_one
from classify.heads.estimator import FitError
from classify.heads.network import NETWORKS
from classify.heads.network.settings import TrainingSettings
from classify.heads.regularizers import RegularizerSpec, parse_regularizers
from classify.measure.corrections import SEEN_BEFORE, corrections
from classify.measure.record import RowConfig
from classify.measure.wording import duration, percent
from features.datasets import ImageFiles, open_dataset
from features.digests import sha256_file
from features.errors import UserError
from features.ranges import asks_int8
from features.reading import require_splits, require_training_rows
from features.request import Request
from features.rows import train_and_validation
from features.sizes import sizes_of

# The two files of a trained network, by what a record calls the SHA-256 of each.
FILES = {"network_sha256": "network.safetensors", "network_json_sha256": "network.json"}


@dataclass(frozen=True, kw_only=True)
class Network(Kind):
    """A network from `NETWORKS` that trains, with all that determines how.

    unfreeze: the first stage that trains (finetune). until: the last one, beside the new classifier (None: all that
    follow). fresh_above: weights above this layer are drawn anew (finetune). trunk_precision: of the frozen part where
    it runs; None is that of training. test_views: over how many views of an image it decides. training: its seed is the
    row's.
    """

    network: str
    training: TrainingSettings = TrainingSettings()
    unfreeze: str = "all"
    regularizers: tuple[RegularizerSpec, ...] = ()
    fresh_above: str | None = None
    until: str | None = None
    trunk_precision: str | None = None
    test_views: int = 1

    verb: ClassVar[str] = "trained"
    one_at_a_time: ClassVar[bool] = True

    @classmethod
    def on(
        cls,
        request: Request,
        network: str,
        *,
        training: TrainingSettings | None = None,
        unfreeze: str = "all",
        in_loop: bool = False,
        **start: Any,
    ) -> tuple[Source, Self]:
        """The source and the head of a network on a request, whose seed decides new weights and the order of batches.

        in_loop: run the frozen part for each batch instead of reading its cached output. start: the other fields.
        """
        test_views = request.test_views
        request = request.of_one_view()  # what changes a network's images is its training's own
        if not NETWORKS[network].unfreezes:
            unfreeze = "all"
            # Drawn weights take nothing from the ones asked for; the images are prepared alike.
            request = dataclasses.replace(
                request, weights="random" if NETWORKS[network].drawn and NETWORKS[network].backbone else request.weights
            )
        # Where int8 is asked for, its ranges belong to extraction.
        trunk = None if asks_int8(request.precision) else request.precision
        training = dataclasses.replace(training or TrainingSettings(), seed=request.seed)
        start |= {"trunk_precision": trunk, "test_views": test_views}
        head = cls(network=network, training=training, unfreeze=unfreeze, **start)
        # Cached maps hold each image as it is.
        return below(request, unfreeze, in_loop=in_loop or bool(training.augment) or test_views > 1), head

    @property
    def name(self) -> str:
        return self.network

    def label(self, source: Source) -> str:
        name = f"{self.network} {self.unfreeze}" if NETWORKS[self.network].unfreezes else self.network
        name += f" until {self.until}" if self.until else ""
        drawn = [f"reinitialised above {self.fresh_above}"] if self.fresh_above else []
        return ", ".join([name, *drawn, *map(str, self.regularizers)])

    @property
    def unread(self) -> tuple[str, ...]:
        kind = NETWORKS[self.network]
        weights = ("weights", "weights_sha256") if kind.drawn else ()
        return weights if kind.backbone else (*weights, "backbone", "image_size", "preprocessing", "architecture")

    def precision(self, source: Source) -> str:
        """The precision of training, `auto` resolved."""
        from features.device import resolve_device, resolve_precision

        return resolve_precision(self.training.precision, resolve_device(source.request.device))

    def config(self, source: Source, settings: Settings) -> dict[str, Any]:
        precision = self.precision(source)
        training = {**self.training.to_json(), "precision": precision}
        del training["seed"]
        config: dict[str, Any] = {"refit": settings.validate != RowConfig.validate, "training": training}
        if not NETWORKS[self.network].drawn:
            config["unfreeze"] = self.unfreeze
        if self.test_views > 1:
            config["test_views"] = self.test_views
        if isinstance(source, Images) and source.layer != "input":
            trunk = source.first.key.precision
            if self.trunk_precision is not None and trunk != precision:
                # The frozen part runs for each batch, in a precision of its own.
                config["precision"] = trunk
        return config

    def options(self, source: Source, settings: Settings) -> dict[str, Any]:
        cached = "cached" if isinstance(source, Maps) else "in the loop"
        return {
            "fresh_above": self.fresh_above,
            "until": self.until,
            "regularizers": list(map(str, self.regularizers)) or None,
            "corrections": self._corrections(source) or None,
            "maps": None if source.layer == "input" else cached,
        }

    def _corrections(self, source: Source) -> list[str]:
        seen = [SEEN_BEFORE] if self._sees_what_is_written_over(source) else []
        return seen + corrections(spec.name for spec in self.regularizers)

    def _sees_what_is_written_over(self, source: Source) -> bool:
        """Whether a regulariser looks at a layer that a later in-place operation writes over; no stage is one."""
        layers = [layer for spec in self.regularizers for layer in spec.layers]
        if not layers:
            return False
        from features.backbones import requested_backbone

        request = source.request
        cut = requested_backbone(request).cut(request.image_size)
        # What is no layer of it is refused by `check`.
        return any(layer in cut.layers and cut.resolve(layer) in cut.overwritten for layer in layers)

    @classmethod
    def from_config(cls, config: RowConfig, request: Request) -> tuple[Source, Self]:
        return cls.on(
            request,
            config.head,
            training=TrainingSettings.from_json({**(config.training or {}), "seed": request.seed}),
            unfreeze=config.unfreeze or "all",
            in_loop=config.maps == "in the loop",
            regularizers=parse_regularizers(config.regularizers or ()),
            fresh_above=config.fresh_above,
            until=config.until,
        )

    def check(self, source: Source, settings: Settings) -> None:
        if settings.validation:
            require_training_rows(source.request)
        else:
            require_splits(source.request, "train", "test")
        kind = NETWORKS[self.network]
        if self.regularizers and not kind.backbone:
            raise UserError(
                f"--regularizer acts on a backbone, and the {self.network} has none; leave it out, or take finetune"
            )
        if not kind.backbone:
            _require_size(source.request)
        training = self.training
        if kind.drawn and training != training.from_drawn_weights():
            raise UserError(
                f"{self.network} starts from a random initialisation: there are neither statistics to freeze nor "
                "features to probe, and no stage knows more than another; leave out --batch-norm freeze, --init-head "
                "probe and --layer-decay"
            )
        if training.layer_decay != 1 and not kind.unfreezes:
            raise UserError(f"--layer-decay is about the stages of --model finetune, not {self.network}; give 1")
        # Only these settings can fail on a network that exists; building one to find out takes about a second.
        plain = training.batch_norm == "train" and training.batch_size > 1 and training.init_head == "random"
        if self.regularizers or not plain:
            self.build(source).check()

    def build(self, source: Source) -> Any:
        """The unfitted classifier."""
        request, head = source.request, NETWORKS[self.network]
        shared = {
            "classes": len(source.classes),
            "settings": self.training,
            "test_views": self.test_views,
            "device": request.device,
        }
        if not head.backbone:
            return head.build(**shared)
        start = {"unfreeze": self.unfreeze, "fresh_above": self.fresh_above, "until": self.until}
        start["trunk_precision"] = self.trunk_precision
        return head.build(
            backbone=request.backbone,
            weights=request.weights,
            weights_seed=request.seed,
            image_size=request.image_size,
            preparation=request.preparation,
            regularizers=self.regularizers,
            **shared,
            **(start if head.unfreezes else {}),
        )

    def take(self, inputs: Any, rows: np.ndarray) -> Any:
        return take(inputs, rows)

    def learn(self, training: Training) -> Learned:
        if training.how.jobs is not None:
            import torch

            torch.set_num_threads(training.how.jobs)
        try:
            if training.folds is not None:
                return self._learn_on_folds(training, training.folds)
            validation = training.validation
            network, seconds = self._train(training, training.train, validation)
        except FitError:
            # The same settings would fail again; others make a run of their own.
            self.forget(training.place)
            raise
        predicted = network.predict(take(training.required().features, validation)) if len(validation) else None
        chosen = {"epoch": network.best_epoch_} if training.settings.validation and not self.training.steps else {}
        return self._learned(training, network, predicted, chosen=chosen, seconds={"fit": seconds})

    def _train(
        self, training: Training, train: np.ndarray, validation: np.ndarray, last_epoch: int | None = None
    ) -> tuple[Any, float]:
        """A network trained on some of the rows, its epoch chosen on others where there are some, and the seconds that
        it took; carried on from what a killed run left at the training's place."""
        rows, epochs = training.required(), []
        inputs, labels = rows.features, rows.labels
        held = (take(inputs, validation), labels[validation]) if len(validation) else None
        network = self.build(training.source)

        def noted(epoch: Any) -> None:
            epochs.append(epoch.seconds)
            training.tell(epoch)

        started = time.perf_counter()
        fitting = {"checkpoint": training.place / "run", "on_epoch": noted, "last_epoch": last_epoch}
        network.fit(take(inputs, train), labels[train], held, **fitting)
        return network, network.seconds_ + max(0.0, time.perf_counter() - started - sum(epochs))

    def _learn_on_folds(self, training: Training, folds: np.ndarray) -> Learned:
        """Train outside each fold, and then on all rows, for as many epochs as the median network outside one."""
        labels, say = training.required().labels, training.how.say
        places = [(repeat, fold) for repeat, numbers in enumerate(folds) for fold in np.unique(numbers).tolist()]
        logits = np.empty((*folds.shape, len(training.source.classes)))
        epochs: list[int] = []
        searched = 0.0
        for number, (repeat, fold) in enumerate(places, start=1):
            inside = folds[repeat] == fold
            part = training.at(f"fold-{repeat}-{fold}", f"fold {number} of {len(places)}")
            outcome = self.once(part.place, functools.partial(self._out_of_fold, part, inside))
            logits[repeat, inside] = outcome["logits"]
            epochs.append(int(outcome["epoch"]))
            searched += float(outcome["seconds"])
            right = percent(float(np.mean(logits[repeat, inside].argmax(axis=1) == labels[inside])))
            left = len(places) + 1 - number
            say(f"{part.called}: {right} % right; {left} more to train, about {duration(left * searched / number)}")
        last = None if self.training.steps else statistics.median_low(epochs)
        network, seconds = self._train(training, np.arange(len(labels)), np.empty(0, np.int64), last)
        return self._learned(
            training,
            network,
            logits.argmax(axis=2),
            scores=log_softmax(logits[:, :, np.unique(labels)], axis=2),
            chosen={} if last is None else {"epoch": last},
            refit=True,
            seconds={"search": searched, "fit": seconds},
        )

    def _out_of_fold(self, part: Training, inside: np.ndarray) -> Arrays:
        """What a network says of the rows inside a fold that has seen none of them and was chosen on none."""
        rows, settings = part.required(), part.settings
        outside, held = np.flatnonzero(~inside), np.empty(0, np.int64)
        train = outside
        # A class with one image, or group, outside cannot be held out: all epochs are run then.
        with contextlib.suppress(UserError):
            if not self.training.steps:
                groups = None if rows.groups is None else rows.groups[outside]
                share = settings.validation_share
                cut = train_and_validation(rows.labels[outside], settings.seed, share=share, groups=groups)
                train, held = outside[cut[0]], outside[cut[1]]
        network, seconds = self._train(part, train, held)
        logits = network.decision_function(take(rows.features, np.flatnonzero(inside)))
        return {"logits": logits, "epoch": np.array(network.best_epoch_), "seconds": np.array(seconds)}

    def once(self, place: Path, work_out: Callable[[], Arrays]) -> Arrays:
        try:
            arrays = kept_arrays(place.with_suffix(".npz"), work_out)
        except FitError:
            self.forget(place.parent)
            raise
        self.forget(place)
        return arrays

    def _learned(self, training: Training, network: Any, predicted: np.ndarray | None, **fields: Any) -> Learned:
        """What is told of the network that is kept; fields: the others of `Learned`."""
        place, source = training.place, training.source
        network.save(place / "network")
        return Learned(
            # What is tested is what was kept.
            place / "network",
            predicted,
            converged=network.converged_,
            extra={
                "trained_parameters": network.trained_parameters_,
                "epochs": network.history_[-1].epoch,
                "steps": network.n_iter_,
                "stopped_early": network.stopped_early_,
                "history": [dataclasses.asdict(epoch) for epoch in network.history_],
                "regularizer_notes": list(getattr(network, "regularizer_notes_", ())),
                **({"learned": learned} if (learned := getattr(network, "learned_", None)) else {}),
                "predict_one_seconds": seconds_for_one(network.predict, training_image(source.request)),
            },
            **fields,
        )

    def predict(self, classifier: Any, rows: Rows, source: Source) -> Predicted:
        kind = NETWORKS[self.network].estimator_class()
        network = kind.load(classifier, device=source.request.device)
        started = time.perf_counter()
        logits = network.decision_function(rows.features)
        seconds = time.perf_counter() - started
        return Predicted(network.classes_[logits.argmax(axis=1)], softmax(logits.astype(np.float64), axis=1), seconds)

    def tested(self, classifier: Any, rows: Rows, source: Source, keep: bool) -> dict[str, Any]:
        return {key: sha256_file(classifier / name, fresh=True) for key, name in FILES.items()} if keep else {}

    def place(self, digest: str, folder: Path) -> Path:
        return folder / f".running-{digest[:16]}"

    def put_aside(self, content: dict[str, Any], place: Path) -> bool:
        write_fitted(place, {name: value for name, value in content.items() if name != "classifier"})
        # The last epoch's state is of no use any more, and takes three times the network's room.
        shutil.rmtree(place / "run", ignore_errors=True)
        return True

    def take_up(self, place: Path) -> dict[str, Any] | None:
        noted = read_fitted(place)
        return None if noted is None else {"classifier": place / "network", **noted}

    def forget(self, place: Path) -> None:
        shutil.rmtree(place, ignore_errors=True)


def take(inputs: Any, rows: np.ndarray) -> Any:
    """These rows of images, or of maps without a copy."""
    if isinstance(inputs, ImageFiles) or inputs.dtype == np.uint8:
        return take_images(inputs, rows)
    from classify.heads.network.batches import Part

    return Part(inputs, rows)


def _require_size(request: Request) -> None:
    """UserError where all images are of one size that the convnet cannot take; those that differ are resized."""
    from classify.heads.network.convnet import SIDE, require_size

    images = open_dataset(request.dataset).load("train").images
    sizes = {(int(images.shape[1]), int(images.shape[2]))} if isinstance(images, np.ndarray) else set()
    if isinstance(images, ImageFiles) and min(next(sizes_of(images))) < SIDE:
        # What has no header that can be read is named by whoever reads it.
        sizes = set(sizes_of(images)) - {(0, 0)}
    if len(sizes) == 1:
        require_size(*sizes.pop())
