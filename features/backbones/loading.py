"""Backbones: an architecture with weights, frozen and in eval mode, and known by the SHA-256 of its tensors.

What differs from one family to another is asked of the family (`features.backbones.family`); the cut into trunk and
tail is made in `features.cut`.
"""

import dataclasses
import importlib
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import nn

from features.architectures import backbone_plugin
from features.backbones.family import Family, weights_file
from features.backbones.files import with_state
from features.backbones.own import named
from features.cut import Cut
from features.digests import TICK, witness
from features.errors import UserError
from features.families import family_of
from features.first_use import recognise
from features.home import home
from features.preprocessing import AS_THE_WEIGHTS_WANT, Preparation, Preprocessing
from features.presets import in_a_line
from features.weights import state_sha256


@dataclass(frozen=True)
class Backbone:
    """A frozen network and where it comes from.

    weights_name says what was asked for in words people know ('IMAGENET1K_V1', 'random (seed 0)', a file's name);
    weights_sha256 is the identity; weights_path is the file that they were read from, None for drawn ones. categories
    are the names of the source classes, empty where they are unknown. headless is true for weights that came without
    a classifier. unsure: why the preprocessing may not be that of these weights, for people; '' where it is known.
    """

    name: str
    model: nn.Module
    weights_name: str
    weights_sha256: str
    preprocessing: Preprocessing
    categories: tuple[str, ...] = ()
    headless: bool = False
    weights_path: Path | None = None
    unsure: str = ""

    @cached_property
    def family(self) -> Family:
        """What knows its kind."""
        return family_of(self.name)

    def cut(self, image_size: int | None) -> Cut:
        """The network to cut, for images prepared at this size; None: the one that the weights were trained with. The
        same one whenever a size is asked for.

        UserError where the network takes images of another size alone.
        """
        size, fixed = self.preprocessing.at(image_size).crop, self.family.fixed_size(self.model)
        if fixed not in (None, size):
            raise UserError(
                f"--image-size {size}: {self.name} with {self.weights_name} takes images of {fixed} x {fixed} "
                "pixels alone; leave --image-size out, or give weights made for that size"
            )
        if size not in self._cuts:
            self._cuts[size] = self.cut_of(self.model, size, headless=self.headless)
        return self._cuts[size]

    @cached_property
    def _cuts(self) -> dict[int, Cut]:
        return {}

    def cut_of(self, model: nn.Module, image_size: int, *, headless: bool = False) -> Cut:
        """The cut of a network of this one's kind."""
        return Cut(model, image_size, headless, self.family.traits(model))

    def defined_by(self, cut: Cut) -> str:
        """What defines the network, as cache keys have it: the package, and the graph where no package says it all."""
        graph = f" graph {cut.digest[:16]}" if self.family.graph_in_key else ""
        return f"{self.family.defined_by(self.name)}{graph}"


def load_backbone(
    name: str | nn.Module = "resnet18",
    weights: str = "default",
    seed: int = 0,
    *,
    sha256: str | None = None,
    prepared: Preparation | Preprocessing = AS_THE_WEIGHTS_WANT,
) -> Backbone:
    """An architecture, or a module of one's own, with weights: `default`, a word that its family has for some, `random`
    or a file's path.

    `random` initialises with `seed`: the control to hold pre-trained features against. Files are state dicts and
    checkpoints of torch's, read without unpickling objects, or `.safetensors`; under which names the weights stand in
    them is found out (`features.matching`). sha256: what the weights must have as theirs; by default what they had when
    that file was first used. UserError where it is another one. prepared: what is asked for in place of the
    preprocessing that belongs to the weights, or the whole of it where it is known already.
    """
    name = named(name)
    family = family_of(name)
    options = family.options_at(name, prepared.crop if isinstance(prepared, Preprocessing) else prepared.image_size)
    asked = None if weights == "random" else weights_file(family, name, weights)
    path = asked.at_hand(_download) if asked else None
    if path is None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = family.made(name) if asked else family.drawn(name, **options)
        own = family.preset(name).at(family.fixed_size(model))
        steps = prepared if isinstance(prepared, Preprocessing) else prepared.of(own)
        called = asked.name if asked else f"random (seed {seed})"
        headless = family.is_headless(model)
        backbone = _frozen(family, Backbone(name, model, called, "", steps, headless=headless))
        if sha256 not in (None, backbone.weights_sha256):
            raise UserError(f"{name} is not made with the weights that it had (SHA-256 {str(sha256)[:8]} then)")
        return backbone

    def preset(size: int | None) -> tuple[Preprocessing, str]:
        if isinstance(prepared, Preprocessing):
            return prepared, ""
        if asked and asked.preset:
            return prepared.of(asked.preset), ""
        own, how = family.preset_of_file(name, path, size)
        steps = prepared.of(own)
        return steps, in_a_line(path, how, own, steps) if how and not prepared.is_complete else ""

    # What cannot be prepared as asked is said before the weights are read.
    preset(None)
    model, headless = family.read(name, path, options) or with_state(name, path)
    steps, unsure = preset(family.fixed_size(model))
    called = asked.name if asked else path.name
    read = Backbone(name, model, called, "", steps, headless=headless, weights_path=path, unsure=unsure)
    backbone = _frozen(family, read)
    if sha256 is None:
        # Of weights that are made to fit a size of images, each has a digest of its own.
        sized = "".join(f" {option}={value}" for option, value in options.items())
        recognise(f"{path.absolute()}{sized}", backbone.weights_sha256)
    elif backbone.weights_sha256 != sha256:
        raise UserError(
            f"{path} does not hold the weights it was written with (SHA-256 {sha256[:8]} then, "
            f"{backbone.weights_sha256[:8]} now); make it again"
        )
    return backbone


def _download(url: str) -> Path:
    """By the package's own name for it, in the place of which there may be another."""
    return importlib.import_module("features.backbones").download(url)


# The networks that were asked for last, with the witness of the file that they were read from.
_KEPT: dict[tuple, tuple[list[int] | None, Backbone]] = {}
_KEPT_NETWORKS, _KEPT_UP_TO = 2, 256 * 2**20  # so many, each of at most so many bytes


def requested_backbone(request: Any) -> Backbone:
    """The backbone that a `features.request.Request` is about, as `kept_backbone` gives it."""
    return kept_backbone(request.backbone, request.weights, request.seed, request.preparation)


def kept_backbone(name: str | nn.Module, weights: str, seed: int, prepared: Preparation | Preprocessing) -> Backbone:
    """What `load_backbone` gives, for those who leave its network as it is: to fold or to train one is to copy it.

    A command asks three to ten times. A small one of a package is read once while its file stays as it is.
    """
    if not isinstance(name, str) or ":" in name or backbone_plugin(name):
        return load_backbone(name, weights, seed, prepared=prepared)
    # Where there is no file, no folder has a say.
    places = () if weights == "random" else (home(), Path.cwd())
    asked = (name, weights, seed, prepared, *places)
    witnessed, backbone = _KEPT.pop(asked, (None, None))
    if backbone is None or witnessed != _witness(backbone):
        started = time.time_ns()
        backbone = load_backbone(name, weights, seed, prepared=prepared)
        witnessed = _witness(backbone)
        is_settled = witnessed is None or max(witnessed[1:], default=started) < started - TICK
        if not is_settled or _bytes(backbone.model) > _KEPT_UP_TO:
            return backbone
    while len(_KEPT) >= _KEPT_NETWORKS:
        _KEPT.pop(next(iter(_KEPT)), None)
    _KEPT[asked] = (witnessed, backbone)
    return backbone


def _witness(backbone: Backbone) -> list[int] | None:
    """Of the file that the weights are from; None where there is none, [] where it has gone."""
    try:
        return None if backbone.weights_path is None else witness(backbone.weights_path)
    except OSError:
        return []


def _bytes(model: nn.Module) -> int:
    return sum(tensor.nbytes for tensor in (*model.parameters(), *model.buffers()))


def _frozen(family: Family, backbone: Backbone) -> Backbone:
    model, categories = backbone.model.eval().requires_grad_(False), family.categories(backbone.name)
    named = not backbone.headless and family.classes_of(model) == len(categories)
    return dataclasses.replace(backbone, weights_sha256=state_sha256(model), categories=categories if named else ())
