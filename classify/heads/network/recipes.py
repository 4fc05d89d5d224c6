"""Recipes of training by name: settings that were best together on validation, and are spelled out before use.

A recipe is data. What trains and what a record holds are plain `TrainingSettings`; the name is no part of either.
This module imports neither torch nor numpy.
"""

from dataclasses import dataclass
from typing import Any

from classify.heads.network import NETWORKS
from classify.heads.network.settings import TrainingSettings
from features.errors import unknown


@dataclass(frozen=True)
class Fields:
    """What a recipe sets: for pre-trained networks, and for those from a random initialisation."""

    pretrained: dict[str, Any]
    drawn: dict[str, Any]


# Measured on rows of the training split alone (docs/howto/networks.md). No flips: a digit has no mirror image.
_MOVED = ("shift", "rotate", "scale")
_FROM_SCRATCH = {"batch_size": 32, "learning_rate": 1e-3, "augment": _MOVED}
RECIPES = {
    "strong": Fields({"batch_size": 32, "learning_rate": 4e-4, "head_multiple": 1.0, "augment": _MOVED}, _FROM_SCRATCH),
    "gentle": Fields(
        {"batch_size": 32, "learning_rate": 2e-4, "init_head": "probe", "layer_decay": 0.6, "augment": _MOVED},
        _FROM_SCRATCH,
    ),
}


@dataclass(frozen=True)
class Recipe:
    """How networks are trained, by what they start from."""

    pretrained: TrainingSettings
    drawn: TrainingSettings

    @classmethod
    def of(cls, name: str | None = None, **fields: Any) -> "Recipe":
        """The recipe of this name with these fields of `TrainingSettings` in place of its own; None: the usual
        settings. UserError where there is none."""
        if name is None:
            return cls.alike(TrainingSettings(**fields))
        if name not in RECIPES:
            raise unknown(f"there is no recipe called {name!r}", name, tuple(RECIPES))
        named = RECIPES[name]
        return cls(TrainingSettings(**{**named.pretrained, **fields}), TrainingSettings(**{**named.drawn, **fields}))

    @classmethod
    def alike(cls, settings: TrainingSettings) -> "Recipe":
        """The same settings for all networks."""
        return cls(settings, settings)

    def settings(self, network: str) -> TrainingSettings:
        """Those of a network of `NETWORKS`, by name."""
        return self.drawn if NETWORKS[network].drawn else self.pretrained

    def to_json(self) -> dict[str, Any]:
        """`training`, and where they are others, `training_drawn`: the fields as plain JSON values."""
        drawn = {} if self.drawn == self.pretrained else {"training_drawn": self.drawn.to_json()}
        return {"training": self.pretrained.to_json(), **drawn}
