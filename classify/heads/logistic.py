"""Multinomial logistic regression, solved to its optimum and warm-started along a path of penalties."""

from typing import Any

import numpy as np

from classify.heads.estimator import ProbabilityMixin
from classify.heads.penalised import PenalisedLinear
from classify.heads.solvers.losses import CrossEntropy


class Logistic(ProbabilityMixin, PenalisedLinear):
    """Minimises C * sum of weight * cross entropy + |coefficients|^2 / 2 over standardised features.

    The optimum of scikit-learn's LogisticRegression after a StandardScaler, with two classes too. tol: the largest
    entry of the gradient of the mean loss at which the solver stops. Sets `converged_`, `n_iter_`, `objective_`.
    """

    loss = CrossEntropy()

    def _columns(self) -> int:
        return len(self.classes_)

    def _penalty(self, rows: float) -> float:
        # Two columns that are each other's negative carry half the squared length of their difference.
        return (2 if len(self.classes_) == 2 else 1) / (self.C * rows)

    def _set_plane(self, coef: np.ndarray, intercept: np.ndarray, scale: Any) -> None:
        # Adding a number to all scores changes no probability, and no penalty settles it for the intercepts.
        super()._set_plane(coef, intercept - intercept.mean(), scale)
