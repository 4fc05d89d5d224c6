"""The frozen trunk as a scikit-learn transformer over arrays of images, for pipelines and notebooks.

It computes what `python -m extract` computes, without the cache.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from extract.int8_ranges import ranges_on
from extract.preprocess import Preprocessor
from extract.trunk import Output, Trunk, choose_recipe, in_halves
from features.backbones import load_backbone
from features.commands.speaking import tell_once
from features.datasets.given import image_of
from features.datasets.images import Least, read_image
from features.datasets.white import FULL, whole_white
from features.device import resolve_device, resolve_precision
from features.pooling import canonical_pool, parse_pool, pooled_shape
from features.preprocessing import Preparation, Preprocessing
from features.presets import preset_of_earlier
from features.ranges import RANGE_ROWS, keep_ranges


class FeatureExtractor(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """What a layer of a frozen network makes of images, as a scikit-learn transformer without the cache.

    Nothing is learnt: `fit` loads the network and looks at the images. These are uint8 (N, H, W), (N, H, W, 3) or
    (N, 3, H, W), or of the same shapes floats in [0, 1], or wider integers of which the largest in `fit` settles what
    is white; or a list of paths, of PIL images or of uint8 arrays, of any sizes. Features are float32 (N, D), or
    (N, C, H, W) with pool='none'.

    Parameters
    ----------
    backbone, layer, pool, weights
        As `probe` takes them; layer may be any node. pool='none' keeps the maps.
    image_size, crop_mode, resize, interpolation, mean, std, decode
        How an image becomes what the network takes, sizes in pixels; by default as its weights want it. decode='draft'
        decodes large JPEG files at a half, a quarter or an eighth, which is several times as fast.
    precision : {'auto', 'float32', 'bfloat16', 'float16', 'int8'}
        Of the computation; 'auto' is bfloat16 where the processor has it. int8 settles its ranges on 256 images in
        `fit`.
    device : str
        'auto', 'cpu', 'cuda', 'cuda:1' or 'mps'.
    random_state : int
        Of random weights.

    Attributes
    ----------
    n_features_out_ : int
        Numbers per image.
    image_shape_ : tuple of int
        Of one image; None of a list.
    white_ : float
        What is white where images are integers wider than a byte: 255, 1,023, 4,095, 16,383 or 65,535.
    weights_sha256_ : str
        SHA-256 of the network's tensors.
    preprocessing_ : Preprocessing
        What happens to an image before the network.
    ranges_ : dict
        Of int8.

    Examples
    --------
    >>> import layerprobe as lp
    >>> images = lp.open_dataset("digits").load("test").images[:8]
    >>> extractor = lp.FeatureExtractor("efficientnet_lite0", "avgpool", image_size=32)
    >>> extractor.fit_transform(images).shape
    (8, 1280)
    """

    weights_sha256_: str
    preprocessing_: Preprocessing

    def __init__(
        self,
        backbone: str = "resnet18",
        layer: str = "avgpool",
        *,
        pool: str = "avg",
        weights: str = "default",
        image_size: int | None = None,
        crop_mode: str = "center",
        resize: int | None = None,
        interpolation: str | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        decode: str = "full",
        precision: str = "auto",
        device: str = "auto",
        random_state: int = 0,
    ) -> None:
        self.backbone = backbone
        self.layer = layer
        self.pool = pool
        self.weights = weights
        self.image_size = image_size
        self.crop_mode = crop_mode
        self.resize = resize
        self.interpolation = interpolation
        self.mean = mean
        self.std = std
        self.decode = decode
        self.precision = precision
        self.device = device
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None) -> "FeatureExtractor":
        """Load the network and look at the shape of the images; for int8, settle its ranges on 256 of them.

        Parameters
        ----------
        X : ndarray, (N, H, W) or (N, H, W, 3)
            uint8, floats from 0 to 1, or wider integers, of which the largest settles what is white.
        y : ignored

        Returns
        -------
        FeatureExtractor
            Itself.

        Raises
        ------
        ValueError
            Where X is no images; features.errors.UserError where there is no such network, layer or file of weights.
        """
        self.white_ = _white(X)
        images = _as_images(X, self.white_)
        self.image_shape_ = images.shape[1:] if isinstance(images, np.ndarray) else None
        # What an earlier fit knew is over; it binds only `transform` after loading from a file.
        for learned in ("weights_sha256_", "preprocessing_", "ranges_"):
            self.__dict__.pop(learned, None)
        self._load(images)
        return self

    def transform(self, X: Any) -> np.ndarray:
        """The features of images.

        Parameters
        ----------
        X : ndarray
            Images of the shape that `fit` saw.

        Returns
        -------
        ndarray of float32, (N, D), or (N, C, H, W) with pool='none'

        Raises
        ------
        ValueError
            For images of another shape or range, and where the weights have changed since `fit`.
        """
        check_is_fitted(self, "image_shape_")
        # Version 0.1.0 took 255 for white in all whole numbers.
        images = _as_images(X, getattr(self, "white_", FULL))
        if isinstance(images, np.ndarray) and self.image_shape_ not in (None, images.shape[1:]):
            raise ValueError(
                f"X has images of shape {images.shape[1:]}, but FeatureExtractor was fitted on {self.image_shape_}; "
                "resize them, or fit again"
            )
        if not hasattr(self, "_trunk"):
            self._load()
        features = np.empty((len(images), *self._row_shape), np.float32)
        for start in range(0, len(images), self._batch):
            part = images[start : start + self._batch]
            ready = self._preprocessor(part.read(self.preprocessing_.decoded) if isinstance(part, _Mixed) else part)
            count = len(ready)
            if count < self._batch:
                ready = torch.cat([ready, ready.new_zeros(self._batch - count, *ready.shape[1:])])
            features[start : start + count] = in_halves(self._trunk, ready)[0][:count].float().cpu().numpy()
        return features

    def _load(self, images: "np.ndarray | _Mixed | None" = None) -> None:
        """images: those of `fit`."""
        prepared: Preparation | Preprocessing = self._asked()
        if images is None:
            # Loaded from a file; what version 0.1.0 fitted says nothing, and goes on being given what it was.
            earlier = preset_of_earlier(self.backbone).at(self.image_size)
            prepared = getattr(self, "preprocessing_", earlier)
        backbone = load_backbone(self.backbone, self.weights, self.random_state, prepared=prepared)
        if backbone.unsure:
            tell_once(backbone.unsure)
        if getattr(self, "weights_sha256_", backbone.weights_sha256) != backbone.weights_sha256:
            raise ValueError(
                f"the weights {self.weights!r} have changed since fit: {backbone.weights_sha256[:16]} instead of "
                f"{self.weights_sha256_[:16]}; fit again"
            )
        device = resolve_device(self.device)
        precision = resolve_precision(self.precision, device)
        steps = backbone.preprocessing
        cut = backbone.cut(self.image_size)
        if precision == "int8":
            if images is not None:
                chosen = np.unique(np.linspace(0, len(images) - 1, RANGE_ROWS).astype(int))
                some = images.read(steps.decoded, chosen) if isinstance(images, _Mixed) else images[chosen]
                self.ranges_ = ranges_on(some, backbone.name, steps, cut)
            precision = keep_ranges(self.ranges_)
        node = cut.resolve(self.layer)
        pool = canonical_pool(parse_pool(self.pool), cut.shape(node), cut.layout(node))
        output = Output(node, pool)
        # Images come in any number from one call to the next: compiling for one of them would not pay.
        recipe = choose_recipe(cut, [output], images=4096, precision=precision, device=device, compiled="off")
        self._preprocessor = Preprocessor(steps, device)
        self._trunk = Trunk(cut, [output], recipe, device)
        self._batch = recipe.batch
        self._row_shape = pooled_shape(pool, cut.shape(node), cut.layout(node))
        self.weights_sha256_, self.preprocessing_ = backbone.weights_sha256, steps
        self.n_features_out_ = int(np.prod(self._row_shape))

    def _asked(self) -> Preparation:
        mean, std = (None if numbers is None else tuple(map(float, numbers)) for numbers in (self.mean, self.std))
        sized = (self.image_size, self.crop_mode, self.resize, self.interpolation)
        asked = Preparation(*sized, mean, std, self.decode)
        asked.require_legal()
        return asked

    @property
    def _n_features_out(self) -> int:
        return self.n_features_out_

    def __getstate__(self) -> dict[str, Any]:
        # The network is loaded again where the estimator is unpickled, and must then be the same one.
        loaded = ("_trunk", "_preprocessor", "_batch", "_row_shape")
        return {name: value for name, value in super().__getstate__().items() if name not in loaded}

    def __setstate__(self, state: dict[str, Any]) -> None:
        # Version 0.1.0 had no such parameters.
        later = {"crop_mode": "center", "decode": "full", **dict.fromkeys(("resize", "interpolation", "mean", "std"))}
        super().__setstate__({**later, **state})

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.three_d_array = True
        tags.requires_fit = True
        tags.transformer_tags.preserves_dtype = []
        return tags


@dataclass(frozen=True)
class _Mixed:
    """Images of a list: paths, or uint8 arrays."""

    given: Sequence[Path | np.ndarray]

    def __len__(self) -> int:
        return len(self.given)

    def __getitem__(self, rows: slice) -> "_Mixed":
        return _Mixed(self.given[rows])

    def read(self, least: Least, rows: Iterable[int] | None = None) -> list[np.ndarray]:
        """All of them, or some, those in files decoded at `least`."""
        chosen = self.given if rows is None else [self.given[row] for row in rows]
        return [read_image(image, least=least) if isinstance(image, Path) else image for image in chosen]


def _white(X: Any) -> float:
    """What is white in the images of a fit where they are integers wider than a byte; ValueError beyond 16 bits."""
    if _is_mixed(X):
        return FULL
    images = np.asarray(X)
    if images.dtype.kind not in "iu" or images.dtype == np.uint8 or not images.size:
        return FULL
    return whole_white(float(images.max()))


def _is_mixed(X: Any) -> bool:
    """Whether it is a list of images that need not make one array."""
    return isinstance(X, list | tuple) and len(X) > 0 and not isinstance(X[0], list | tuple | int | float)


def _as_images(X: Any, white: float) -> "np.ndarray | _Mixed":
    """Images as uint8 (N, H, W) or (N, H, W, 3), or of a list each by itself; ValueError where X is no such thing, as
    scikit-learn has it."""
    if _is_mixed(X):
        return _Mixed([image_of(given, f"image {row} of X") for row, given in enumerate(X)])
    images = np.asarray(X)
    if images.ndim == 4 and images.shape[1] in (1, 3) and images.shape[3] not in (1, 3):
        images = np.moveaxis(images, 1, 3)
    if images.ndim not in (3, 4) or (images.ndim == 4 and images.shape[3] not in (1, 3)):
        raise ValueError(
            f"X has shape {images.shape}; images are (N, H, W), (N, H, W, 3) or (N, 3, H, W): reshape your data to that"
        )
    if len(images) == 0:
        raise ValueError("Found array with 0 sample(s), where at least one image is needed")
    if images.ndim == 4 and images.shape[3] == 1:
        images = images[..., 0]
    if images.dtype == np.uint8:
        return images
    if images.dtype.kind not in "fiub":
        raise ValueError(f"X is of type {images.dtype}; images are uint8, or floats between 0 and 1")
    if not np.isfinite(images).all():
        raise ValueError("Input X contains NaN or infinity")
    if images.dtype.kind == "f" and (images.min() < 0 or images.max() > 1):
        raise ValueError(f"X has floats from {images.min()} to {images.max()}; divide so that they lie between 0 and 1")
    if images.dtype.kind in "iu" and (images.min() < 0 or images.max() > white):
        raise ValueError(
            f"X has integers from {images.min()} to {images.max()}, where 0 is black and {white:g} white by the images "
            "of fit"
        )
    return np.round(images * (FULL if images.dtype.kind in "fb" else FULL / white)).astype(np.uint8)
