"""A saved model as one value: from a result's record to a network and head that classify images as in training.

What to do with an image is known from the record alone: network, weights, layers, pooling, preprocessing, reduction,
head. The features are computed by the code that extraction runs, in the precision that the head was trained on.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.special import softmax

from classify.heads.around import plain_head
from classify.heads.calibrated import Calibrated
from classify.heads.familiar import Guarded
from classify.heads.folds import class_scores, decides_by_logits
from classify.heads.network import NETWORKS
from classify.heads.network.checkpoint import read_network
from classify.heads.network.trained import TrainedNetwork
from classify.heads.on_axes import OnAxes
from classify.measure.results import SavedResult, open_result
from classify.use.choosing import choose_result
from classify.use.images import in_8_bits
from classify.use.reading import LayerReader
from classify.use.weights import backbone_of
from features.backbones import Backbone
from features.datasets.images import Least
from features.datasets.survey import white_among
from features.datasets.white import White
from features.device import resolve_device
from features.digests import sha256_file
from features.errors import UserError
from features.key import CacheKey
from features.named_code import require_trust, trusting
from features.preprocessing import EARLIER, Preprocessing
from features.request import split_names

TRAINED = ("finetune", "scratch", "spottune", "convnet")
_BATCH = 64
UNSURE = "unsure"


@dataclass(frozen=True, eq=False)
class Answers:
    """What a model says of N images, its K outputs in the order of `SavedModel.classes`.

    predicted: int64 (N,), the output that it decides for. scores: (N, K), what decides; with two classes half the
    decision value and its negative. probabilities: (N, K), or None for a head that has none. distance: (N,) to the
    training images, above 1 where an image is unlike them; None for a model that does not know.
    """

    predicted: np.ndarray
    scores: np.ndarray
    probabilities: np.ndarray | None
    distance: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class SavedModel:
    """A trained model with all that goes before it: network, preprocessing, layers, pooling, head.

    Attributes
    ----------
    saved : SavedResult
        Its record.
    classes : tuple of str
        The name of each of the K outputs.
    labels : ndarray of int64, (K,)
        The data set's number of each.
    head : object
        The fitted head or network.
    reader : LayerReader or None
        What gives it features; None for a network that takes images.
    backbone : Backbone or None
        What the features come from; None for such a network.
    """

    saved: SavedResult
    classes: tuple[str, ...]
    labels: np.ndarray
    head: Any
    reader: LayerReader | None
    backbone: Backbone | None

    @classmethod
    def open(
        cls,
        record: SavedResult | Path | str,
        *,
        trust: bool = False,
        weights: str | None = None,
        device: str = "auto",
        exact: bool = False,
    ) -> "SavedModel":
        """The model of a result, or of the record in a file.

        trust: load its head although its SHA-256 is not that of the record (a pickle can run any code), and run the
        code that the record names, if it does. weights: where the backbone's weights are, if they cannot be found.
        exact: compute features in float32 and do not round them, whatever was done in training. Raises UserError where
        head, network or weights were not kept, are not found or are not what they were, and for a result that is known
        to be wrong.
        """
        saved = record if isinstance(record, SavedResult) else open_result(record)
        if saved.fault:
            raise UserError(f"{saved.path} is not used: {saved.fault}; run it again")
        saved.bring_ranges()
        config = saved.result.config
        with trusting(trust):
            if config.head in TRAINED:
                head = load_network(saved, device=device)
                keys = _keys(saved, optional=True)
                backbone = _lower_part(head, keys[0]) if keys else None
            else:
                head = saved.load_head(trust)
                keys = _keys(saved)
                backbone = backbone_of(saved, keys[0], weights)
        if exact:
            keys = tuple(replace(key, precision="float32", dtype="float32") for key in keys)
        reader, crop_mode = None, saved.result.extra.crop_mode or EARLIER
        if backbone is not None:
            reader = LayerReader(backbone, keys, resolve_device(device), crop_mode, config.test_views)
        if reader and not isinstance(head, TrainedNetwork):
            _require_fitting(saved, head, reader.width)
        labels = np.asarray(head.classes_, dtype=np.int64)
        return cls(saved, _names(saved, labels, backbone), labels, head, reader, backbone)

    @property
    def prepare(self) -> Callable[[Any], torch.Tensor]:
        """uint8 images, one array or a list of any sizes, to what the network takes: float32 (N, 3, S, S)."""
        return self.head.prepare if self.reader is None else self.reader.prepare

    @property
    def preprocessing(self) -> Preprocessing | None:
        """What happens to an image before the network; None for the convnet, which takes images as they are."""
        return self.head.preprocessing if self.reader is None else self.reader.prepare.steps

    @property
    def least(self) -> Least | None:
        """Of an image's height and width, those that files are decoded at, at the least."""
        return self.preprocessing.decoded if self.preprocessing else None

    def cropped(self, images: Any) -> torch.Tensor:
        """The same images as `prepare` has them before its normalisation: uint8 (N, channels, H, W)."""
        return self.head.cropped(images) if self.reader is None else self.reader.prepare.cropped(images)

    @functools.cached_property
    def white(self) -> White:
        """What is white in the images that it was trained on, as new ones are read too."""
        try:
            return White.from_json(self.saved.result.extra.white)
        except ValueError as error:
            raise UserError(f"{self.saved.path}: its record's white cannot be ({error}); run it again") from error

    @property
    def batch(self) -> int:
        """How many images are best computed together."""
        return _BATCH if self.reader is None else self.reader.batch

    def answers(self, ready: torch.Tensor) -> Answers:
        """What the model says of prepared images."""
        if isinstance(self.head, TrainedNetwork):
            logits = (
                self.head.logits_of_prepared(ready)
                if self.reader is None
                else self.head.decision_function(self.reader.maps(ready))
            )
            return logit_answers(logits)
        assert self.reader is not None  # a head that is no network takes features
        return head_answers(self.head, self.reader.features(ready))

    def predict(self, images: np.ndarray | Sequence[Any], reject: float = 0.0) -> np.ndarray:
        """The class of each image.

        Parameters
        ----------
        images : ndarray (N, H, W) or (N, H, W, 3), or list of images and paths
            Arrays hold uint8, or what the data set's images held.
        reject : float
            'unsure' where the largest probability is below it, 0 to 1.

        Returns
        -------
        ndarray of str, (N,)

        Raises
        ------
        UserError
            For what is no image, and for a `reject` that cannot be.
        """
        require_probabilities(self, reject)
        names = []
        for _, outputs in self.through(images):
            names.append(np.array([*self.classes, UNSURE])[outputs.predicted])
            if outputs.probabilities is not None:
                names[-1][outputs.probabilities.max(axis=1) < reject] = UNSURE
        return np.concatenate(names)

    def unlike(self, images: np.ndarray | Sequence[Any]) -> np.ndarray:
        """Whether images are unlike the training images.

        Further from the 5th nearest of up to 2,000 training images than 99 % of the training images are, by the cosine
        of their features.

        Parameters
        ----------
        images
            As `predict` takes them.

        Returns
        -------
        ndarray of bool, (N,)

        Raises
        ------
        AttributeError
            For a model that does not know: a network, or one of version 0.1.0.
        """
        parts = []
        for _, outputs in self.through(images):
            if outputs.distance is None:
                raise AttributeError(f"{self.saved.path.name} was saved without what its training images look like")
            parts.append(outputs.distance > 1)
        return np.concatenate(parts)

    def predict_proba(self, images: np.ndarray | Sequence[Any]) -> np.ndarray:
        """The calibrated probability of each class.

        Parameters
        ----------
        images
            As `predict` takes them.

        Returns
        -------
        ndarray of float, (N, K)
            In the order of `classes`.

        Raises
        ------
        AttributeError
            For a head that has scores and no probabilities.
        """
        parts = []
        for _, outputs in self.through(images):
            if outputs.probabilities is None:
                raise AttributeError(f"{type(self.head).__name__} has scores and no probabilities")
            parts.append(outputs.probabilities)
        return np.concatenate(parts)

    def through(self, images: Any) -> Iterator[tuple[torch.Tensor, Answers]]:
        """Images in batches, prepared, and what the model says of them."""
        if not len(images):
            raise UserError("there are no images to classify; give at least one")
        listed = () if isinstance(images, np.ndarray) else images
        white = white_among((Path(image) for image in listed if isinstance(image, str | Path)), self.white)
        for start in range(0, len(images), self.batch):
            ready = self.prepare(in_8_bits(images[start : start + self.batch], white, self.least))
            yield ready, self.answers(ready)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {' '.join(str(self).split())[:200]}>"

    def __str__(self) -> str:
        config, measured = self.saved.result.config, self.saved.result
        place = ", ".join(
            str(config[name]) for name in ("backbone", "layer", "pool", "reading", "unfreeze") if config.get(name)
        )
        validation = measured.validation_accuracy
        kept = "" if validation is None else f", {validation:.2%} on validation"
        return f"{config['head']} for {config['dataset']} ({place}){kept}, {measured.metrics.accuracy:.2%} on test"


def require_probabilities(model: SavedModel, reject: float) -> None:
    """UserError where a model's answers below a probability cannot be rejected."""
    if not 0 <= reject <= 1:
        raise UserError(f"a probability below which nothing is answered is from 0 to 1, not {reject:g}")
    if reject and not hasattr(model.head, "predict_proba"):
        raise UserError(
            f"the {model.saved.result.config.head} in {model.saved.path.name} has no probabilities, by which answers "
            "would be rejected: it is of an earlier version, or had no validation images; train it again"
        )


def load_model(source: SavedResult | Path | str = "results", **options: Any) -> SavedModel:
    """A saved head or network, ready for new images.

    Parameters
    ----------
    source : path or SavedResult
        A record (`results/....json`), or a folder, of which the model best on validation is taken.
    **options
        `dataset`: for which data set the folder's best should be, where there are several. `trust`: read a head that is
        a pickle alone (which can run any code). `weights`: where the backbone's weights are, if they cannot be found.
        `device`: 'auto', 'cpu', 'cuda', ... `exact`: compute features in float32, whatever was done in training.

    Returns
    -------
    SavedModel
        With `predict`, `predict_proba` and `unlike`.

    Raises
    ------
    UserError
        Where head, network or weights are not found or not what they were, and for results that are known to be wrong.

    Examples
    --------
    >>> import layerprobe as lp
    >>> _ = lp.probe("digits", "efficientnet_lite0", ["avgpool", "fc"], "ridge", image_size=32, limit=100,
    ...              limit_test=50, quick=True, jobs=1)
    >>> model = lp.load_model("results", dataset="digits")
    >>> images = lp.open_dataset("digits").load("test").images[:3]
    >>> model.predict(images).shape, model.predict_proba(images).shape
    ((3,), (3, 10))
    """
    return SavedModel.open(choose_result(source, options.pop("dataset", None)), **options)


def load_network(saved: SavedResult, device: str = "auto") -> TrainedNetwork:
    """The trained network of a saved result; UserError where it was not kept or is no longer the one it was."""
    extra, folder = saved.result.extra, saved.network_path
    if extra.network_sha256 is None:
        raise UserError(f"{saved.path}: this result was saved without its network; run it again")
    # Earlier records say nothing about the second file.
    files = {"network.safetensors": extra.network_sha256, "network.json": extra.network_json_sha256}
    for name, digest in files.items():
        path = folder / name
        if not path.is_file() or (digest is not None and sha256_file(path, fresh=True) != digest):
            raise UserError(f"{path}: not the network that {saved.path.name} was written with; run it again")
    require_trust(read_network(folder).get("backbone"), folder)
    return NETWORKS[saved.result.config.head].estimator_class().load(folder, device=device)


def logit_answers(logits: np.ndarray) -> Answers:
    """What a network says by its logits (N, K)."""
    return Answers(logits.argmax(axis=1), logits, softmax(logits.astype(np.float64), axis=1))


def head_answers(head: Any, features: np.ndarray) -> Answers:
    """What a fitted head says of features (N, D)."""
    distance = head.distance(features) if isinstance(head, Guarded) else None
    while isinstance(head, Guarded | OnAxes):
        head, features = head.head, head.given(features)
    probabilities = head.predict_proba(features) if hasattr(head, "predict_proba") else None
    plain: Any = head.head if isinstance(head, Calibrated) else head
    if decides_by_logits(plain):
        scores = plain.decision_function(features)
    else:
        scores = plain.predict_proba(features) if hasattr(plain, "predict_proba") else class_scores(plain, features)
    if scores.ndim == 1:
        scores = np.stack([-scores, scores], axis=1) / 2
    return Answers(np.searchsorted(head.classes_, head.predict(features)), scores, probabilities, distance)


def _lower_part(head: TrainedNetwork, key: CacheKey) -> Backbone:
    """What stands for the source network of a trained one: below the cut its weights are the source's, untouched."""
    network = head.network_
    return Backbone(key.backbone, network.model, "", key.weights, network.backbone.preprocessing)


def _keys(saved: SavedResult, optional: bool = False) -> tuple[CacheKey, ...]:
    """The keys of the features that a head takes, in the order of the layers joined; none where it takes images."""
    result = saved.result
    if optional and not result.keys:
        return ()
    names = split_names(result.config.layer)
    split = "train" if any(name.startswith("train ") for name in result.keys) else "test"
    try:
        keys = tuple(CacheKey.from_json(result.keys[f"{split} {name}"]) for name in names)
        if len({(key.backbone, key.weights, key.preprocessing, key.precision) for key in keys}) > 1:
            raise ValueError("they are of several networks")
    except (KeyError, ValueError) as error:
        raise UserError(
            f"{saved.path}: its record does not say which features its head takes ({error}); run it again"
        ) from error
    return keys


def _require_fitting(saved: SavedResult, head: Any, width: int) -> None:
    """UserError where what was loaded is no classifier of so many features: a file that was trusted may be anything."""
    fitted = plain_head(head)
    takes = getattr(head, "n_features_in_", None)
    if not hasattr(fitted, "predict") or not hasattr(fitted, "classes_") or takes != width:
        raise UserError(
            f"{saved.path}: the head beside it is a {type(head).__name__} of {takes} numbers for an image, and the "
            f"layers in the record give {width}; they do not belong together, so run it again"
        )


def _names(saved: SavedResult, labels: np.ndarray, backbone: Backbone | None) -> tuple[str, ...]:
    """The name of each output: the data set's class, or the source network's own where it has more."""
    names = saved.result.metrics.classes
    if backbone and labels.max() >= len(names):
        names = backbone.categories
    return tuple(names[label] if label < len(names) else f"class {label}" for label in labels)
