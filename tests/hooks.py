"""What hooks on a plain network take: the reference for everything that is cut out of one."""

import torch
from torch import nn


def taken_by_hooks(model: nn.Module, images: torch.Tensor) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """The output of every module that gives a tensor, by the name of its node, as it was when given; the network's own.

    A module that runs more than once has nodes `relu`, `relu_1`, ...
    """
    taken: dict[str, torch.Tensor] = {}
    runs: dict[str, int] = {}

    def take(name: str):
        def hook(module: nn.Module, inputs: tuple, output: object) -> None:
            if isinstance(output, torch.Tensor):
                runs[name] = runs.get(name, -1) + 1
                taken[f"{name}_{runs[name]}" if runs[name] else name] = output.clone()

        return hook

    hooks = [module.register_forward_hook(take(name)) for name, module in model.named_modules() if name]
    try:
        with torch.no_grad():
            output = model(images)
    finally:
        for hook in hooks:
            hook.remove()
    return taken, output
