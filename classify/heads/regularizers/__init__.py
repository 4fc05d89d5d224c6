"""Regularisers of fine-tuning (chapter 8.3 of the book): their names, and how `--regularizer` is read.

This module imports neither torch nor numpy. To add a regulariser, write its file and one entry in `REGULARIZERS`.
"""

import dataclasses
import importlib
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from features.errors import UserError, unknown


@dataclass(frozen=True)
class Kind:
    """A regulariser by name: one line for `--help`, where it lives, its strengths in order, and what is fixed.

    strengths: the defaults; as many numbers may be given. layers: whether `@LAYER+LAYER` may follow. alone: whether it
    acts where nothing trains but the new layer.
    """

    name: str
    summary: str
    builder: str
    strengths: tuple[float, ...]
    layers: bool = False
    fixed: dict[str, Any] = field(default_factory=dict)
    alone: bool = False


REGULARIZERS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("l2", "weights towards zero", "l2:L2", (1e-4,), alone=True),
        Kind("l2-sp", "weights towards their start, the new layer towards zero", "l2_sp:L2SP", (0.01, 0.01)),
        Kind("ewc", "weights towards their start, by the source network's Fisher information", "ewc:EWC", (1.0,)),
        Kind("delta", "feature maps towards the source network's", "delta:Delta", (1e-4,), True),
        Kind(
            "delta-attention",
            "the same, channels weighted by how much the loss rises without them",
            "delta:Delta",
            (1e-4,),
            True,
            {"attention": True},
        ),
        Kind(
            "l2t-ww",
            "feature maps towards the source network's: which ones and how strongly is learned on the way",
            "l2t_ww:L2TWW",
            (0.5, 0.1, 1e-3),
            True,
        ),
        Kind("bss", "the smallest singular values of a batch's features towards zero", "bss:BSS", (1e-3,)),
        Kind("co-tuning", "the source classifier trains on, towards related classes", "co_tuning:CoTuning", (2.3,)),
        Kind("stochnorm", "batch norm by batch or moving statistics, at random", "stochnorm:StochNorm", (0.5,)),
    )
}


@dataclass(frozen=True)
class RegularizerSpec:
    """A regulariser as asked for: its name, its strengths and, where it takes them, layers."""

    name: str
    strengths: tuple[float, ...]
    layers: tuple[str, ...] = ()

    def __str__(self) -> str:
        numbers = ",".join(f"{strength:g}" for strength in self.strengths)
        return f"{self.name}={numbers}" + (f"@{'+'.join(self.layers)}" if self.layers else "")

    def check(self, context: Any) -> None:
        """Raise UserError where it cannot act on a network; the context needs no images."""
        builder, options = self._builder()
        builder.check(dataclasses.replace(context, name=self.name), *self.strengths, **options)

    def prepare(self, context: Any) -> Any:
        """The `classify.heads.regularizers.protocol.Regularizer` for a network in its starting state."""
        self.check(context)
        builder, options = self._builder()
        return builder(dataclasses.replace(context, name=self.name), *self.strengths, **options)

    def _builder(self) -> tuple[Any, dict[str, Any]]:
        kind = REGULARIZERS[self.name]
        module, builder = kind.builder.split(":")
        options = {**kind.fixed, **({"layers": self.layers} if kind.layers else {})}
        return getattr(importlib.import_module(f"{__name__}.{module}"), builder), options


def parse_regularizers(texts: Iterable[str | RegularizerSpec]) -> tuple[RegularizerSpec, ...]:
    """Read NAME, NAME=STRENGTH, NAME=STRENGTH,STRENGTH or NAME=STRENGTH@LAYER+LAYER, each name once.

    What is left out takes the default in `REGULARIZERS`. Raises UserError with the nearest names for an unknown one.
    """
    if isinstance(texts, str):
        texts = texts.split()
    specs = tuple(text if isinstance(text, RegularizerSpec) else _parse(text) for text in texts)
    names = [spec.name for spec in specs]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"--regularizer {name} was given {names.count(name)} times; give each once")
    return specs


def _parse(text: str) -> RegularizerSpec:
    parts = re.fullmatch(r"([^=@]*)(=[^@]*)?(@.*)?", text.strip(), re.DOTALL)
    assert parts is not None  # since each of them may be empty, there is no other text
    name, numbers, layers = parts.groups()
    if name not in REGULARIZERS:
        raise unknown(f"there is no regulariser {name!r}", name, REGULARIZERS)
    kind = REGULARIZERS[name]
    given = tuple(_strength(text, part) for part in numbers[1:].split(",")) if numbers else ()
    if len(given) > len(kind.strengths):
        raise UserError(f"--regularizer {text}: {name} takes at most {len(kind.strengths)} strength(s)")
    if layers and not kind.layers:
        raise UserError(f"--regularizer {text}: {name} does not act on layers; leave out {layers}")
    chosen = tuple(part.strip() for part in layers[1:].split("+")) if layers else ()
    return RegularizerSpec(name, given + kind.strengths[len(given) :], chosen)


def _strength(text: str, part: str) -> float:
    try:
        value = float(part)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= 0):
        raise UserError(f"--regularizer {text}: {part!r} is no strength; give a number of 0 or more, as in l2-sp=0.01")
    return value
