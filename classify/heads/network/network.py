"""A network of one's own, cut in two: a copy of a backbone with a new classifier, frozen below the cut.

The backbone that it is made from never changes: everything is copied. What is trained is named here; how, is
`classify.heads.network.training`.
"""

import copy
from functools import cached_property
from typing import Any

import torch
from torch import fx, nn
from torchvision.models.feature_extraction import NodePathTracer

from classify.heads.network.graph import NORMALISATIONS, parameters_of
from features.architectures import build_model, drop_auxiliary, outline
from features.backbones import Backbone
from features.cut import Cut
from features.errors import UserError, unknown


def unfreeze_points(cut: Cut) -> tuple[str, ...]:
    """The stages from which a network can be trained, deep to shallow: 'fc', ..., 'all'."""
    return ("fc", *reversed(cut.inner_stages[1:]), "all")


def layer_below(cut: Cut, point: str) -> str:
    """The layer to cut at so that `point` is the first stage that trains: 'layer3' for 'layer4', 'input' for 'all'."""
    points = unfreeze_points(cut)
    if point not in points:
        raise unknown(f"nothing can be unfrozen from {point!r} on", point, points)
    if point in ("fc", "all"):
        return {"fc": "avgpool", "all": "input"}[point]
    return cut.stages[cut.stages.index(point) - 1]


class Network:
    """A copy of a backbone with a new classifier for `classes` classes, and its two halves at a cut.

    point: the first stage that trains (`unfreeze_points`). fresh_above: weights above this layer are initialised at
    random with `seed` ('input': all of them, training from scratch; None: only the new classifier). What lies below the
    cut is frozen and in eval mode for good. until: the last stage that trains, beside the new classifier; what lies
    between them is frozen as well (`held`: its parameters; `still`: its modules, which stay in eval mode).
    """

    def __init__(
        self,
        backbone: Backbone,
        classes: int,
        *,
        point: str = "all",
        fresh_above: str | None = None,
        until: str | None = None,
        image_size: int | None = None,
        seed: int = 0,
    ) -> None:
        size = backbone.preprocessing.at(image_size).crop
        self.backbone = backbone
        self.image_size = size
        self.classes = classes
        self.model = copy.deepcopy(backbone.model)
        drop_auxiliary(self.model)
        family = backbone.family
        self.source_head = None if backbone.headless else self.model.get_submodule(family.classifiers(self.model)[0])
        self.classifier = self._replace_classifier(seed)
        self.cut = backbone.cut_of(self.model, size)
        self.layer = self.cut.resolve(layer_below(self.cut, point))
        self.scratch = fresh_above == "input"
        self.fresh = frozenset() if fresh_above is None else self._initialise(self.cut.resolve(fresh_above), seed)
        self.model.eval().requires_grad_(False)
        self.tail = self.cut.tail(self.layer).requires_grad_(True)
        self.held: frozenset[str] = frozenset()
        self.still: frozenset[str] = frozenset()
        if until is not None:
            self._hold(point, until)
        trained = {name for name, _ in self.tail.named_parameters()} - self.held
        if frozen := self.fresh - trained:
            trained_part = f"only {point!r} and what follows" if until is None else f"nothing above {until!r}"
            raise UserError(
                f"weights reinitialised above {fresh_above!r} would be frozen when {trained_part} trains "
                f"({sorted(frozen)[0]} is one); unfreeze more, or draw fewer weights anew"
            )

    @cached_property
    def trunk(self) -> fx.GraphModule | None:
        """The frozen half; None where nothing is frozen."""
        return None if self.layer == self.cut.resolve("input") else self.cut.trunk([self.layer])

    def take(self, trained: nn.Module) -> None:
        """Hold the weights of `trained`, a network of the same kind and number of classes."""
        state = trained.state_dict()
        # Version 0.1.0 saved the auxiliary heads as well, which take no part. A copy without torch's note of versions
        # would not do for MNASNet.
        for name in state.keys() - self.model.state_dict().keys():
            del state[name]
        self.model.load_state_dict(state)

    @property
    def shape(self) -> tuple[int, ...]:
        """What the tail takes for one image: (3, S, S), or the map at the cut."""
        return self.cut.shape(self.layer)

    @property
    def new(self) -> frozenset[str]:
        """Names of the tail's parameters in the new classifier."""
        return frozenset(name for name, _ in self.tail.named_parameters() if name.startswith(f"{self.classifier}."))

    @property
    def initialised(self) -> frozenset[str]:
        """Names of the tail's weights that start at random, those of normalisation left out."""
        return self.new | (self.fresh - self.normalisation)

    @property
    def transferred(self) -> frozenset[str]:
        """Names of the tail's parameters that start from the source network and train."""
        return frozenset(name for name, _ in self.tail.named_parameters()) - self.new - self.fresh - self.held

    @cached_property
    def normalisation(self) -> frozenset[str]:
        """Names of the tail's parameters that belong to batch norm and its kin."""
        return parameters_of(self.tail, NORMALISATIONS)

    @cached_property
    def node_names(self) -> dict[str, str]:
        """For each layer's name, what the node is called in the graphs that the cut gives."""
        tracer = NodePathTracer()
        tracer.trace(self.model)
        return {name: node.name for node, name in tracer.node_to_qualname.items()}

    def _replace_classifier(self, seed: int) -> str:
        """Put a new classifier into the model, randomly initialised with `seed`; its name."""
        family = self.backbone.family
        name = family.classifiers(self.model)[0]
        old: nn.Module = self.model.get_submodule(name)
        if self.backbone.headless:
            whole = outline(self.backbone.name)
            name = family.classifiers(whole)[0]
            old = whole.get_submodule(name)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            new: nn.Module
            if isinstance(old, nn.Linear):
                new = nn.Linear(old.in_features, self.classes, bias=old.bias is not None)
            else:
                assert isinstance(old, nn.Conv2d)  # the other of the two that `classifier_name` finds
                # torch has these attributes as tuples of any length, and its constructor asks for pairs.
                sizes: tuple[Any, ...] = (old.kernel_size, old.stride, old.padding)
                new = nn.Conv2d(old.in_channels, self.classes, *sizes)
        self.model.set_submodule(name, new)
        return name

    def _hold(self, point: str, until: str) -> None:
        """Freeze what lies above the stage `until`, but for the new classifier."""
        stages = self.cut.inner_stages
        first = 0 if point == "all" else stages.index(point) if point in stages else len(stages)
        if until not in stages[first:]:
            choice = ", ".join(stages[first:]) or "nothing, since only the new classifier trains"
            raise UserError(f"training from {point!r} on cannot end with {until!r}; give the last stage: {choice}")
        above = self.cut.tail(self.cut.resolve(until))
        names = {name for name, _ in above.named_parameters()}
        self.held = frozenset(name for name in names if not name.startswith(f"{self.classifier}."))
        for name, parameter in self.tail.named_parameters():
            if name in self.held:
                parameter.requires_grad_(False)
        self.still = frozenset(
            path
            for path, part in above.named_modules()
            if path not in ("", self.classifier) and not list(part.children())
        )

    def _initialise(self, layer: str, seed: int) -> frozenset[str]:
        """Initialise all weights above `layer` at random, batch-norm statistics too; the names of the parameters."""
        above = self.cut.tail(layer)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            options = self.backbone.family.options_of(self.backbone.model)
            initial = build_model(self.backbone.name, classes=self.classes, **options).state_dict()
        state = above.state_dict()
        with torch.no_grad():
            for name, tensor in state.items():
                tensor.copy_(initial[name])
        return frozenset(name for name, _ in above.named_parameters())
