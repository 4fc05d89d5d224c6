"""What the linear heads with a smooth loss share: one fit, and a path over C that starts each fit from the last."""

from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, ClassVar, Self

import numpy as np

from classify.heads.estimator import JOBS, LinearHead, Number, PathHead, class_shares, threads
from classify.heads.on_device import DEVICE, DeviceRows, is_there
from classify.heads.scaling import FeatureRows, Standardiser, row_space
from classify.heads.solvers.descent import LinearProblem, minimise
from classify.heads.solvers.losses import Loss


@dataclass(eq=False, repr=False)
class PenalisedLinear(PathHead, LinearHead):
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

    def _penalty(self, rows: int) -> float:
        raise NotImplementedError

    def _path(self, X: Any, y: Any, heads: list[Self]) -> Iterator[Self]:
        X, codes = self._start(X, y)
        weights = class_shares(self.class_weight, self.classes_, codes).astype(np.float32)[codes]
        with threads(self.jobs):
            scale = Standardiser.fit(X)
            rows: FeatureRows
            rows, back = row_space(scale.apply(X))
            if is_there(self.device) and isinstance(rows, np.ndarray):
                rows = DeviceRows(rows, self.device)
        problem = LinearProblem(rows, codes, weights, self.loss, self._columns())
        last: np.ndarray | None = None
        for head in heads:
            head._start_like(self)
            with threads(self.jobs):
                solution = minimise(problem, head._penalty(len(X)), last, tolerance=head.tol, max_iter=head.max_iter)
                head._set_plane(back(solution.coef), solution.intercept, scale)
            last = np.vstack([solution.coef, solution.intercept]).T
            head.converged_ = solution.converged
            head.n_iter_ = solution.steps
            head.objective_ = solution.value
            yield head
