"""Where the inputs of a row's head come from: a cached layer, the images, or the raw pixels that a layer has to beat.

A source says what it is (`config`, part of a row's identity) and gives the rows of a split. Reading a split opens that
split's files and no other's.
"""

import abc
import dataclasses
import json
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from extract.commands.ensure import ensure_plan
from extract.cost import seconds_to_extract
from extract.planning import plan
from features import reading
from features.blocks import fits, rows_of_views
from features.datasets import ImageFiles, open_dataset
from features.digests import sha256_rows
from features.key import CacheKey
from features.request import Plan, Request, Wanted, selected_rows, split_names

SIDE = 32  # pixels; images that are of unequal size, or large, are resized to it
MOST_NUMBERS = 4096  # in one image that is taken as it is
MOST_BYTES = 4_000_000_000  # of pixels as float32, beyond which the control is left out


@dataclass(frozen=True)
class Rows:
    """features (N, D) or (N, C, H, W), possibly a read-only map of a file, or `Blocks` of it, or images; labels int64
    (N,); index int64 (N,), places in the split. groups: int64 codes (N,) of rows that belong together, those of equal
    images among them, or None.
    """

    features: Any
    labels: np.ndarray
    index: np.ndarray
    groups: np.ndarray | None = None


class Source(abc.ABC):
    """Anything that has the inputs of a head for the training and the test split; subclasses are frozen dataclasses.

    layer: the layer's name, 'input' for images, or 'pixels'.
    """

    layer: str

    @property
    @abc.abstractmethod
    def request(self) -> Request:
        """What was asked for: data, backbone, weights, limits and the device."""

    @property
    @abc.abstractmethod
    def config(self) -> dict[str, Any]:
        """What determines the inputs, as plain values; `dataset`, `backbone` and `layer` name the result's files."""

    @abc.abstractmethod
    def read(self, split: str, blocks: str = "off") -> Rows:
        """The rows of a split.

        blocks: 'auto' leaves features that would not fit into memory in the store, as `Blocks`, and 'on' all that can
        be; 'off' gives an array.
        """

    @property
    def views(self) -> int:
        """How many views of an image stand one after the other in its row."""
        return 1

    @property
    def test_views(self) -> int:
        """Over how many of them is decided."""
        return 1

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the labels 0, 1, ..."""
        return tuple(open_dataset(self.request.dataset).classes)

    def groups_of(self, split: str, index: np.ndarray) -> np.ndarray | None:
        """Which rows at these places in a split belong together, int64 codes; None where none do."""
        codes = self.together(split)
        return None if codes is None else codes[0][index]

    def together(self, *splits: str) -> tuple[np.ndarray, ...] | None:
        """See `Dataset.together`."""
        return _together(self.request.dataset, self.config["dataset_sha256"], splits)

    def groups_sha256(self, *splits: str) -> str | None:
        """What says which rows of some splits belong together, whatever the groups are called; None where nothing
        does."""
        if (own := self.together(*splits)) is None:
            return None
        _, first, codes = np.unique(np.concatenate(own), return_index=True, return_inverse=True)
        return sha256_rows(first[codes])

    def ensure(self, *, compiled: str = "auto", jobs: int | None = None) -> None:  # noqa: B027 - most extract nothing
        """Extract what is missing in the cache, with all other layers of the same plan."""

    @property
    def superseded(self) -> dict[str, Any]:
        """The preprocessing by which version 0.1.0 answered the request, where that was not right; else nothing."""
        return {}

    def keys(self) -> dict[str, dict[str, Any]]:
        """The cache keys of what is read, by 'split layer'."""
        return {}

    def extract_seconds(self) -> float | None:
        """Seconds that the pass over the training images took; None where there was none or it was not measured."""
        return None

    def white(self) -> dict[str, float]:
        """What is white in the images, as new ones have to be read too; a part of the data set's fingerprint."""
        return dict(_white(self.request.dataset, self.config["dataset_sha256"]))

    def places(self) -> dict[str, str]:
        """Where data and weights were found, by their options' names: no part of a row's identity."""
        return {"dataset": open_dataset(self.request.dataset).spec}


class _Planned(Source):
    """What the sources that a plan describes have in common."""

    plan: Plan

    @property
    def request(self) -> Request:
        return self.plan.request

    @property
    def first(self) -> Wanted:
        """A file of the plan, for what all of them have in common."""
        return self.plan.wanted[0]

    @property
    def config(self) -> dict[str, Any]:
        key, about = self.first.key, self.first.about
        return {
            "dataset": about.dataset_name,
            "dataset_sha256": key.dataset,
            "backbone": key.backbone,
            "weights": about.weights_name,
            "weights_sha256": key.weights,
            "layer": self.layer,
            "image_size": key.image_size,
            "limit": self.request.limit,
            "limit_test": self.request.limit_test,
            **({} if key.preprocessing == self.plan.earlier else {"preprocessing": json.loads(key.preprocessing)}),
            **({"architecture": key.architecture} if key.architecture else {}),
        }

    @property
    def superseded(self) -> dict[str, Any]:
        return json.loads(self.plan.superseded) if self.plan.superseded else {}

    def places(self) -> dict[str, str]:
        return {**super().places(), "weights": self.request.weights}


@dataclass(frozen=True)
class CachedLayer(_Planned):
    """A layer of a plan, or several joined by `+`, under a pooling; the features are flattened to (N, D), of several
    views to (N, views * D), one after the other."""

    plan: Plan
    layer: str
    pool: str

    def __post_init__(self) -> None:
        self.request.seen_as.require(self.request.test_views)

    @property
    def wanted(self) -> tuple[Wanted, ...]:
        """The files of one split, of the training split where there is one; one for each layer joined."""
        split = "train" if "train" in self.plan.splits else self.plan.splits[0]
        return tuple(self.plan.get(name, split, self.pool) for name in split_names(self.layer))

    @property
    def config(self) -> dict[str, Any]:
        key, revisions = self.wanted[0].key, [file.key.revision for file in self.wanted]
        config = {**super().config, "pool": self.pool, "precision": key.precision, "dtype": key.dtype}
        config |= {"views": key.views, "test_views": self.test_views} if key.views else {}
        return {**config, "revisions": revisions} if any(revisions) else config

    @property
    def views(self) -> int:
        return self.request.views

    @property
    def test_views(self) -> int:
        return self.request.test_views

    @property
    def widths(self) -> tuple[int, ...]:
        """The numbers that each layer joined gives for a view of an image."""
        return tuple(int(np.prod(wanted.shape)) // self.views for wanted in self.wanted)

    def ensure(self, *, compiled: str = "auto", jobs: int | None = None) -> None:
        ensure_plan(self.plan, compiled=compiled, jobs=jobs, quiet=True)

    def read(self, split: str, blocks: str = "off") -> Rows:
        if blocks != "off":
            stored, cached = reading.read_blocks(self.plan, self.layer, split, self.pool)
            if blocks == "on" or not fits(stored.nbytes):
                return Rows(stored, cached.labels(), cached.index(), self.groups_of(split, cached.index()))
        features, cached = reading.read_layer(self.plan, self.layer, split, self.pool)
        index = cached.index()
        return Rows(features.reshape(len(features), -1), cached.labels(), index, self.groups_of(split, index))

    def of_images(self, features: Any) -> Any:
        """Of what was read (N, views * D) what stands for the images themselves, (N, D)."""
        return rows_of_views(features, sum(self.widths), 1)

    def keys(self) -> dict[str, dict[str, Any]]:
        parts = split_names(self.layer)
        used = (wanted for wanted in self.plan.wanted if wanted.layer in parts and wanted.pool == self.pool)
        return {f"{wanted.split} {wanted.layer}": wanted.key.to_json() for wanted in used}

    def extract_seconds(self) -> float | None:
        measured = [seconds_to_extract(self._file_key(wanted), wanted.rows) for wanted in self.wanted]
        seconds = [step for step in measured if step is not None]
        return max(seconds) if len(seconds) == len(measured) else None

    def _file_key(self, wanted: Wanted) -> CacheKey:
        cached = reading.find_cached(wanted, self.request)
        return cached.file.key if cached else wanted.key


@dataclass(frozen=True)
class Maps(CachedLayer):
    """The maps of a layer as they were stored, (N, C, H, W), for the part of a network above it."""

    @property
    def config(self) -> dict[str, Any]:
        return {name: value for name, value in super().config.items() if name != "pool"}

    def read(self, split: str, blocks: str = "off") -> Rows:
        features, cached = reading.read_layer(self.plan, self.layer, split, self.pool)
        return Rows(features, cached.labels(), cached.index(), self.groups_of(split, cached.index()))


@dataclass(frozen=True)
class Images(_Planned):
    """The images as they are, for a network that is cut at `layer`: what lies below the cut runs for each batch.

    plan: of any layer; it says which data and weights are meant.
    """

    plan: Plan
    layer: str = "input"

    def read(self, split: str, blocks: str = "off") -> Rows:
        data = open_dataset(self.request.dataset).load(split)
        rows = selected_rows(data.labels, self.request, split)
        return Rows(take_images(data.images, rows), data.labels[rows], rows, self.groups_of(split, rows))


@dataclass(frozen=True)
class Pixels(Source):
    """The images themselves, 0 to 1, flattened: no network at all.

    side None takes them as they are, a number resizes each to side x side; colour keeps three channels.
    """

    asked: Request
    side: int | None
    colour: bool
    layer: str = "pixels"

    @property
    def request(self) -> Request:
        return self.asked

    @classmethod
    def of(cls, request: Request) -> "Pixels | str":
        """The pixels of a request's rows, or the reason why they are no control for it."""
        data = open_dataset(request.dataset).load("train")
        if isinstance(data.images, ImageFiles):
            first = data.images.read(0)
            source = cls(request, SIDE, first.ndim == 3)
            numbers = SIDE * SIDE * (3 if source.colour else 1)
        else:
            numbers = int(np.prod(data.images.shape[1:]))
            colour = data.images.ndim == 4
            source = cls(request, None if numbers <= MOST_NUMBERS else SIDE, colour)
            numbers = numbers if source.side is None else SIDE * SIDE * (3 if colour else 1)
        rows = min(len(data.labels), request.limit or len(data.labels))
        if rows * numbers * 4 > MOST_BYTES:
            return f"{rows:,} images of {numbers:,} pixel values would take {rows * numbers * 4 / 1e9:.0f} GB of memory"
        return source

    @property
    def config(self) -> dict[str, Any]:
        dataset = open_dataset(self.request.dataset)
        return {
            "dataset": dataset.name,
            "dataset_sha256": dataset.fingerprint(),
            "layer": self.layer,
            "side": self.side,
            "colour": self.colour,
            "limit": self.request.limit,
            "limit_test": self.request.limit_test,
            # The rows that a limit takes depend on the seed; of the network's inputs nothing else matters here.
            "row_seed": self.request.seed,
        }

    def read(self, split: str, blocks: str = "off") -> Rows:
        return _pixels(self, split)


@lru_cache(maxsize=16)
def _white(dataset: str, fingerprint: str) -> dict[str, float]:
    """What is white in a data set, which its fingerprint settles."""
    return open_dataset(dataset).survey().white.to_json()


@lru_cache(maxsize=16)
def _together(dataset: str, fingerprint: str, splits: tuple[str, ...]) -> tuple[np.ndarray, ...] | None:
    """By the data set's spec, in which it stands how groups are told."""
    return open_dataset(dataset).together(*splits)


def take_images(images: Any, rows: np.ndarray) -> Any:
    """These rows of images, which are one array or files."""
    return images.take(rows) if isinstance(images, ImageFiles) else images[rows]


def training_image(request: Request) -> Any:
    """The first training image of a request, as a batch of one: a uint8 array."""
    data = open_dataset(request.dataset).load("train")
    row = int(selected_rows(data.labels, request, "train")[0])
    image = data.images.read(row) if isinstance(data.images, ImageFiles) else data.images[row]
    return image[None]


@lru_cache(maxsize=2)
def _pixels(source: Pixels, split: str) -> Rows:
    data = open_dataset(source.request.dataset).load(split)
    rows = selected_rows(data.labels, source.request, split)
    if source.side is None:
        assert isinstance(data.images, np.ndarray)  # files are always resized
        flat = np.ascontiguousarray(data.images[rows]).reshape(len(rows), -1).astype(np.float32)
    else:
        read = data.images.read if isinstance(data.images, ImageFiles) else data.images.__getitem__
        flat = np.stack([_resized(read(int(row)), source.side, source.colour) for row in rows])
    flat /= 255
    return Rows(flat, data.labels[rows], rows, source.groups_of(split, rows))


def _resized(image: np.ndarray, side: int, colour: bool) -> np.ndarray:
    from PIL import Image

    picture = Image.fromarray(image).convert("RGB" if colour else "L")
    return np.asarray(picture.resize((side, side), Image.Resampling.BILINEAR), dtype=np.float32).reshape(-1)


def below(request: Request, unfreeze: str, *, in_loop: bool) -> Source:
    """What a network unfrozen from a stage on reads: the cached maps below it, or images."""
    layer = "input"
    if unfreeze != "all":
        from classify.heads.network.network import layer_below
        from features.backbones import requested_backbone

        backbone = requested_backbone(request)
        layer = layer_below(backbone.cut(request.image_size), unfreeze)
    if layer == "input" or in_loop:
        return Images(plan(dataclasses.replace(request, layers=("avgpool",), pools=("avg",))), layer)
    both = plan(dataclasses.replace(request, layers=(layer,), pools=("avg", "none")))
    # What is one number a channel already is the file that classical heads read.
    sizes = {pool: int(np.prod(both.get(layer, "train", pool).shape)) for pool in ("avg", "none")}
    pool = "avg" if sizes["avg"] == sizes["none"] else "none"
    return Maps(plan(dataclasses.replace(request, layers=(layer,), pools=(pool,))), layer, pool)
