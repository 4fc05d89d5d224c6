"""What the linear heads with a smooth loss share: one fit, and a path over C that starts each fit from the last."""

from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, ClassVar, Self

import numpy as np

from classify.heads.estimator import JOBS, LinearHead, Number, WeightedPathHead, class_shares, threads
from classify.heads.on_device import DEVICE, DeviceRows, is_there
from classify.heads.scaling import FeatureRows, Standardiser, row_space
from classify.heads.solvers.descent import LinearProblem, minimise
from classify.heads.solvers.losses import Loss


@dataclass(eq=False, repr=False)
class PenalisedLinear(WeightedPathHead, LinearHead):
    """A linear head with a loss, the inverse penalty C, a tolerance and a limit of steps.

    class_weight: None, 'balanced' or a dict. jobs: threads. device: a GPU that holds the features. A subclass says how
    many columns of scores its loss takes and what C means.
    """

    loss: ClassVar[Loss]
    converged_: bool = field(init=False)
    n_iter_: int = field(init=False)
    objective_: float = field(init=False)
    LEGAL = {
        "C": (Number(0),),
        "tol": (Number(0),),
        "max_iter": (Number(1, closed=True, integer=True),),
        "jobs": JOBS,
        "device": DEVICE,
    }
    C: float = 0.01
    _: KW_ONLY
    tol: float = 1e-4
    max_iter: int = 300
    class_weight: str | dict | None = None
    jobs: int | None = None
    device: str | None = None

    def _columns(self) -> int:
        raise NotImplementedError

    def _penalty(self, rows: float) -> float:
        raise NotImplementedError

    def _path(self, X: Any, y: Any, heads: list[Self], sample_weight: Any = None) -> Iterator[Self]:
        X, codes, row_weights = self._start_weighted(X, y, sample_weight)
        weights, count = class_shares(self.class_weight, self.classes_, codes, row_weights)[codes], float(len(X))
        if row_weights is not None:
            # The solver's mean is over rows, and its tolerance that of a mean.
            count = float(row_weights.sum())
            weights = weights * row_weights * (len(X) / count)
        with threads(self.jobs):
            scale = Standardiser.fit(X, row_weights)
            rows: FeatureRows
            rows, back = row_space(scale.apply_exactly(X))
            if is_there(self.device) and isinstance(rows, np.ndarray):
                rows = DeviceRows(rows, self.device)
        weights = weights.astype(rows.dtype if isinstance(rows, np.ndarray) else np.float32)
        problem = LinearProblem(rows, codes, weights, self.loss, self._columns())
        last: np.ndarray | None = None
        for head in heads:
            head._start_like(self)
            with threads(self.jobs):
                solution = minimise(problem, head._penalty(count), last, tolerance=head.tol, max_iter=head.max_iter)
                head._set_plane(back(solution.coef), solution.intercept, scale)
            last = np.vstack([solution.coef, solution.intercept]).T
            head.converged_ = solution.converged
            head.n_iter_ = solution.steps
            head.objective_ = solution.value
            yield head
