"""A softmax layer trained with minibatches in torch: what replacing `fc` trains."""

from dataclasses import KW_ONLY, dataclass
from typing import Any

import numpy as np

from classify.heads.estimator import JOBS, Number, ProbabilityMixin, class_shares, threads
from classify.heads.scaling import Standardiser


@dataclass(eq=False, repr=False)
class SoftmaxLayer(ProbabilityMixin):
    """A linear layer over standardised features, cross entropy, AdamW with a learning rate that rises and falls.

    It starts from zero, so that `random_state` decides the order of the batches alone. class_weight: None, 'balanced'
    or a dict. jobs: threads to predict on; training takes one. `converged_` says whether the loss had settled within
    1 % by the last tenth of the epochs.
    """

    LEGAL = {
        "learning_rate": (Number(0),),
        "epochs": (Number(1, closed=True, integer=True),),
        "batch": (Number(1, closed=True, integer=True),),
        "decay": (Number(0, closed=True),),
        "jobs": JOBS,
        "random_state": (Number(0, closed=True, integer=True),),
    }
    learning_rate: float = 1e-3
    _: KW_ONLY
    epochs: int = 20
    batch: int = 256
    decay: float = 0.01
    class_weight: str | dict | None = None
    jobs: int | None = None
    random_state: int = 0

    def fit(self, X: Any, y: Any) -> "SoftmaxLayer":
        """Fit on X (N, D) and labels y (N,); raises FitError for an argument that is not legal."""
        # Not at the top: a head that is fitted predicts without torch.
        from torch.nn.functional import linear

        from classify.heads.minibatch import Schedule, train

        X, codes = self._start(X, y)
        shares = class_shares(self.class_weight, self.classes_, codes)
        scale = Standardiser.fit(X)
        start = [np.zeros((len(shares), X.shape[1]), np.float32), np.zeros(len(shares), np.float32)]
        schedule = Schedule(self.epochs, self.batch, self.learning_rate, self.decay)
        # A step is a few million operations: a second thread saves less than waiting for it costs on a busy machine
        # (15,000 x 1000 numbers there: 4 and 16 s on one thread, 36 and 32 s on two, in turn).
        with threads(1):
            done = train(linear, start, (scale.apply(X), codes), shares, schedule, self.random_state)
        weights, intercept = (array.astype(float) for array in done.parameters)
        self._set_plane(weights.T, intercept, scale)
        self.n_iter_, self.converged_ = done.epochs, done.converged
        return self
