"""One hidden layer over features, trained in torch with smoothed labels."""

from dataclasses import KW_ONLY, dataclass
from typing import Any

import numpy as np
from scipy.special import softmax

from classify.heads.estimator import JOBS, HeadClassifier, Number, OneOf, by_blocks, class_shares, threads
from classify.heads.scaling import Standardiser

# Where the number of epochs is not given: the least and the most of them, how many steps are enough, and too many.
EPOCHS, MANY_EPOCHS, STEPS, MANY_STEPS = 25, 60, 1000, 20_000
BATCHES = 10  # in an epoch, at least
# Hidden units where their number is not given: of few rows more take longer and give nothing.
UNITS, UNITS_OF_FEW, FEW_ROWS = 2048, 512, 100_000


@dataclass(eq=False, repr=False)
class MLP(HeadClassifier):
    """softmax(max(0, Z A + a) B + b), Z the features around their means, in units of one deviation for all of them.

    Cross entropy with smoothed labels (Szegedy et al. 2016), AdamW with a learning rate that rises and falls. Features
    keep their relations: what varies little, as the last of many principal axes does, is not made as large as the rest.
    hidden: units; None takes 2,048, and 512 for fewer than 100,000 rows. epochs: None takes 25, up to 60 where these
    are under 1,000 steps, and fewer where they are over 20,000. batch: rows in a step, at most a tenth of all.
    smoothing: share of a label that is given to all classes alike. class_weight: None, 'balanced' or a dict. jobs:
    threads. `converged_` says whether the loss had settled within 1 % by the last tenth of the epochs.
    """

    LEGAL = {
        "hidden": (OneOf((None,)), Number(1, closed=True, integer=True)),
        "learning_rate": (Number(0),),
        "epochs": (OneOf((None,)), Number(1, closed=True, integer=True)),
        "batch": (Number(1, closed=True, integer=True),),
        "decay": (Number(0, closed=True),),
        "smoothing": (Number(0, 0.9, closed=True),),
        "jobs": JOBS,
        "random_state": (Number(0, closed=True, integer=True),),
    }
    BLOCKS = True
    hidden: int | None = None
    _: KW_ONLY
    learning_rate: float = 1e-3
    epochs: int | None = None
    batch: int = 256
    decay: float = 0.05
    smoothing: float = 0.1
    class_weight: str | dict | None = None
    jobs: int | None = None
    random_state: int = 0

    def fit(self, X: Any, y: Any) -> "MLP":
        """Fit on X (N, D) and labels y (N,); raises FitError for an argument that is not legal."""
        # Not at the top: a head that is fitted predicts without torch.
        from torch.nn.functional import linear, relu

        from classify.heads.minibatch import Schedule, train

        def forward(Z: Any, A: Any, a: Any, B: Any, b: Any) -> Any:
            return linear(relu(linear(Z, A, a)), B, b)

        X, codes = self._start(X, y)
        shares = class_shares(self.class_weight, self.classes_, codes)
        self.scale_ = Standardiser.fit(X).in_common()
        random = np.random.default_rng(self.random_state)
        hidden = self.hidden or (UNITS_OF_FEW if len(X) < FEW_ROWS else UNITS)
        start = [
            random.normal(0, np.sqrt(2 / X.shape[1]), (hidden, X.shape[1])).astype(np.float32),
            np.zeros(hidden, np.float32),
            np.zeros((len(shares), hidden), np.float32),
            np.zeros(len(shares), np.float32),
        ]
        batch = min(self.batch, max(1, len(X) // BATCHES))
        epochs = self.epochs or _epochs(-(-len(X) // batch))
        schedule = Schedule(epochs, batch, self.learning_rate, self.decay, self.smoothing)
        with threads(self.jobs):
            done = train(forward, start, (self.scale_.apply(X), codes), shares, schedule, self.random_state)
        self.parameters_ = done.parameters
        self.n_iter_, self.converged_ = done.epochs, done.converged
        return self

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


def _epochs(steps: int) -> int:
    """How many epochs of so many steps are run where none were given."""
    return min(max(EPOCHS, min(MANY_EPOCHS, STEPS // steps)), max(1, MANY_STEPS // steps))
