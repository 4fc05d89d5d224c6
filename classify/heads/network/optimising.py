"""The optimiser, its groups of parameters and the learning rate of every step.

Convolutions keep their weights channels last. torch's fused optimisers copy such tensors before and after every step,
which takes two thirds of their time, so they are given views of the same memory in its own order.
"""

import math
from collections.abc import Iterable, Mapping

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


class Optimizer:
    """An optimiser over parameters that train, in groups whose `factor` is the multiple of the learning rate."""

    def __init__(self, settings: TrainingSettings, groups: list[dict]) -> None:
        self._views: list[tuple[nn.Parameter, nn.Parameter]] = []
        described = [{**group, "params": [self._in_order(p) for p in group["params"]]} for group in groups]
        device = described[0]["params"][0].device
        rate, fused = settings.learning_rate, device.type in ("cpu", "cuda")
        self.inner: torch.optim.Optimizer
        if settings.optimizer == "sgd":
            self.inner = torch.optim.SGD(described, lr=rate, momentum=_MOMENTUM, fused=fused)
        else:
            kind = torch.optim.AdamW if settings.optimizer == "adamw" else torch.optim.Adam
            self.inner = kind(described, lr=rate, fused=fused)

    def _in_order(self, parameter: nn.Parameter) -> nn.Parameter:
        """A view of a parameter in the order of its memory, and the parameter itself where that is its own order."""
        if parameter.is_contiguous() or not parameter.is_contiguous(memory_format=torch.channels_last):
            return parameter
        view = nn.Parameter(parameter.detach().permute(0, 2, 3, 1))
        self._views.append((parameter, view))
        return view

    def step(self, rate: float) -> None:
        """One step at a learning rate, each group at its own multiple; the gradients are gone after it."""
        for group in self.inner.param_groups:
            group["lr"] = rate * group["factor"]
        for parameter, view in self._views:
            view.grad = None if parameter.grad is None else parameter.grad.permute(0, 2, 3, 1)
        self.inner.step()
        self.forget_gradients()

    def forget_gradients(self) -> None:
        """Free the gradients."""
        self.inner.zero_grad(set_to_none=True)
        for parameter, _ in self._views:
            parameter.grad = None

    def tensors(self) -> dict[str, torch.Tensor]:
        """The state by the parameters' positions."""
        return {
            f"{position}.{name}": value
            for position, parameter in enumerate(self._parameters())
            for name, value in self.inner.state.get(parameter, {}).items()
            if value is not None
        }

    def restore(self, tensors: dict[str, torch.Tensor]) -> None:
        """Put back what `tensors` gave."""
        parameters = self._parameters()
        for key, value in tensors.items():
            position, name = key.split(".")
            parameter = parameters[int(position)]
            # Fused optimisers count their steps on the parameter's device, others on the host.
            fused = self.inner.defaults["fused"]
            self.inner.state[parameter][name] = value.to(parameter.device) if value.ndim or fused else value

    def _parameters(self) -> list[nn.Parameter]:
        return [parameter for group in self.inner.param_groups for parameter in group["params"]]


def build_optimizer(
    settings: TrainingSettings,
    named: Iterable[tuple[str, nn.Parameter]],
    fast: frozenset[str],
    spared: frozenset[str],
    stages_above: Mapping[str, int] | None = None,
) -> Optimizer:
    """An optimiser over the parameters that train.

    fast: names that learn `head_multiple` times as fast. spared: names without weight decay, beside all biases.
    stages_above: by name, how many stages lie above a parameter's: for each of them its rate is `layer_decay` times
    what it would be. What is fast learns at its own rate whatever lies above.
    """
    groups: dict[tuple[bool, int, bool], list[nn.Parameter]] = {}
    for name, parameter in named:
        if parameter.requires_grad:
            decays = name not in spared and parameter.ndim > 1
            stages = (stages_above or {}).get(name, 0)
            groups.setdefault((name in fast, stages, decays), []).append(parameter)
    described = [
        {
            "params": parameters,
            "factor": settings.head_multiple if quick else settings.layer_decay**stages,
            "weight_decay": settings.weight_decay if decays else 0.0,
        }
        for (quick, stages, decays), parameters in sorted(groups.items())
    ]
    return Optimizer(settings, described)
