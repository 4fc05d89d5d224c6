"""Linear support vector machine: squared hinge, one class against the rest, all classes solved as one matrix."""

from classify.heads.penalised import PenalisedLinear
from classify.heads.solvers.losses import SquaredHinge


class LinearSVM(PenalisedLinear):
    """Minimises C * sum of weight * squared hinge + |coefficients|^2 / 2 for each class over standardised features.

    The problem of scikit-learn's LinearSVC, except that the intercept is not penalised. tol: the largest entry of the
    gradient of the mean loss at which the solver stops. Sets `converged_`, `n_iter_`, `objective_`. It has scores and
    no probabilities.
    """

    loss = SquaredHinge()

    def _columns(self) -> int:
        return 1 if len(self.classes_) == 2 else len(self.classes_)

    def _penalty(self, rows: float) -> float:
        return 1 / (self.C * rows)
