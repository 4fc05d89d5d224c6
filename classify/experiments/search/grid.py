"""The configurations that a search tries: candidates, and the dimensions along which they differ, as data."""

import dataclasses
import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np

from features.datasets import ImageFiles, open_dataset
from features.request import Plan, Request, split_names
from features.sizes import sizes_of

HEADS = ("lda", "ridge", "svm", "logistic", "linear-svm")  # those that take least come first
POOLS = ("avg", "grid:2", "grid:4")
VIEWS_OF_SMALL, VIEWS_OF_PHOTOS = (1, 4), (1,)  # of photos more have won nothing
# Pixels, by the images' own size: small images gain nothing by being blown up further, and photos lose by less.
SIZES_OF_SMALL, SIZES_OF_PHOTOS = (32, 64, 112), (64, 112, 160, 224)
SMALL = 64  # pixels of the short side, up to which images are small
_GLANCES = 32


@dataclass(frozen=True)
class Dimension:
    """One thing in which candidates differ: a field of `Candidate`.

    unit: behind a value. request: the field of a request that has this value, where one pass over the images has it in
    common; '' where a pass makes all of them. work: how the seconds of a pass grow with the value, as a power. usual: a
    value that goes without saying.
    """

    name: str
    unit: str = ""
    request: str = ""
    work: float = 0.0
    usual: object = None

    def spelled(self, value: object) -> str:
        """A value as people read it."""
        return f"{value} {self.unit}" if self.unit else str(value)


# Another one is a line here, a field of `Candidate` and, where it has several values by default, a line in `Grid`.
DIMENSIONS = (
    Dimension("image_size", "px", request="image_size", work=2.0),
    Dimension("views", "views", request="views", work=1.0, usual=1),
    Dimension("layer"),
    Dimension("pool"),
    Dimension("head"),
)
_OF_PASS = tuple(dimension for dimension in DIMENSIONS if dimension.request)


@dataclass(frozen=True, order=True)
class Pass:
    """What the candidates have in common whose features one pass over the images makes: the values of those dimensions
    that are fields of a request, in their order."""

    values: tuple[int, ...]

    def of(self, request: Request) -> Request:
        """The request of this pass, for one that leaves it open."""
        fields: dict[str, Any] = {part.request: value for part, value in zip(_OF_PASS, self.values, strict=True)}
        request = dataclasses.replace(request, **fields)
        return request.of_one_view() if request.views == 1 else request

    def work(self) -> float:
        """How long an image takes, in no unit."""
        return math.prod(value**part.work for part, value in zip(_OF_PASS, self.values, strict=True))

    def __str__(self) -> str:
        values = zip(_OF_PASS, self.values, strict=True)
        return ", ".join(part.spelled(value) for part, value in values if value != part.usual)


@dataclass(frozen=True)
class Candidate:
    """One configuration."""

    image_size: int
    views: int
    layer: str
    pool: str
    head: str

    @property
    def of_pass(self) -> Pass:
        """The pass that makes what it reads."""
        return Pass(tuple(getattr(self, part.name) for part in _OF_PASS))

    def __str__(self) -> str:
        return f"{self.layer} ({self.pool}) at {self.of_pass} with {self.head}"


@dataclass(frozen=True)
class Grid:
    """The values of each dimension; None for what depends on the network and is not named."""

    image_size: tuple[int, ...]
    views: tuple[int, ...]
    layer: tuple[str, ...] | None
    pool: tuple[str, ...]
    head: tuple[str, ...]

    @property
    def passes(self) -> tuple[Pass, ...]:
        """The passes over the images, in ascending order: what is small takes less time."""
        values = [getattr(self, part.name) for part in _OF_PASS]
        return tuple(sorted(map(Pass, itertools.product(*values))))

    def candidates(self, of_pass: Pass, places: Iterable[tuple[str, str]]) -> Iterator[Candidate]:
        """Those of a pass, of which these are the (layer, pooling) pairs."""
        named = {part.name: value for part, value in zip(_OF_PASS, of_pass.values, strict=True)}
        for (layer, pool), head in itertools.product(places, self.head):
            yield Candidate(**named, layer=layer, pool=pool, head=head)


def usual(request: Request) -> dict[str, tuple[int, ...]]:
    """The sizes and the numbers of views to try where none is named, by the sizes of a few of the training images."""
    images = open_dataset(request.dataset).load("train").images
    if isinstance(images, ImageFiles):
        rows = np.unique(np.linspace(0, len(images) - 1, _GLANCES).astype(int))
        own = median(min(size) for size in sizes_of(images.take(rows)))
    else:
        own = min(images.shape[1:3])
    if own <= SMALL:
        return {"image_size": SIZES_OF_SMALL, "views": VIEWS_OF_SMALL}
    return {"image_size": SIZES_OF_PHOTOS, "views": VIEWS_OF_PHOTOS}


def joins(layers: Sequence[str]) -> tuple[str, ...]:
    """Neighbouring stages joined: without the pooled output, which is the last stage again, and the classifier's, which
    is made of that."""
    maps = [layer for layer in layers if layer not in ("avgpool", "fc") and "+" not in layer]
    return tuple(f"{first}+{second}" for first, second in itertools.pairwise(maps))


def narrowed(plan: Plan, places: Iterable[tuple[str, str]], splits: Sequence[str]) -> Plan:
    """The part of a plan that makes these (layer, pooling) pairs of these splits."""
    needed = {(name, pool) for layer, pool in places for name in split_names(layer)}
    files = tuple(file for file in plan.wanted if file.split in splits and (file.layer, file.pool) in needed)
    return dataclasses.replace(plan, wanted=files)
