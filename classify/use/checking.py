"""Exported networks held to the model they were made from, on real images, before anybody sees the file."""

import io
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

from classify.heads.familiar import Guarded
from classify.heads.network.trained import TrainedNetwork
from classify.measure.record import RowConfig
from classify.measure.results import recorded_option
from classify.use.images import given_images
from classify.use.saved import Answers, SavedModel, logit_answers
from classify.use.whole import input_shape
from features.datasets import ImageFiles, open_dataset
from features.errors import UserError
from features.first_use import require_used_here

TOLERANCE = 1e-4  # of probabilities; of scores in units of the largest
_MOST = 48


@dataclass(frozen=True, eq=False)
class CheckImages:
    """Real images, uint8 (H, W) or (H, W, 3); where they are from; what the result kept of them, or None."""

    images: Sequence[np.ndarray] | ImageFiles
    origin: str
    predicted: np.ndarray | None = None


@dataclass(frozen=True)
class Agreement:
    """How far an exported network agrees with its model: images, their origin, the largest difference between
    probabilities (or scores, in units of the largest), and how many images get the class that stands in the result
    (None: the images are others)."""

    images: int
    origin: str
    difference: float
    as_in_result: int | None

    def __str__(self) -> str:
        same = f"same classes as the model on {self.images} images ({self.origin})"
        kept = "" if self.as_in_result is None else f"; {self.as_in_result} as in its test"
        return f"{same}, largest difference {self.difference:.1e}{kept}"


def check_images(model: SavedModel, named: Sequence[str] = ()) -> CheckImages:
    """The images to check with: those named, else test images of the model's own data set, else scikit-learn's digits.

    UserError for a named image that cannot be read.
    """
    if named:
        given = list(itertools.islice(given_images(named, io.BytesIO()), _MOST))
        if problems := [image.problem for image in given if image.problem]:
            raise UserError(problems[0])
        paths = tuple(image.source for image in given if isinstance(image.source, Path))
        return CheckImages(ImageFiles(paths, model.white, model.least), "the images named")
    return _own_test_images(model) or _digits(model)


def reference(model: SavedModel, images: Sequence[np.ndarray] | ImageFiles) -> Answers:
    """What a model says in float32; it was opened as `exact`."""
    ready = model.prepare(images)
    if not isinstance(model.head, TrainedNetwork):
        return model.answers(ready)
    return logit_answers(model.head.exact_logits(ready))


def agree(model: SavedModel, checked: CheckImages, expected: Answers, exported: Answers) -> Agreement:
    """How far they agree; UserError where a class differs, or a probability by more than 0.0001."""
    count = len(checked.images)
    same = int(np.count_nonzero(expected.predicted == exported.predicted))
    if expected.probabilities is None:
        difference = float(np.abs(expected.scores - exported.scores).max() / max(1.0, np.abs(expected.scores).max()))
    else:
        difference = float(np.abs(expected.probabilities - exported.probabilities).max())
    if same < count or not difference <= TOLERANCE:
        outputs = "scores" if expected.probabilities is None else "probabilities"
        raise UserError(
            f"the exported network does not do what {model.saved.path.name} does, and was not saved: {count - same} of "
            f"{count} images ({checked.origin}) got another class, and {outputs} differ by up to {difference:.1e}"
        )
    if expected.distance is not None and exported.distance is not None:
        # Squares: the root of a distance near 0 is mostly rounding.
        squares = expected.distance**2
        apart = float((np.abs(squares - exported.distance**2) / np.maximum(1, squares)).max())
        if not apart <= TOLERANCE:
            raise UserError(
                f"the exported network does not do what {model.saved.path.name} does, and was not saved: squared "
                f"distances to the training images differ by up to {apart:.1e} of them on {count} images "
                f"({checked.origin})"
            )
    kept = None
    if checked.predicted is not None:
        kept = int(np.count_nonzero(model.labels[exported.predicted] == checked.predicted))
    return Agreement(count, checked.origin, difference, kept)


def _own_test_images(model: SavedModel) -> CheckImages | None:
    """Test images of the data set that the model was trained on, where it is to be found unchanged."""
    config = model.saved.result.config
    try:
        spec = recorded_option(model.saved, "dataset") or config.dataset
        require_used_here(spec, config.dataset_sha256)
        dataset = open_dataset(spec)
        if dataset.fingerprint() != config.dataset_sha256:
            return None
        kept, data = model.saved.predictions().of_test_split(), dataset.load("test")
        places = np.unique(np.linspace(0, len(kept.rows) - 1, _MOST).astype(int))
        rows = kept.rows[places]
        images: Any = list(data.images[rows]) if isinstance(data.images, np.ndarray) else data.images.take(rows)
        images = images.decoded_at(model.least) if model.least and isinstance(images, ImageFiles) else images
    except (UserError, IndexError):
        return None
    # What was predicted out of folds was not predicted by this model.
    predicted = kept.predicted[places] if config.test == RowConfig.test else None
    return CheckImages(images, f"test images of {dataset.name}", predicted)


def _digits(model: SavedModel) -> CheckImages:
    grey = np.round(load_digits().images[:_MOST] * (255 / 16)).astype(np.uint8)
    if model.reader is None and model.head.preprocessing is None:
        channels, height, width = input_shape(model)
        digits = (Image.fromarray(digit).convert("RGB" if channels == 3 else "L") for digit in grey)
        return CheckImages([np.asarray(digit.resize((width, height))) for digit in digits], "scikit-learn's digits")
    return CheckImages(list(grey), "scikit-learn's digits")


def answers_of(model: SavedModel, outputs: Sequence[Any]) -> Answers:
    """An exported network's outputs as answers: those that `output_names` names."""
    named = dict(zip(output_names(model), map(np.asarray, outputs), strict=True))
    return Answers(named["label"], named["scores"], named.get("probabilities"), named.get("distance"))


def output_names(model: SavedModel) -> list[str]:
    """What an exported network gives out, in this order."""
    names = ["label", "scores"]
    names += ["probabilities"] if hasattr(model.head, "predict_proba") else []
    return names + (["distance"] if isinstance(model.head, Guarded) else [])
