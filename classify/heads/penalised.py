"""What the linear heads with a smooth loss share: one fit, and a path over C that starts each fit from the last."""

from collections.abc import Iterator, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import clone

from classify.heads.estimator import JOBS, LinearHead, Number, WeightedPathHead, class_shares, threads
from classify.heads.on_device import DEVICE, DeviceRows, is_there
from classify.heads.protocol import Fold
from classify.heads.scaling import FeatureRows, FoldRows, Standardiser, middle, row_space
from classify.heads.solvers.descent import LinearProblem, minimise
from classify.heads.solvers.losses import Loss
from classify.heads.solvers.together import minimise_together
from features.blocks import Blocks


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

    def fold_decisions(
        self, X: Any, y: Any, folds: Sequence[Fold], candidates: Sequence[dict]
    ) -> Iterator[tuple[int, int, np.ndarray]] | None:
        """The numbers of a fold and of a candidate, and the decision values of the rows held out by that candidate
        fitted on the fold's training part, in any order; None where work cannot be shared.

        Each fold's problem starts from its own solution for the candidate before. The solution for all rows would be a
        nearer start, but has seen the rows held out, and the tolerance leaves some of that where a penalty is small.
        """
        X, codes = self._start(X, y)
        fewest = min(len(fold.training) for fold in folds)
        if isinstance(X, Blocks) or X.dtype != np.float32 or X.shape[1] > fewest or is_there(self.device):
            return None
        if any(len(fold.classes) < len(self.classes_) for fold in folds):
            return None
        return self._over_folds(X, codes, folds, [clone(self).set_params(**params) for params in candidates])

    def _over_folds(
        self, X: np.ndarray, codes: np.ndarray, folds: Sequence[Fold], heads: list[Self]
    ) -> Iterator[tuple[int, int, np.ndarray]]:
        for repeat in range(folds[-1].repeat + 1):
            places = [place for place, fold in enumerate(folds) if fold.repeat == repeat]
            scales = [Standardiser.fit(X[folds[place].training]) for place in places]
            # The largest factor and the middle: rows far off that one fold holds out change nothing of its own digits.
            largest = np.max([scale.factor for scale in scales], axis=0)
            common = Standardiser(middle(X, [folds[place].held_out for place in places]), largest)
            Z = common.apply(X)
            problems = []
            for place, scale in zip(places, scales, strict=True):
                training = folds[place].training
                kept = codes[training]
                weights = class_shares(self.class_weight, self.classes_, kept)[kept].astype(np.float32)
                rows = FoldRows(Z, common, training, scale)
                problems.append(LinearProblem(rows, kept, weights, self.loss, self._columns()))
            last: list[np.ndarray | None] = [None] * len(places)
            for number, head in enumerate(heads):
                head._start_like(self)
                penalties = [head._penalty(len(problem.Z)) for problem in problems]
                with threads(self.jobs):
                    solved = minimise_together(problems, penalties, last, tolerance=head.tol, max_iter=head.max_iter)
                last = [np.vstack([solution.coef, solution.intercept]).T for solution in solved]
                for place, scale, solution in zip(places, scales, solved, strict=True):
                    head._set_plane(solution.coef, solution.intercept, scale)
                    yield place, number, head.decision_function(X[folds[place].held_out])
