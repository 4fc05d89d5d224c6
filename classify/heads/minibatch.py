"""Training a small network on features with minibatches: AdamW and a one-cycle learning rate.

Batches are drawn from arrays that are already in memory, on one device, with no worker and no Python work per row; of
features that stay in the store, from as many rows as a buffer holds, in the same order. Every epoch has an order of its
own, of single rows; where features are so many that they may have to come from a disk, of stretches of rows, mixed
within a buffer, as a disk reads a stretch in the time that it takes for two or three rows. The global random state of
torch is left alone. Nothing here knows what the network looks like.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn.functional import cross_entropy

BUFFER_BYTES = 1 << 26  # of rows that are read at once where they stay in the store
MIXED_BYTES = 1 << 30  # of features whose rows are put into an order one by one
STRETCH_BYTES = 1 << 18  # of rows that follow each other in features beyond that


@dataclass(frozen=True)
class Schedule:
    """Epochs, rows in a batch, highest learning rate, weight decay of matrices, share of a label that all have."""

    epochs: int
    batch: int
    learning_rate: float
    decay: float
    smoothing: float = 0.0


@dataclass(frozen=True)
class Trained:
    """The parameters, float32 arrays in the order given; epochs run; whether the training ended as it was meant to."""

    parameters: tuple[np.ndarray, ...]
    epochs: int
    converged: bool


def train(
    forward: Callable[..., torch.Tensor],
    start: list[np.ndarray],
    rows: tuple[Any, np.ndarray],
    class_weights: np.ndarray,
    schedule: Schedule,
    seed: int,
) -> Trained:
    """Minimise the weighted cross entropy of `forward(Z, *parameters)` over rows (Z float32 (N, D), codes int64 (N,)).

    Z may be anything of which `Z[rows]` reads rows into memory.

    The learning rate falls to zero; converged says that the last tenth of the epochs changed the loss by less than 1 %.
    """
    Z, codes = rows[0], torch.from_numpy(rows[1])
    weights = torch.from_numpy(class_weights.astype(np.float32))
    parameters = [torch.from_numpy(array.copy()).requires_grad_() for array in start]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": schedule.decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    optimiser = torch.optim.AdamW(groups, lr=schedule.learning_rate, fused=True)
    steps = schedule.epochs * -(-len(Z) // schedule.batch)
    cycle = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: _share(step / steps))
    random = np.random.default_rng(seed)
    losses = []
    for _ in range(schedule.epochs):
        total = 0.0
        for batch, inputs in _batches(Z, _order(Z.shape, schedule.batch, random), schedule.batch):
            scores = forward(inputs, *parameters)
            loss = cross_entropy(scores, codes[batch], weight=weights, label_smoothing=schedule.smoothing)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            cycle.step()
            total += loss.item() * len(batch)
            # It may be a part of a buffer that is not needed any more.
            del inputs
        losses.append(total / len(Z))
    tail = losses[-max(2, len(losses) // 10) :]
    settled = max(tail) - min(tail) <= 0.01 * max(max(tail), 1e-3)
    return Trained(tuple(p.detach().numpy() for p in parameters), len(losses), settled)


def _batches(Z: Any, order: np.ndarray, size: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """The rows of each batch, and their features."""
    if isinstance(Z, np.ndarray):
        features = torch.from_numpy(Z)
        for batch in torch.from_numpy(order).split(size):
            yield batch, features[batch]
        return
    held = _rows_held(Z.shape[1], size)
    for start in range(0, len(order), held):
        rows = torch.from_numpy(order[start : start + held])
        read = torch.from_numpy(Z[rows.numpy()])
        for batch in rows.split(size):
            yield batch, read[: len(batch)]
            read = read[len(batch) :]
        # Before the next is read: two of them would take twice the memory.
        del read


def _rows_held(width: int, batch: int) -> int:
    return batch * max(1, BUFFER_BYTES // (4 * width * batch))


def _order(shape: tuple[int, int], batch: int, random: np.random.Generator) -> np.ndarray:
    """The order of the rows in an epoch (N,), wherever the features are."""
    count, width = shape
    if 4 * count * width <= MIXED_BYTES:
        return random.permutation(count)
    stretch = max(1, STRETCH_BYTES // (4 * width))
    order = (random.permutation(-(-count // stretch))[:, None] * stretch + np.arange(stretch)).reshape(-1)
    order = order[order < count]
    for start in range(0, count, held := _rows_held(width, batch)):
        random.shuffle(order[start : start + held])
    return order


def _share(done: float) -> float:
    """The share of the highest learning rate when a share of all steps is done: a short rise, then half a cosine."""
    return done / 0.1 if done < 0.1 else 0.5 * (1 + np.cos(np.pi * (done - 0.1) / 0.9))
