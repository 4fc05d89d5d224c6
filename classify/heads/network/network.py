"""A network of one's own, cut in two: a copy of a backbone with a new classifier, frozen below the cut.

The backbone that it is made from never changes: what trains is copied, and nothing writes into the memory of the frozen
half, which is the backbone's. What is trained is named here; how, is `classify.heads.network.training`.
"""

from collections.abc import Iterable
from functools import cached_property

import torch
from torch import fx, nn

from classify.heads.network.graph import NORMALISATIONS, parameters_of
from extract.trunk import Output, Trunk, choose_recipe
from features.architectures import drop_auxiliary, outline
from features.backbones import Backbone
from features.backbones.family import another_classifier
from features.cut import Cut
from features.errors import UserError, unknown
from features.twins import own_numbers, twin


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
        self.model = twin(backbone.model)
        drop_auxiliary(self.model)
        family = backbone.family
        self.source_head = None if backbone.headless else self.model.get_submodule(family.classifiers(self.model)[0])
        self.classifiers = self._replace_classifier(seed)
        self.classifier = self.classifiers[0]
        self.cut = backbone.cut_of(self.model, size)
        self.layer = self.cut.resolve(layer_below(self.cut, point))
        self.scratch = fresh_above == "input"
        above = None if fresh_above is None else self.cut.tail(self.cut.resolve(fresh_above))
        self.fresh = frozenset(name for name, _ in above.named_parameters()) if above else frozenset()
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
        own_numbers(self.tail)
        if above:
            self._initialise(above, seed)

    @cached_property
    def trunk(self) -> fx.GraphModule | None:
        """The frozen half; None where nothing is frozen."""
        return None if self.layer == self.cut.resolve("input") else self.cut.trunk([self.layer])

    def take(self, trained: nn.Module) -> None:
        """Hold the weights of `trained`, a network of the same kind and number of classes."""
        state, own = trained.state_dict(), self.model.state_dict(keep_vars=True)
        for name, tensor in own.items():
            if name in state and tensor.data_ptr() != state[name].data_ptr():
                tensor.data = torch.empty_like(tensor)  # what was there may be the backbone's
        # Version 0.1.0 saved the auxiliary heads as well, which take no part. A copy without torch's note of versions
        # would not do for MNASNet.
        for name in state.keys() - own.keys():
            del state[name]
        self.model.load_state_dict(state)

    @property
    def shape(self) -> tuple[int, ...]:
        """What the tail takes for one image: (3, S, S), or the map at the cut."""
        return self.cut.shape(self.layer)

    @property
    def _above_all(self) -> tuple[str, ...]:
        """What the names of the new classifier's parameters begin with."""
        return tuple(f"{name}." for name in self.classifiers)

    @property
    def new(self) -> frozenset[str]:
        """Names of the tail's parameters in the new classifier."""
        return frozenset(name for name, _ in self.tail.named_parameters() if name.startswith(self._above_all))

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

    def by_stage(self, names: Iterable[str]) -> dict[str, list[str]]:
        """Those of the tail's parameters that lie between the end of each stage and that of the one before it, shallow
        to deep; what follows the last stage is in none."""
        left, groups = list(names), {}
        for stage in self.cut.inner_stages:
            above = {name for name, _ in self.cut.tail(self.cut.resolve(stage)).named_parameters()}
            groups[stage] = [name for name in left if name not in above]
            left = [name for name in left if name in above]
        return groups

    def _replace_classifier(self, seed: int) -> tuple[str, ...]:
        """Put a new classifier into the model, randomly initialised with `seed`; the names of its modules."""
        family, headless = self.backbone.family, self.backbone.headless
        # Weights that came without a classifier say nothing of it; their architecture does.
        whole = outline(self.backbone.name) if headless and not family.is_headless(self.model) else None
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            if whole is None:
                return family.new_classifier(self.model, self.classes)
            name = family.classifiers(whole)[0]
            self.model.set_submodule(name, another_classifier(whole.get_submodule(name), self.classes))
            return (name,)

    def _hold(self, point: str, until: str) -> None:
        """Freeze what lies above the stage `until`, but for the new classifier."""
        stages = self.cut.inner_stages
        first = 0 if point == "all" else stages.index(point) if point in stages else len(stages)
        if until not in stages[first:]:
            choice = ", ".join(stages[first:]) or "nothing, since only the new classifier trains"
            raise UserError(f"training from {point!r} on cannot end with {until!r}; give the last stage: {choice}")
        above = self.cut.tail(self.cut.resolve(until))
        names = {name for name, _ in above.named_parameters()}
        self.held = frozenset(name for name in names if not name.startswith(self._above_all))
        for name, parameter in self.tail.named_parameters():
            if name in self.held:
                parameter.requires_grad_(False)
        self.still = frozenset(
            path
            for path, part in above.named_modules()
            if path not in ("", *self.classifiers) and not list(part.children())
        )

    def _initialise(self, above: nn.Module, seed: int) -> None:
        """Initialise the weights of a part of the tail at random, batch-norm statistics too."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            options = self.backbone.family.options_of(self.backbone.model)
            initial = self.backbone.family.drawn(self.backbone.name, self.classes, **options).state_dict()
        with torch.no_grad():
            for name, tensor in above.state_dict().items():
                if name in initial:  # else it is a constant that tracing left
                    tensor.copy_(initial[name])


class FrozenTrunk:
    """The frozen half in the loop, computed as extraction computes it: images in, the tail's float32 input out."""

    def __init__(self, network: Network, precision: str, device: torch.device) -> None:
        outputs = [Output(network.layer, "none")]
        recipe = choose_recipe(network.cut, outputs, images=1, precision=precision, device=device, compiled="off")
        self._trunk = Trunk(network.cut, outputs, recipe, device)
        self._last = network.cut.layout(network.layer) == "map last"

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        maps = self._trunk(images)[0].float()
        return maps.permute(0, 2, 3, 1) if self._last else maps
