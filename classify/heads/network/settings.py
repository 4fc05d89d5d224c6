"""Everything a practitioner sets about a training run, as one immutable value; legal values are data."""

import dataclasses
from dataclasses import dataclass
from typing import Any

from classify.heads.legal import FitError, Number, OneOf

SCHEDULES = ("cosine", "one-cycle", "book", "constant")
OPTIMIZERS = ("adamw", "adam", "sgd")
AUGMENTATIONS = ("shift", "rotate", "scale", "flip")

# Settings that came after version 0.1.0: where one is as it was then, a record does not name it, and its digest stays.
_LATER = ("layer_decay",)

_COUNT = Number(1, closed=True, integer=True)
_NOT_NEGATIVE = Number(0, closed=True)

LEGAL: dict[str, tuple] = {
    "epochs": (_COUNT,),
    "steps": (OneOf((None,)), _COUNT),
    "batch_size": (_COUNT,),
    "optimizer": (OneOf(OPTIMIZERS),),
    "learning_rate": (Number(0),),
    "head_multiple": (Number(0),),
    "schedule": (OneOf(SCHEDULES),),
    "weight_decay": (_NOT_NEGATIVE,),
    "patience": (OneOf((None,)), _COUNT),
    "batch_norm": (OneOf(("train", "freeze")),),
    "precision": (OneOf(("auto", "float32", "bfloat16")),),
    "label_smoothing": (Number(0, 1, closed=True),),
    "seed": (Number(0, closed=True, integer=True),),
    "init_head": (OneOf(("random", "probe")),),
    "layer_decay": (Number(0, 1),),
}


@dataclass(frozen=True)
class TrainingSettings:
    """How a network is trained. Raises FitError for a value that is not legal.

    epochs: passes over the training images. steps: a fixed number of batches instead; nothing is then stopped early,
    and the weights after the last step are the result. head_multiple: learning rate of the new layer, in units of the
    others' (ten times in chapter 8 of the book); networks without any pre-trained weight use one rate for all.
    schedule: 'cosine' to zero, 'one-cycle' (a rise over the first 30 % of the steps, then cosine), 'book'
    (lr / (1 + 10 e/n)^0.75 in epoch e of n) or 'constant'. weight_decay: decoupled in adamw, added to the gradient in
    adam and sgd (momentum 0.9); biases and normalisation are left out. patience: stop after so many epochs none of
    which was better on validation, by accuracy and of equals by loss (None: never). batch_norm: 'freeze' keeps the
    pre-trained statistics and scales. precision: 'auto' is bfloat16 mixed precision where the processor has it.
    augment: any of 'shift', 'rotate', 'scale' and 'flip', drawn anew for each image and epoch. init_head: 'probe'
    starts the new layer from a fitted logistic regression (LP-FT, Kumar et al. 2022). layer_decay: learning rate of a
    stage, in units of that of the stage above it; the last stage has the rate itself.
    """

    epochs: int = 10
    steps: int | None = None
    batch_size: int = 128
    optimizer: str = "adamw"
    learning_rate: float = 2e-4
    head_multiple: float = 10.0
    schedule: str = "cosine"
    weight_decay: float = 0.01
    patience: int | None = None
    batch_norm: str = "train"
    precision: str = "auto"
    label_smoothing: float = 0.0
    seed: int = 0
    augment: tuple[str, ...] = ()
    init_head: str = "random"
    layer_decay: float = 1.0

    def __post_init__(self) -> None:
        for name, rules in LEGAL.items():
            value = getattr(self, name)
            if not any(rule.admits(value) for rule in rules):
                raise FitError(f"{name}={value!r} is not legal in training; give {', or '.join(map(str, rules))}")
        if isinstance(self.augment, str) or set(self.augment) - set(AUGMENTATIONS):
            raise FitError(f"augment={self.augment!r} is not legal; give any of {', '.join(AUGMENTATIONS)}")
        if self.steps is not None and self.patience is not None:
            raise FitError("a fixed number of steps is never stopped early; leave out patience, or give epochs instead")
        object.__setattr__(self, "augment", tuple(self.augment))

    def from_drawn_weights(self) -> "TrainingSettings":
        """The same for a network that starts from a random initialisation: with neither features to probe nor
        statistics to freeze, and one learning rate for all stages."""
        return dataclasses.replace(self, init_head="random", batch_norm="train", layer_decay=1.0)

    def to_json(self) -> dict[str, Any]:
        """The fields as plain JSON values, without those that 0.1.0 had not where they change nothing."""
        fields = {**dataclasses.asdict(self), "augment": list(self.augment)}
        usual = {name for name in _LATER if fields[name] == getattr(type(self), name)}
        return {name: value for name, value in fields.items() if name not in usual}

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> "TrainingSettings":
        """The settings that `to_json` wrote."""
        return cls(**{**fields, "augment": tuple(fields["augment"])})
