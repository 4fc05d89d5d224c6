"""A network of one layer, forty rows to train it on, and a trainer of both."""

import math

import numpy as np
import torch
from torch import nn

from classify.heads.network.training import Labelled, Trainee, Trainer


class Small(nn.Module):
    """Logits and nothing observed; it can run out of memory above a number of rows."""

    def __init__(self, limit=math.inf):
        super().__init__()
        self.linear = nn.Linear(4, 3)
        self.limit = limit

    def forward(self, rows):
        if len(rows) > self.limit:
            raise torch.OutOfMemoryError("out of memory")
        return self.linear(rows.float().flatten(1)), ()


class Rows:
    """A source of rows as they are."""

    def __init__(self, rows):
        self.rows = rows

    def __len__(self):
        return len(self.rows)

    def read(self, rows):
        return self.rows[rows]

    def prepare(self, read, draw=None):
        return torch.from_numpy(read)


def data(count=40):
    draw = np.random.default_rng(0)
    codes = np.arange(count) % 3
    return Labelled(Rows((draw.normal(size=(count, 4)) + codes[:, None]).astype(np.float32)), codes)


def trainer(settings, module=None, **options):
    torch.manual_seed(0)
    module = module or Small()
    penalties = options.pop("penalties", ())
    trainee = Trainee(module, module, penalties=penalties, observes=((),) * len(penalties))
    return Trainer(trainee, data(), settings, precision="float32", **options)
