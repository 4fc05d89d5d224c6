"""What a user asked for, and the cache files that answer it.

`plan` turns a request into keys. That needs the network (its graph, its weights' digest) and so torch, which takes
seconds; what came out is noted together with all that it rests on, so that asking again needs neither.
"""

import dataclasses
import functools
import hashlib
import importlib.metadata
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from features.commands.speaking import tell_once
from features.datasets import Dataset, open_dataset
from features.digests import canonical_json, sha256_json, sha256_rows, witness
from features.errors import UserError, unknown
from features.families import is_noted, packages, require_name
from features.first_use import recognise
from features.home import user_path
from features.key import DTYPES, FORMAT, TAKEN_BEFORE, About, CacheKey
from features.memory import lines_of
from features.notes import Notes
from features.plugins import plugins
from features.pooling import canonical_pool, parse_pool, pooled_shape
from features.preprocessing import Preparation, Preprocessing
from features.ranges import EIGHT_BITS, Ranges, asks_int8, is_int8, ranges_of, settle_precision
from features.rows import limit_rows
from features.sizes import shortest_oblong
from features.views import Views
from features.wanted import Wanted

if TYPE_CHECKING:
    from features.backbones import Backbone
    from features.cut import Cut

    RangeFinder = Callable[[Dataset, Backbone, Preprocessing, Cut], Ranges]

PLANS = Notes("plans")
WEIGHT_FILES = (".pth", ".pt", ".safetensors")
# Fields of a request that came after version 0.1.0.
_LATER = ("crop_mode", "resize", "interpolation", "mean", "std", "decode", "views", "view_augment", "test_views")


def as_items(value: Any) -> tuple[Any, ...]:
    """A list's items; a text, or anything else that is no list, is one item."""
    return (value,) if isinstance(value, str) or not isinstance(value, Iterable) else tuple(value)


@dataclass(frozen=True)
class Request:
    """Which features of which data; the command line's options, one for one.

    dataset: what `features.datasets.given` takes is written into the home, and named here from then on. backbone may be
    a torch.nn.Module, which gets a name that holds in this process. layers may hold `all` (every stage) and joins
    (`layer2+layer3`). seed decides which rows a limit takes, and the weights of a random network. image_size None means
    the one that the weights were trained with, and so do resize, interpolation, mean and std, which are those of
    `Preprocessing` as crop_mode and decode are. views: how often each image goes through the network, view_augment:
    what changes it then (see `features.views`); () is what is usual. test_views: over how many views what a head or
    a network says of an image is averaged.
    """

    dataset: Any = "mnist"
    backbone: str = "resnet18"
    weights: str = "default"
    layers: tuple[str, ...] = ("avgpool",)
    pools: tuple[str, ...] = ("avg",)
    image_size: int | None = None
    crop_mode: str = "center"
    resize: int | None = None
    interpolation: str | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    decode: str = "full"
    precision: str = "auto"
    dtype: str = "float32"
    device: str = "auto"
    limit: int | None = None
    limit_test: int | None = None
    seed: int = 0
    views: int = 1
    view_augment: tuple[str, ...] = ()
    test_views: int = 1

    @classmethod
    def of(cls, **options: Any) -> "Request":
        """The request of a call's options; UserError for one that is none."""
        fields = cls.__dataclass_fields__
        if strange := [name for name in options if name not in fields]:
            raise unknown(f"'{strange[0]}' is no option of this call", strange[0], fields)
        return cls(**options)

    def __post_init__(self) -> None:
        if self.dataset is not None and not isinstance(self.dataset, str):
            from features.datasets.given import spec_of

            object.__setattr__(self, "dataset", spec_of(self.dataset))
        if not isinstance(self.backbone, str):
            from features.backbones.own import named

            object.__setattr__(self, "backbone", named(self.backbone))

    def normalised(self) -> "Request":
        """The one strict form: canonical poolings, absolute paths, tuples, legal values."""
        # The words that mean weights are never files, whatever stands in the folder one happens to be in.
        named = self.weights in ("default", "random") or self.weights.startswith("IMAGENET1K_")
        weights = user_path(self.weights)
        if self.dtype not in DTYPES:
            raise UserError(f"--dtype {self.dtype}: features are stored as {' or '.join(DTYPES)}")
        self.preparation.require_legal()
        views = Views.asked(self.views, as_items(self.view_augment), self.test_views)
        for name, count in (("--limit", self.limit), ("--limit-test", self.limit_test)):
            if count is not None and count < 1:
                raise UserError(f"{name} {count}: give a whole number of 1 or more")
        if not 0 <= self.seed < 2**32:
            raise UserError(f"--seed {self.seed}: give a whole number from 0 to {2**32 - 1}")
        if not self.layers:
            raise UserError("no layer was asked for; give --layer avgpool, or --layer all")
        return dataclasses.replace(
            self,
            weights=str(weights.absolute()) if not named and weights.is_file() else self.weights,
            layers=as_items(self.layers),
            pools=tuple(dict.fromkeys(parse_pool(pool) for pool in as_items(self.pools))),
            mean=None if self.mean is None else tuple(self.mean),
            std=None if self.std is None else tuple(self.std),
            view_augment=views.augment,
        )

    def check(self, heads: bool = True) -> None:
        """UserError for what is wrong apart from the data, as far as it can be told without torch. heads: whether any
        is to learn from it."""
        request = self.normalised()
        if heads:
            request.seen_as.require(request.test_views)
        require_name(request.backbone)
        weights = user_path(request.weights)
        if weights.suffix in WEIGHT_FILES and not weights.is_file():
            raise UserError(f"--weights {self.weights}: there is no such file; name another, or give default or random")

    def to_json(self) -> dict[str, Any]:
        """The fields as plain values; what version 0.1.0 did not have is left out where it is as by default."""
        fields = dataclasses.asdict(self)
        return {name: value for name, value in fields.items() if name not in _LATER or value != getattr(Request, name)}

    @property
    def seen_as(self) -> Views:
        """The views of a request in its strict form."""
        return Views(self.views, self.view_augment)

    def of_one_view(self) -> "Request":
        """The same of the images themselves."""
        return dataclasses.replace(self, views=1, view_augment=(), test_views=1)

    @property
    def preparation(self) -> Preparation:
        """What is asked for in place of the preprocessing that belongs to the weights."""
        return Preparation(**{part.name: getattr(self, part.name) for part in dataclasses.fields(Preparation)})


@dataclass(frozen=True)
class Plan:
    """A request with its answer: the files that it comes to, in the order asked, and the names of its layers.

    told: what people have to know of how it was understood. earlier: the preprocessing that version 0.1.0 had for this
    architecture at this size, whatever the weights, as keys have it. superseded: the one by which it would have
    answered this very request, where that is no longer right; ''.
    """

    request: Request
    layers: tuple[str, ...]
    wanted: tuple[Wanted, ...]
    splits: tuple[str, ...]
    told: tuple[str, ...] = ()
    earlier: str = ""
    superseded: str = ""

    def get(self, layer: str, split: str, pool: str | None = None) -> Wanted:
        """The file for a single layer of this plan."""
        pool = pool or self.request.pools[0]
        for wanted in self.wanted:
            if (wanted.layer, wanted.split, wanted.pool) == (layer, split, pool):
                return wanted
        raise UserError(f"{layer} with pooling {pool} of the {split} split is not part of this plan: {self.layers}")

    def parts(self, layer: str, split: str, pool: str | None = None) -> tuple[Wanted, ...]:
        """The files of the layers that a name joins, in its order; of a single layer the one."""
        return tuple(self.get(name, split, pool) for name in split_names(layer))

    def files(self, layer: str, pool: str) -> frozenset[str]:
        """What a layer under a pooling is read from, by the digests of the keys: of equal files it is the same one."""
        return frozenset(part.key.digest for part in self.parts(layer, self.splits[0], pool))

    def distinct(self) -> tuple[tuple[str, str], ...]:
        """Each (layer, pooling) of this plan once, in the order asked.

        Those that are read from the same files are one, called as these say: `layer4` averaged is `avgpool`, and a
        pooling of a flat output is `avg`. Where none of the names is theirs it is the first.
        """
        same: dict[frozenset[str], list[tuple[str, str]]] = {}
        for layer in self.layers:
            for pool in self.request.pools:
                same.setdefault(self.files(layer, pool), []).append((layer, pool))
        return tuple(min(twins, key=self._unlike_its_files) for twins in same.values())

    def _unlike_its_files(self, twin: tuple[str, str]) -> tuple[bool, bool]:
        layer, pool = twin
        parts = self.parts(layer, self.splits[0], pool)
        return layer != "+".join(part.about.layer_name for part in parts), any(pool != part.key.pool for part in parts)


def plan(request: Request, find_ranges: "RangeFinder | None" = None) -> Plan:
    """The files that answer a request, whether they exist or not; downloads data and weights that are missing.

    find_ranges: finds the ranges of int8 of a network on a data set. UserError where they are not known and nothing
    finds them: `extract.planning.plan` does.
    """
    request = request.normalised()
    dataset = open_dataset(request.dataset)
    fingerprint, survey = dataset.fingerprint(), dataset.survey()
    for remark in survey.remarks:
        tell_once(remark)
    if new_rule := recognise(dataset.spec, fingerprint, dataset.files(), rule=survey.rule):
        tell_once(new_rule)
    question = canonical_json([dataclasses.asdict(request), dataset.spec, _machine()])
    noted = is_noted(request.backbone)
    settled = _recall(PLANS.get(question), request, fingerprint) if noted else None
    if settled is None:
        settled, weights = _work_out(request, dataset, fingerprint, find_ranges)
        if noted:
            PLANS.put(question, {"basis": _basis(fingerprint, weights), "plan": dataclasses.asdict(settled)})
    for line in settled.told:
        tell_once(line)
    return settled


def limited(plan: Plan, limit: int | None) -> Plan:
    """The plan of the same request but for its limit, which needs the network no second time."""
    request = dataclasses.replace(plan.request, limit=limit).normalised()
    dataset, rows = open_dataset(request.dataset), {}
    for split in plan.splits:
        if split != "test":
            rows[split] = selected_rows(dataset.load(split).labels, request, split)
    digests = {split: sha256_rows(taken) for split, taken in rows.items()}
    wanted = tuple(
        dataclasses.replace(
            file, key=dataclasses.replace(file.key, rows=digests[file.split]), rows=len(rows[file.split])
        )
        if file.split in rows
        else file
        for file in plan.wanted
    )
    return dataclasses.replace(plan, request=request, wanted=wanted)


def selected_rows(labels: np.ndarray, request: Request, split: str) -> np.ndarray:
    """The rows of a split that a request takes; a validation part is limited as the training rows are."""
    return limit_rows(labels, request.limit_test if split == "test" else request.limit, request.seed)


def split_names(layer: str) -> tuple[str, ...]:
    """The single layers in a name that may join several: 'layer2+layer3'."""
    return tuple(part.strip() for part in layer.split("+"))


def _machine() -> str:
    """A digest of what decides what `auto` becomes."""
    processor = next((line for line in lines_of("/proc/cpuinfo") if line.startswith("flags")), "")
    gpu = [os.environ.get("CUDA_VISIBLE_DEVICES"), Path("/proc/driver/nvidia/version").exists()]
    return sha256_json([processor, gpu, os.environ.get("ATEN_CPU_CAPABILITY"), os.environ.get("ONEDNN_MAX_CPU_ISA")])


def _basis(fingerprint: str, weights: Iterable[str]) -> dict[str, Any]:
    """What a plan rests on, and is worked out again for: the data, the weights' files, versions, and this package's
    code, which may resolve a name, or take rows, in another way."""
    versions = {
        name: [distribution.version for distribution in importlib.metadata.distributions(name=name)]
        for name in ("torch", "numpy", *packages())
    } | {name: [plugin.origin] for name, plugin in plugins("backbones").items()}
    folders = (Path(__file__).parent, Path(__file__).parent / "backbones")
    modules = sorted(module for folder in folders for module in folder.glob("*.py"))
    code = sha256_json([hashlib.sha256(module.read_bytes()).hexdigest() for module in modules])
    seen = {path: witness(path) for path in weights}
    return {"data": fingerprint, "weights": seen, "versions": versions, "format": FORMAT, "code": code}


def _work_out(
    request: Request, dataset: Dataset, fingerprint: str, find_ranges: "RangeFinder | None"
) -> tuple[Plan, list[str]]:
    """The plan, and the files that its weights were read from."""
    from features.backbones import requested_backbone
    from features.device import exact_levels, resolve_device, resolve_precision

    backbone = requested_backbone(request)
    preprocessing = backbone.preprocessing
    if preprocessing.decode != "full" and isinstance(dataset.load(dataset.splits[0]).images, np.ndarray):
        raise UserError(
            f"--decode {preprocessing.decode} is about images in files; those of '{dataset.spec}' are arrays, so leave "
            "it out"
        )
    described = preprocessing.describe(shortest_oblong(dataset))
    cut = backbone.cut(request.image_size)
    precision = resolve_precision(request.precision, resolve_device(request.device))
    of_int8: dict[str, Any] = {
        "dataset": fingerprint,
        "backbone": backbone.name,
        "weights": backbone.weights_sha256,
        "preprocessing": described,
    }
    if asks_int8(precision) and (levels := exact_levels()) != EIGHT_BITS:
        of_int8["weight levels"] = levels
    precision = settle_precision(
        precision,
        of_int8,
        functools.partial(find_ranges, dataset, backbone, preprocessing, cut) if find_ranges else None,
    )
    layers = _expanded(cut, request.layers)
    singles = dict.fromkeys(name for layer in layers for name in split_names(layer))
    wanted = []
    for split in dataset.splits:
        labels = dataset.load(split).labels
        rows = selected_rows(labels, request, split)
        for layer in singles:
            for pool in request.pools:
                node = cut.resolve(layer)
                if node == cut.resolve("input"):
                    raise UserError("the layer 'input' is the images themselves, which are not cached again")
                if pool == "avg":
                    node = cut.pooled_twin(node)
                shape, layout = cut.shape(node), cut.layout(node)
                canonical = canonical_pool(pool, shape, layout)
                key = CacheKey(
                    dataset=fingerprint,
                    split=split,
                    rows=sha256_rows(rows),
                    backbone=backbone.name,
                    weights=backbone.weights_sha256,
                    layer=node,
                    pool=canonical,
                    image_size=preprocessing.crop,
                    preprocessing=described,
                    precision=precision,
                    dtype=request.dtype,
                    revision=TAKEN_BEFORE if node in cut.overwritten else 0,
                    architecture=backbone.defined_by(cut),
                    views=str(request.seen_as),
                )
                whole = dataclasses.replace(key, rows=sha256_rows(np.arange(len(labels))))
                name = "avgpool" if node == cut.resolve("avgpool") else layer
                about = About(dataset.name, name, tuple(dataset.classes), backbone.weights_name)
                row = pooled_shape(canonical, shape, layout)
                row = (request.views, *row) if request.views > 1 else row
                wanted.append(Wanted(split, layer, pool, key, about, row, len(rows), whole))
    weights = [str(backbone.weights_path.absolute())] if backbone.weights_path else []
    remarks = (backbone.unsure,) if backbone.unsure else ()
    preset = backbone.family.preset_of_earlier(backbone.name)
    sizes = (preprocessing.crop, request.image_size)
    earlier, answered = (preset.at(size).describe() if preset else "" for size in sizes)
    # What is asked for by options that there were not is no correction of what it did.
    as_asked_then = request.preparation == Preparation(request.image_size)
    superseded = answered if as_asked_then and answered != described else ""
    return Plan(request, layers, tuple(wanted), tuple(dataset.splits), remarks, earlier, superseded), weights


def _expanded(cut: "Cut", layers: tuple[str, ...]) -> tuple[str, ...]:
    """The layers asked for, with `all` replaced by the stages and every name checked."""
    names = [name for layer in layers for name in (cut.stages if layer == "all" else (layer,))]
    for name in names:
        for part in split_names(name):
            cut.resolve(part)
    return tuple(dict.fromkeys(names))


def _recall(noted: Any, request: Request, fingerprint: str) -> Plan | None:
    """The plan as noted; None where there is none, or it rests on what is no longer so."""
    try:
        if noted["basis"] != _basis(fingerprint, noted["basis"]["weights"]):
            return None
        fields = noted["plan"]
        wanted = tuple(map(Wanted.from_json, fields["wanted"]))
        if any(is_int8(file.key.precision) and ranges_of(file.key.precision) is None for file in wanted):
            return None
        remarks, earlier, superseded = (
            tuple(map(str, fields["told"])),
            str(fields["earlier"]),
            str(fields["superseded"]),
        )
        return Plan(request, tuple(fields["layers"]), wanted, tuple(fields["splits"]), remarks, earlier, superseded)
    except (OSError, KeyError, TypeError, ValueError, AttributeError):
        # A note that cannot be understood is none: the plan is worked out again and written over it.
        return None
