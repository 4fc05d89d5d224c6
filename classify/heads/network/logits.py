"""What a network says of rows, trained or not: logits in eval mode, in the precision that it is trained in."""

import contextlib
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from classify.heads.estimator import FitError
from classify.heads.network.batches import Inputs, channels_last, read_ahead

_BATCH = 256


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager:
    """Mixed precision: products in bfloat16, weights and statistics in float32; nothing where float32 is asked for."""
    return torch.autocast(device.type, torch.bfloat16) if precision == "bfloat16" else contextlib.nullcontext()


def logits_of(forward: Callable, trainee: Any, source: Inputs, precision: str, views: int = 1) -> np.ndarray:
    """Logits (N, K), float32, of all rows in eval mode, in batches that fit into memory.

    views: so many rows are made of each, and the mean is taken over them.
    """
    size = max(1, _BATCH // views)
    while size:
        with contextlib.suppress(torch.OutOfMemoryError):
            logits = _logits_by(size, forward, trainee, source, precision)
            return logits.reshape(len(source), views, -1).mean(axis=1)
        size //= 2
    raise FitError(f"not even one image fits into the memory of {trainee.device}; take a smaller --image-size")


def _logits_by(size: int, forward: Callable, trainee: Any, source: Inputs, precision: str) -> np.ndarray:
    trainee.forward.eval()
    rows = np.array_split(np.arange(len(source)), max(1, math.ceil(len(source) / size)))
    outputs = []
    with torch.inference_mode():
        for batch in read_ahead(source, [(part, None) for part in rows]):
            with autocast(trainee.device, precision):
                outputs.append(forward(channels_last(batch)).float().cpu())
    return torch.cat(outputs).numpy()
