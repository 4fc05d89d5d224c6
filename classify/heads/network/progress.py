"""How far a training run has come: its epochs so far, and the best of them."""

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any

from classify.heads.network.checkpoint import Tensors


@dataclass(frozen=True)
class Epoch:
    """What one epoch did, counted from 1: the loss and the penalty are means over its batches, seconds are all in."""

    epoch: int
    step: int
    loss: float
    penalty: float
    learning_rate: float
    seconds: float
    validation_loss: float | None = None
    validation_accuracy: float | None = None
    validation_macro_f1: float | None = None

    def __str__(self) -> str:
        parts = [f"epoch {self.epoch}: loss {self.loss:.4f}"]
        if self.penalty:
            parts.append(f"penalty {self.penalty:.4f}")
        if self.validation_accuracy is not None:
            parts.append(f"validation {100 * self.validation_accuracy:.2f} %, macro F1 {self.validation_macro_f1:.4f}")
        return ", ".join([*parts, f"{self.seconds:.1f} s"])


@dataclass
class Progress:
    """How far a run has come: all of it goes into a checkpoint."""

    step: int = 0
    history: list[Epoch] = field(default_factory=list)
    best_epoch: int = 0
    best_score: tuple[float, float] = (-math.inf, -math.inf)
    best: Tensors | None = None
    stopped_early: bool = False

    def values(self) -> dict[str, Any]:
        """The plain values among these."""
        return {
            "step": self.step,
            "history": [dataclasses.asdict(epoch) for epoch in self.history],
            "best_epoch": self.best_epoch,
            "best_score": list(self.best_score) if self.best is not None else None,
            "stopped_early": self.stopped_early,
        }

    def restore(self, values: dict[str, Any], best: Tensors | None) -> None:
        """Take over what `values` wrote."""
        self.step, self.best_epoch, self.stopped_early = values["step"], values["best_epoch"], values["stopped_early"]
        self.history = [Epoch(**fields) for fields in values["history"]]
        self.best = best
        if values["best_score"]:
            self.best_score = tuple(values["best_score"])
