"""What a regulariser is: prepared once for a network, then a scalar for every batch, added to the loss.

A regulariser names what it wants to see (`observes`, nodes of the tail) and gets it with each step; nothing is hooked
into the network. One that changes modules does so in `attached`, which puts them back however training ends. What it
trains beside the network are its own parameters, what must survive a kill its own state.
"""

import contextlib
import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import fx, nn

from classify.heads.network.network import Network
from features.errors import UserError

Batches = Callable[[np.ndarray], Iterator[tuple[torch.Tensor, torch.Tensor]]]


@dataclass(frozen=True)
class Step:
    """One training step: the tail's input (B, ...), logits (B, K) float32, class numbers (B,), observed outputs."""

    inputs: torch.Tensor
    logits: torch.Tensor
    codes: torch.Tensor
    seen: tuple[torch.Tensor, ...] = ()


@dataclass(frozen=True)
class Context:
    """What a regulariser is prepared with, before the first step.

    network: still in its starting state. codes: class numbers of all training rows, int64 (N,). batches: rows ->
    the tail's inputs and the class numbers, in order, a batch at a time, on the device and not augmented. probe:
    weights (K, D) and intercepts (K,) of a logistic regression on the classifier's inputs. autocast: the context
    manager that a forward pass of the source network takes, for numbers like the trained one's. name: of the
    regulariser, for what it complains of.
    """

    network: Network
    codes: np.ndarray
    batches: Batches
    probe: Callable[[], tuple[np.ndarray, np.ndarray]]
    autocast: Callable[[], contextlib.AbstractContextManager] = contextlib.nullcontext
    seed: int = 0
    name: str = ""

    @classmethod
    def without_images(cls, network: Network) -> "Context":
        """What there is to check a regulariser against before any image has been read."""
        return cls(network, np.zeros(0, np.int64), lambda rows: iter(()), lambda: (np.zeros((0, 0)), np.zeros(0)))

    @property
    def classifier_input(self) -> str:
        """The node whose output the new classifier reads."""
        tail = self.network.tail
        call = next(n for n in tail.graph.nodes if n.op == "call_module" and n.target == self.network.classifier)
        return call.all_input_nodes[0].name

    def shuffled_rows(self) -> np.ndarray:
        """All training rows in an order drawn with the seed."""
        return np.random.default_rng([self.seed, 2]).permutation(len(self.codes))

    def some_rows(self, count: int) -> np.ndarray:
        """At most `count` training rows, drawn with the seed."""
        return np.sort(self.shuffled_rows()[:count])

    def source_tail(self) -> fx.GraphModule:
        """A frozen copy of the tail with the source network's own classifier; UserError where that is unknown."""
        head = self.source_head()
        tail = copy.deepcopy(self.network.tail).eval().requires_grad_(False)
        tail.set_submodule(self.network.classifier, copy.deepcopy(head))
        return tail

    def source_head(self) -> nn.Module:
        """The source network's own classifier; UserError where the weights came without one."""
        if self.network.source_head is None:
            weights = self.network.backbone.weights_name
            raise UserError(
                f"--regularizer {self.name} needs the source network's own classifier, and {weights} came without one; "
                "take weights with it, or another regulariser"
            )
        return self.network.source_head

    def stages_above(self) -> list[str]:
        """The stages whose maps train above the cut, shallow to deep; UserError where there is none."""
        network, cut = self.network, self.network.cut
        above = [stage for stage in cut.inner_stages if network.cut.node_names[cut.resolve(stage)] in self._inside]
        if not above:
            raise UserError(
                f"--regularizer {self.name}: no stage's feature maps train above the cut; unfreeze from an earlier "
                "stage"
            )
        return above

    def node_above(self, layer: str, name: str | None = None) -> str:
        """What the tail calls a layer; UserError, in the name of the regulariser or another, for one that is not above
        the cut."""
        node = self.network.cut.node_names[self.network.cut.resolve(layer)]
        if node not in self._inside:
            raise UserError(
                f"--regularizer {name or self.name}: {layer!r} is not above the cut, so it does not train; give one of "
                f"{', '.join(self.stages_above())}"
            )
        return node

    @property
    def _inside(self) -> set[str]:
        return {node.name for node in self.network.tail.graph.nodes if node.op not in ("placeholder", "output")}

    def require_transferred(self) -> None:
        """Raise UserError where no transferred parameter trains."""
        if not self.network.transferred:
            raise UserError(
                f"--regularizer {self.name} acts on pre-trained weights that train, and here there are none; unfreeze "
                "more than 'fc' of a pre-trained network, or take l2"
            )


class Regularizer(nn.Module):
    """A prepared regulariser: `forward(step)` is its share of the loss, a scalar tensor, strength included.

    observes: names of the tail's nodes whose outputs it takes from `step.seen`, in this order. described: one line
    about what it was prepared from. ON_TRANSFERRED: it acts on pre-trained weights that train, and needs some.
    """

    ON_TRANSFERRED: ClassVar[bool] = False
    observes: tuple[str, ...] = ()
    described: str = ""

    @classmethod
    def check(cls, context: Context, *strengths: Any, **options: Any) -> None:
        """Raise UserError where it cannot act on the context's network: called before the constructor, with the same
        arguments, and, without images, before anything is extracted or trained."""
        if cls.ON_TRANSFERRED:
            context.require_transferred()

    def attached(self) -> contextlib.AbstractContextManager:
        """Entered before training, left after it in any case."""
        return contextlib.nullcontext()

    def forward(self, step: Step) -> torch.Tensor:
        """The penalty for one batch."""
        raise NotImplementedError

    def stepped(self, inputs: torch.Tensor, codes: torch.Tensor) -> None:
        """Called after each step of the optimiser with its batch, the tail's inputs and class numbers: what a
        regulariser learns beside the network, it learns here. What must survive a kill belongs in its own state."""

    def learned(self) -> dict[str, Any]:
        """What it has learned, as plain values, for the result's record."""
        return {}
