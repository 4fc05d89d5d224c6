"""What all trained networks share as scikit-learn style classifiers: labels, checks, the run's record, prediction."""

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from scipy.special import softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted
from torch import nn

from classify.heads.estimator import FitError
from classify.heads.network.batches import Inputs, Ready, Seen
from classify.heads.network.checkpoint import Checkpoint
from classify.heads.network.logits import logits_of
from classify.heads.network.progress import Epoch
from classify.heads.network.settings import TrainingSettings
from classify.heads.network.training import Labelled, Trainee, Trainer
from extract.views import TestViews
from features.datasets import ImageFiles
from features.device import resolve_device, resolve_precision
from features.digests import canonical_json, sha256_rows
from features.preprocessing import Preprocessing
from features.presets import preset_of_earlier
from features.views import Views

_RECORD = ("best_epoch", "n_iter", "stopped_early", "converged", "trained_parameters", "seconds")

OnEpoch = Callable[[Epoch], None]


class TrainedNetwork(ClassifierMixin, BaseEstimator):
    """The base of classifiers that are trained with `Trainer`.

    After fit: classes_, history_ (an `Epoch` each), best_epoch_ (whose weights are kept), n_iter_ (steps),
    stopped_early_, converged_ (whether validation was better before the last epoch; None without validation, and where
    the number of steps is fixed),
    trained_parameters_ and seconds_ (training and validation; preparation left out).
    """

    decides_by_logits: ClassVar[bool] = True
    settings: TrainingSettings | None
    classes: int | None
    test_views: int
    device: str
    classes_: np.ndarray
    network_: Any
    history_: tuple[Epoch, ...]
    best_epoch_: int
    n_iter_: int
    stopped_early_: bool
    converged_: bool | None
    trained_parameters_: int
    seconds_: float

    def _start(self, X: Any, y: Any) -> np.ndarray:
        """Check the labels, set `classes_` and what is derived from the settings; class numbers, int64 (N,)."""
        self._resolve()
        y = _labels(X, y)
        self.classes_ = np.unique(y) if self.classes is None else np.arange(self.classes)
        if len(self.classes_) < 2:
            raise FitError(f"a network needs at least two classes to tell apart, not {len(self.classes_)}; add images")
        if len(self.classes_) > len(y):
            raise FitError(
                f"there are {len(self.classes_)} classes and only {len(y)} training images; give at least one image "
                "of each class, or fewer classes"
            )
        return self._encode(y, "training")

    def _resolve(self) -> None:
        """Where and how to compute on this machine."""
        self._settings = self.settings or TrainingSettings()
        self._device = resolve_device(self.device)
        self._precision = resolve_precision(self._settings.precision, self._device)

    def _encode(self, y: np.ndarray, which: str) -> np.ndarray:
        codes = np.searchsorted(self.classes_, y).clip(max=len(self.classes_) - 1)
        if len(strange := y[self.classes_[codes] != y]):
            raise FitError(
                f"the {which} rows have the label {strange[0].item()!r}, which is none of the {len(self.classes_)} "
                "classes trained on; leave these rows out, or train on that class too"
            )
        return codes.astype(np.int64)

    def _check_batches(self, module: nn.Module, rows: int) -> None:
        norms = any(isinstance(part, nn.modules.batchnorm._NormBase) for part in module.modules())
        if norms and self._settings.batch_norm == "train" and min(self._settings.batch_size, rows) == 1:
            raise FitError(
                "batch norm cannot be trained on batches of one image; give --batch-size 2 or more, or "
                "--batch-norm freeze"
            )

    def _train(
        self,
        trainee: Trainee,
        data: Labelled,
        validation: Labelled | None,
        *,
        checkpoint: Path | str | None,
        identity: dict[str, Any],
        on_epoch: OnEpoch | None,
        last_epoch: int | None,
    ) -> None:
        identity |= {} if last_epoch is None else {"last epoch": last_epoch}
        saved = Checkpoint(checkpoint, identity) if checkpoint is not None else None
        trainer = Trainer(
            trainee,
            data,
            self._settings,
            precision=self._precision,
            validation=validation,
            checkpoint=saved,
            on_epoch=on_epoch,
            last_epoch=last_epoch,
        )
        progress = trainer.run()
        self.history_ = tuple(progress.history)
        self.best_epoch_ = progress.best_epoch
        self.n_iter_ = progress.step
        self.stopped_early_ = progress.stopped_early
        chosen = validation is not None and self._settings.steps is None
        self.converged_ = self.best_epoch_ < self.history_[-1].epoch if chosen else None
        self.trained_parameters_ = sum(p.numel() for p in trainee.module.parameters() if p.requires_grad)
        self.seconds_ = sum(epoch.seconds for epoch in self.history_)

    def _run_to_json(self) -> dict[str, Any]:
        """The run's record as plain JSON."""
        plain = {name: getattr(self, f"{name}_") for name in _RECORD}
        plain |= {} if self.test_views == 1 else {"test_views": self.test_views}
        return {**plain, "history": [dataclasses.asdict(epoch) for epoch in self.history_]}

    def _run_from_json(self, fields: dict[str, Any]) -> None:
        """Take over what `_run_to_json` wrote."""
        for name in _RECORD:
            setattr(self, f"{name}_", fields[name])
        self.history_ = tuple(Epoch(**epoch) for epoch in fields["history"])
        self.test_views = fields.get("test_views", 1)

    def _identity(self, X: Any, codes: np.ndarray, validation: Labelled | None, **more: Any) -> dict[str, Any]:
        """What tells this run from others that might have left a checkpoint in the same folder."""
        held = None if validation is None else sha256_rows(validation.codes)
        return {
            **more,
            **self._settings.to_json(),
            "precision": self._precision,
            "device": self._device.type,
            "training images": [len(codes), _glimpse(X), sha256_rows(codes)],
            "validation images": held,
        }

    def _forward(self) -> nn.Module:
        """The module that gives logits."""
        raise NotImplementedError

    def _source(self, X: Any) -> Inputs:
        """Rows to predict."""
        raise NotImplementedError

    def prepare(self, images: Any) -> torch.Tensor:
        """What the whole network takes for uint8 images: float32 (N, C, H, W), on its device."""
        raise NotImplementedError

    def cropped(self, images: Any) -> torch.Tensor:
        """The same before the normalisation: uint8."""
        raise NotImplementedError

    def normalisation(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and standard deviation, (C,) each, by which `prepare` normalises pixels from 0 to 255."""
        raise NotImplementedError

    def views(self, size: Sequence[int]) -> TestViews | None:
        """What makes of an image of a size (height, width) the views over which is decided, changed as the training
        images were, or as is usual; None where it is the image alone."""
        if self.test_views == 1:
            return None
        return TestViews(Views.changed(self.test_views, self._settings.augment), self.test_views, size)

    def _seen(self) -> Seen | None:
        """What makes these views of prepared images, prepared too; None where it is the image alone."""
        if self.test_views == 1:
            return None
        mean, std = (numbers.view(1, -1, 1, 1).to(self._device) for numbers in self.normalisation())
        views = functools.cache(self.views)

        def seen(ready: torch.Tensor) -> torch.Tensor:
            of_size: Any = views(tuple(ready.shape[-2:]))
            return of_size.to(ready.device)((ready * std + mean).round_()).sub_(mean).div_(std)

        return seen

    @property
    def preprocessing(self) -> Preprocessing | None:
        """What `prepare` does with an image; None where it only normalises, by numbers of its own."""
        return None

    def whole(self) -> nn.Module:
        """The whole network in eval mode: prepared images to logits (N, K)."""
        raise NotImplementedError

    def _frozen(self) -> Callable[[torch.Tensor], torch.Tensor] | None:
        """What runs before the module that gives logits; None where nothing does."""
        return None

    def logits_of_prepared(self, ready: torch.Tensor) -> np.ndarray:
        """Logits, float32 (N, K), of what `prepare` gave: those of the images."""
        check_is_fitted(self)
        return self._logits(Ready(ready, self._frozen(), self._seen()))

    def exact_logits(self, ready: torch.Tensor) -> np.ndarray:
        """The same of the whole network in float32, whatever it trained in."""
        check_is_fitted(self)
        whole = self.whole().float()
        return logits_of(whole, Trainee(whole, whole), Ready(ready, None, self._seen()), "float32", self.test_views)

    def decision_function(self, X: Any) -> np.ndarray:
        """Logits, float32 (N, K)."""
        check_is_fitted(self)
        return self._logits(self._source(X))

    def _logits(self, source: Inputs) -> np.ndarray:
        module = self._forward()
        return logits_of(module, Trainee(module, module), source, self._precision, self.test_views)

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities, float64 (N, K), in the order of `classes_`."""
        return softmax(self.decision_function(X).astype(np.float64), axis=1)

    def predict(self, X: Any) -> np.ndarray:
        """The likeliest class of each row."""
        return self.classes_[self.decision_function(X).argmax(axis=1)]


def _labels(X: Any, y: Any) -> np.ndarray:
    y = np.asarray(y)
    if y.ndim != 1 or len(X) != len(y):
        raise FitError(f"{len(X)} images came with labels of shape {y.shape}; give one label for each")
    return y


def _glimpse(X: Any) -> str:
    """A digest of the first rows: enough to notice another data set under the same settings."""
    content = X.identity.encode() if isinstance(X, ImageFiles) else np.ascontiguousarray(X[:4]).tobytes()
    return hashlib.sha256(content).hexdigest()[:16]


def trained_with(fields: Mapping[str, Any]) -> Preprocessing:
    """The preprocessing in a network's JSON file; where there is none, that of version 0.1.0."""
    if "preprocessing" in fields:
        return Preprocessing.parse(canonical_json(fields["preprocessing"]))
    return preset_of_earlier(fields["backbone"]).at(fields["image_size"])


def labels_to_json(classes: np.ndarray) -> dict[str, Any]:
    """Class labels as plain JSON."""
    return {"labels": classes.tolist(), "type": classes.dtype.str}


def labels_from_json(fields: dict[str, Any]) -> np.ndarray:
    """The labels that `labels_to_json` wrote."""
    return np.array(fields["labels"], dtype=fields["type"])
