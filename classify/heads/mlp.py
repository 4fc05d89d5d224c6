"""One hidden layer over standardised features, trained in torch and stopped early on rows held out of training."""

from dataclasses import KW_ONLY, dataclass
from typing import Any

import numpy as np
from scipy.special import softmax

from classify.heads.estimator import JOBS, HeadClassifier, Number, by_blocks, class_shares, threads
from classify.heads.scaling import Standardiser
from features.errors import UserError
from features.rows import validation_split

HELD_OUT = 0.1  # share of the training rows that decide when to stop
ENOUGH_ROWS = 100  # below which holding rows out costs more than it tells


@dataclass(eq=False, repr=False)
class MLP(HeadClassifier):
    """softmax(max(0, Z A + a) B + b), cross entropy, AdamW; the epoch with the lowest loss on held-out rows is kept.

    A tenth of the rows given to fit, stratified and seeded, is held out, in whole groups where there are some; with
    under 100 rows, or a class with a single row or group, none is and all epochs are run. hidden: units. class_weight:
    None, 'balanced' or a dict. jobs: threads. `converged_` says whether the training ended because it no longer got
    better.
    """

    LEGAL = {
        "hidden": (Number(1, closed=True, integer=True),),
        "learning_rate": (Number(0),),
        "epochs": (Number(1, closed=True, integer=True),),
        "batch": (Number(1, closed=True, integer=True),),
        "decay": (Number(0, closed=True),),
        "patience": (Number(1, closed=True, integer=True),),
        "jobs": JOBS,
        "random_state": (Number(0, closed=True, integer=True),),
    }
    hidden: int = 512
    _: KW_ONLY
    learning_rate: float = 1e-3
    epochs: int = 30
    batch: int = 256
    decay: float = 0.01
    patience: int = 4
    class_weight: str | dict | None = None
    jobs: int | None = None
    random_state: int = 0

    def fit(self, X: Any, y: Any, groups: np.ndarray | None = None) -> "MLP":
        """Fit on X (N, D) and labels y (N,), whose rows belong together as groups say, codes (N,); raises FitError for
        an argument that is not legal."""
        # Not at the top: a head that is fitted predicts without torch.
        from torch.nn.functional import linear, relu

        from classify.heads.minibatch import Schedule, train

        def forward(Z: Any, A: Any, a: Any, B: Any, b: Any) -> Any:
            return linear(relu(linear(Z, A, a)), B, b)

        X, codes = self._start(X, y)
        shares = class_shares(self.class_weight, self.classes_, codes)
        training, held_out = self._held_out(codes, groups)
        self.scale_ = Standardiser.fit(X[training])
        random = np.random.default_rng(self.random_state)
        start = [
            random.normal(0, np.sqrt(2 / X.shape[1]), (self.hidden, X.shape[1])).astype(np.float32),
            np.zeros(self.hidden, np.float32),
            np.zeros((len(shares), self.hidden), np.float32),
            np.zeros(len(shares), np.float32),
        ]
        schedule = Schedule(self.epochs, self.batch, self.learning_rate, self.decay, self.patience)
        Z = self.scale_.apply(X)
        kept = None if held_out is None else (Z[held_out], codes[held_out])
        with threads(self.jobs):
            done = train(forward, start, (Z[training], codes[training]), kept, shares, schedule, self.random_state)
        self.parameters_ = done.parameters
        self.n_iter_, self.converged_ = done.epochs, done.converged
        return self

    def _held_out(self, codes: np.ndarray, groups: np.ndarray | None) -> tuple[np.ndarray, np.ndarray | None]:
        rows = np.arange(len(codes))
        if len(rows) < ENOUGH_ROWS:
            return rows, None
        try:
            return validation_split(codes, rows, self.random_state, HELD_OUT, groups=groups)
        except UserError:  # A class cannot be on both sides.
            return rows, None

    def decision_function(self, X: Any) -> np.ndarray:
        """Scores before the softmax, float64: (N, K), or with two classes their difference (N,)."""
        scores = self._scores(X)
        return scores[:, 1] - scores[:, 0] if scores.shape[1] == 2 else scores

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities (N, K), in the order of `classes_`."""
        return softmax(self._scores(X), axis=1)

    def predict(self, X: Any) -> np.ndarray:
        """The most probable class for each row."""
        scores = self._scores(X)
        return self.classes_[scores.argmax(axis=1)]

    def _scores(self, X: Any) -> np.ndarray:
        X = self._samples(X)
        A, a, B, b = (array.astype(float) for array in self.parameters_)
        with threads(self.jobs):
            return by_blocks(
                X, lambda block: np.maximum((block - self.scale_.mean) * self.scale_.factor @ A.T + a, 0) @ B.T + b
            )
