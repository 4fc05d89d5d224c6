"""One's own networks: what `python:MODULE:CALLABLE` gives, and modules that a program hands over.

CALLABLE is a module, or builds one, being told `classes` (or `num_classes`) where it asks for them. How images are
prepared for it stands in its attribute `preprocessing`, a `features.preprocessing.Preprocessing` or a dict of its
fields; without one it is as for most ImageNet networks. A network without a classifier gives one row of numbers an
image, which is `avgpool`.
"""

import copy
import dataclasses
import inspect
from typing import Any

from torch import nn

from features.backbones.family import Body, Family, Pretrained, Traits
from features.backbones.torchvision import FAMILY as TORCHVISION
from features.cut import Cut
from features.digests import sha256_json
from features.errors import UserError
from features.named_code import NamedCode, names_code, origins_of, running
from features.preprocessing import Preprocessing
from features.weights import state_sha256

_HANDED: dict[str, nn.Module] = {}
HANDED_PREFIX = "module:"


def named(network: object) -> str:
    """The name of a network that a program hands over, which holds in this process; UserError for what is none."""
    if isinstance(network, str):
        return network
    if not isinstance(network, nn.Module):
        raise UserError(f"a backbone is a name or a torch.nn.Module, not a {type(network).__name__}")
    kept = copy.deepcopy(network).cpu().float()
    steps = _preprocessing(kept, type(network).__name__)
    identity = [state_sha256(kept), FAMILY.cut(kept, steps.crop).digest, steps.describe(steps.crop - 1)]
    name = f"{HANDED_PREFIX}{type(network).__name__}-{sha256_json(identity)[:16]}"
    _HANDED[name] = kept
    return name


class Own(Family):
    """Networks of which nothing is known but what they are."""

    graph_in_key = True
    builds_outlines = False

    def knows(self, name: str) -> bool:
        return names_code(name) or name.startswith(HANDED_PREFIX)

    def defined_by(self, name: str) -> str:
        """The files that its code stands in, or the packages; of what was handed over the graph says all."""
        if not names_code(name):
            return "own"
        return ", ".join(origins_of([NamedCode.parse(name).module])) or "own"

    def build(self, name: str, classes: int | None = None, **options: Any) -> nn.Module:
        """As it was made, with another classifier where `classes` are not its own. Weights are not drawn anew."""
        network = _made(name, classes)
        steps = _preprocessing(network, name)
        if not self.classifiers(network):
            cut = self.cut(network, steps.crop)
            network = Body(network, cut.shape(cut.resolve("avgpool"))[0])
            if classes is not None:
                self.new_classifier(network, classes)
        elif classes not in (None, self.classes_of(network)):
            assert classes is not None  # as asked above
            self.new_classifier(network, classes)
        return network

    def drawn(self, name: str, classes: int | None = None, **options: Any) -> nn.Module:
        network = self.build(name, classes)
        for path, part in network.named_modules():
            own = list(part.parameters(recurse=False))
            if own and not callable(getattr(part, "reset_parameters", None)):
                raise UserError(
                    f"{name} has no random weights to hold against: its part {path or 'itself'} "
                    f"({type(part).__name__}) has parameters and no reset_parameters(); give it that method"
                )
            if own:
                part.reset_parameters()
        return network

    def cut(self, network: nn.Module, size: int) -> Cut:
        """The cut of a network that need not have a classifier."""
        return Cut(network.eval(), size, traits=self.traits(network))

    def traits(self, model: nn.Module) -> Traits:
        return dataclasses.replace(TORCHVISION.traits(model), sized=True)

    def classifiers(self, model: nn.Module) -> tuple[str, ...]:
        """The layer whose output is the network's, but for its shape; () where there is none."""
        if isinstance(model, Body):
            return ("fc",)
        return Cut(model, _preprocessing(model, "").crop, traits=self.traits(model)).last_modules()

    def pretrained(self, name: str, weights: str) -> Pretrained | None:
        """Its own weights are those that it is made with."""
        return Pretrained(None, "its own") if weights == "default" else None

    def made(self, name: str) -> nn.Module:
        return self.build(name)

    def preset(self, name: str) -> Preprocessing:
        return _preprocessing(_made(name, None), name)


FAMILY = Own()


def _made(name: str, classes: int | None) -> nn.Module:
    """The network of a name: a copy of a ready one."""
    if name.startswith(HANDED_PREFIX):
        if name not in _HANDED:
            raise UserError(f"{name} was handed over in Python, by another process; hand it over again as backbone=")
        return copy.deepcopy(_HANDED[name])
    code = NamedCode.parse(name)
    made = code.load()
    if not isinstance(made, nn.Module):
        with running(code.plain):
            asked = inspect.signature(made).parameters
        counts = [key for key in ("classes", "num_classes", "n_classes") if key in asked and key not in code.options]
        required = any(asked[key].default is inspect.Parameter.empty for key in counts)
        number = 1000 if classes is None and required else classes
        made = code.call(**{key: number for key in counts[:1] if number is not None})
    if not isinstance(made, nn.Module):
        raise UserError(f"{code.plain} gives a {type(made).__name__}; a backbone is a torch.nn.Module, or builds one")
    return copy.deepcopy(made).cpu().float()


def _preprocessing(network: nn.Module, name: str) -> Preprocessing:
    """What a network's attribute says; UserError where it cannot be read."""
    said = getattr(network, "preprocessing", None)
    if said is None:
        return TORCHVISION.preset("resnet18")
    if isinstance(said, Preprocessing):
        return said
    try:
        fields = dict(said)
        crop = int(fields["crop"])
        fields = {
            "resize": round(256 * crop / 224),
            **fields,
            "mean": tuple(fields["mean"]),
            "std": tuple(fields["std"]),
        }
        return Preprocessing.parse(Preprocessing(**fields).describe(0), "center")
    except (TypeError, ValueError, KeyError) as error:
        raise UserError(
            f"{name}: its preprocessing is {str(said)[:80]}; give a dict of mean and std (three numbers of 0 to 1), "
            "crop, resize, interpolation and crop_mode"
        ) from error
