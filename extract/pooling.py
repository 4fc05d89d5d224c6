"""From a layer's output to one row of numbers per image; the names are in `features.pooling`."""

import math

import torch
from torch.nn.functional import adaptive_avg_pool2d

from features.pooling import prefix_tokens


def pool_output(output: torch.Tensor, pool: str, layout: str) -> torch.Tensor:
    """Pool (N, C, H, W), (N, H, W, C), (N, T, C) or (N, D) as `features.pooling.pooled_shape` says, in float32.

    Tokens that stand for no place take no part in a mean, a maximum or a grid, unless there is only one token. `none`
    keeps the maps, channels first, in their own type.
    """
    if layout == "map last":
        output = output.permute(0, 3, 1, 2)
    if pool == "none" or output.ndim not in (3, 4):
        return output
    if output.ndim == 3:
        tokens = output[:, prefix_tokens(layout) :] if output.shape[1] > 1 else output
        if pool == "cls":
            return output[:, 0].float()
        if pool == "cls+avg":
            return torch.cat([output[:, 0].float(), tokens.float().mean(1)], 1)
        if not pool.startswith("grid:"):
            return tokens.float().mean(1) if pool == "avg" else tokens.amax(1).float()
        side = math.isqrt(tokens.shape[1])
        output = tokens.transpose(1, 2).unflatten(2, (side, side))
    if pool == "avg":
        return output.float().mean((2, 3))
    if pool == "max":
        return output.amax((2, 3)).float()
    side = int(pool.removeprefix("grid:"))
    target = (min(side, output.shape[2]), min(side, output.shape[3]))
    return adaptive_avg_pool2d(output.float(), target).flatten(1)
