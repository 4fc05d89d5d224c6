"""The optimiser, its groups of parameters and the learning rate of every step."""

import math
from collections.abc import Iterable

import torch
from torch import nn

from classify.heads.network.settings import TrainingSettings

_MOMENTUM = 0.9
_WARM_UP, _FIRST_RATE, _LAST_RATE = 0.3, 1 / 25, 1e-4 / 25


def rate_factor(schedule: str, step: int, steps: int, epoch: int, epochs: int) -> float:
    """What the learning rate is multiplied by at `step` of `steps`, in `epoch` of `epochs`, all counted from 0.

    'cosine': (1 + cos(pi t)) / 2. 'one-cycle': along a cosine from 1/25 to 1 in the first 30 % of the steps, then down
    to 1e-4/25. 'book': 1 / (1 + 10 e/n)^0.75, once an epoch. 'constant': 1.
    """
    if schedule == "constant":
        return 1.0
    if schedule == "book":
        return (1 + 10 * epoch / epochs) ** -0.75
    if schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * step / steps))
    peak = max(0.0, _WARM_UP * steps - 1)
    if step < peak:
        return _along_cosine(_FIRST_RATE, 1.0, step / peak)
    return _along_cosine(1.0, _LAST_RATE, (step - peak) / max(1.0, steps - 1 - peak))


def _along_cosine(start: float, end: float, time: float) -> float:
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * time))


def build_optimizer(
    settings: TrainingSettings,
    named: Iterable[tuple[str, nn.Parameter]],
    fast: frozenset[str],
    spared: frozenset[str],
) -> torch.optim.Optimizer:
    """An optimiser over the parameters that train, in groups whose `factor` is the multiple of the learning rate.

    fast: names that learn `head_multiple` times as fast. spared: names without weight decay, beside all biases.
    """
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in named:
        if parameter.requires_grad:
            decays = name not in spared and parameter.ndim > 1
            groups.setdefault((name in fast, decays), []).append(parameter)
    described = [
        {
            "params": parameters,
            "factor": settings.head_multiple if quick else 1.0,
            "weight_decay": settings.weight_decay if decays else 0.0,
        }
        for (quick, decays), parameters in sorted(groups.items())
    ]
    device = described[0]["params"][0].device
    options = {"lr": settings.learning_rate, "fused": device.type in ("cpu", "cuda")}
    if settings.optimizer == "sgd":
        return torch.optim.SGD(described, momentum=_MOMENTUM, **options)
    kind = torch.optim.AdamW if settings.optimizer == "adamw" else torch.optim.Adam
    return kind(described, **options)


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of the step to come, each group at its own multiple."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["factor"]
