"""What the heads that are solved from second moments share: one fit, and folds that share the moments of their parts.

A fold's training part is all parts but its own, so the moments of each part are worked out once and put together anew
for every fold (Chan, Golub and LeVeque 1983): nothing is subtracted, and nothing of the rows held out is in the sum.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Self

import numpy as np
from sklearn.base import clone

from classify.heads.estimator import LinearHead, WeightedPathHead, class_shares, of_classes, threads
from classify.heads.on_device import is_there
from classify.heads.protocol import Fold
from classify.heads.scaling import Moments, PartMoments, moments
from features.blocks import Blocks

PART_NUMBERS = 50_000_000  # of the squares of all parts that are kept


class ClosedForm(WeightedPathHead, LinearHead):
    """A linear head whose every candidate follows from the second moments of standardised features."""

    class_weight: str | dict | None
    device: str | None = None

    def _of_rows(self, shares: np.ndarray) -> np.ndarray:
        """The weights of the classes (K,) with which their rows enter the moments."""
        return shares

    def _solved(self, seen: Moments, shares: np.ndarray, heads: Sequence[Self]) -> Iterator[Self]:
        """Fit each head, whose classes' weights are given, to the moments of its training rows."""
        raise NotImplementedError

    def _path(self, X: Any, y: Any, heads: list[Self], sample_weight: Any = None) -> Iterator[Self]:
        X, codes, row_weights = self._start_weighted(X, y, sample_weight)
        shares = class_shares(self.class_weight, self.classes_, codes, row_weights)
        with threads(self.jobs):
            device = self.device if is_there(self.device) else None
            seen = moments(X, codes, self._of_rows(shares), row_weights, device)
        yield from self._solved(seen, shares, heads)

    def predict_path(self, X: Any, y: Any, queries: Any, candidates: Sequence[dict]) -> Iterator[np.ndarray]:
        """For each candidate the labels predicted for `queries`, as fit and predict would; they are checked once."""
        checked: Any = None
        for head in self.fit_path(X, y, candidates):
            checked = head._samples(queries) if checked is None else checked
            yield head.classes_[head.codes_of(head._decided(checked))]

    def fold_decisions(
        self, X: Any, y: Any, folds: Sequence[Fold], candidates: Sequence[dict]
    ) -> Iterator[tuple[int, int, np.ndarray]] | None:
        """The numbers of a fold and of a candidate, and the decision values of the rows held out by that candidate
        fitted on the fold's training part, in any order; None where work cannot be shared."""
        X, codes = self._start(X, y)
        fewest, width = min(len(fold.training) for fold in folds), X.shape[1]
        parts = max(sum(fold.repeat == other.repeat for other in folds) for fold in folds)
        if isinstance(X, Blocks) or X.dtype != np.float32 or width > fewest or parts * width**2 > PART_NUMBERS:
            return None
        weighted = self.class_weight is not None and (self._of_rows(np.full(2, 2.0)) != 1).any()
        if weighted or is_there(self.device) or any(len(fold.classes) < 2 for fold in folds):
            return None
        return self._over_folds(X, codes, folds, [clone(self).set_params(**params) for params in candidates])

    def _over_folds(
        self, X: np.ndarray, codes: np.ndarray, folds: Sequence[Fold], heads: list[Self]
    ) -> Iterator[tuple[int, int, np.ndarray]]:
        classes = self.classes_
        for repeat in range(folds[-1].repeat + 1):
            places = [place for place, fold in enumerate(folds) if fold.repeat == repeat]
            with threads(self.jobs):
                parts = [
                    PartMoments.of(X[fold.held_out], codes[fold.held_out], len(classes))
                    for fold in (folds[place] for place in places)
                ]
            for own, place in enumerate(places):
                fold = folds[place]
                self.classes_ = known = classes[fold.classes]
                kept = np.searchsorted(fold.classes, codes[fold.training])
                shares = class_shares(of_classes(self.class_weight, known), known, kept)
                with threads(self.jobs):
                    seen = PartMoments.together(parts[:own] + parts[own + 1 :], fold.classes, X.dtype)
                queries = X[fold.held_out].astype(np.float64)
                for number, head in enumerate(self._solved(seen, shares, heads)):
                    with threads(self.jobs):
                        decisions = queries @ head.coef_.T + head.intercept_
                    yield place, number, decisions[:, 0] if decisions.shape[1] == 1 else decisions
