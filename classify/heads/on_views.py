"""A head of images that are seen several times: it learns from every view as from a row, and decides over some views.

To all who fit it, choose among its parameters or ask it, a row stays a row: (N, V * D), the D numbers of one view after
those of another. So no fold and no hold-out parts the views of an image, and limits count images. What it says of an
image over several views is the mean of what it says of each, in the terms that its probabilities are made of.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from scipy.special import log_softmax, softmax
from sklearn.base import clone
from sklearn.utils.metaestimators import available_if

from classify.heads import Head
from classify.heads.around import Around, where_the_head_has
from classify.heads.folds import class_scores
from classify.heads.protocol import Fold
from features.blocks import rows_of_views

MANY_ROWS = 10_000  # beyond which a support vector machine learns from the views of few


@dataclass(frozen=True)
class ViewedHead(Head):
    """A head over `views` views of each image, that decides over the first `asked` of them.

    A search takes so many fewer images, and so as many rows as without views; but for a head that learns from
    the views of few (`OnViews`).
    """

    inner: Head | None = None
    views: int = 1
    asked: int = 1

    @classmethod
    def of(cls, head: Head, views: int, asked: int) -> Head:
        """The head itself where there is one view."""
        if views == 1:
            return head
        fields = {name: getattr(head, name) for name in Head.__dataclass_fields__}
        rows = head.search_rows
        if rows is not None and not hasattr(head.estimator_class(), "HAS_SUPPORT"):
            rows = max(1, rows // views)
        return cls(**{**fields, "search_rows": rows}, inner=head, views=views, asked=asked)

    def estimator_class(self) -> type[Any]:
        return self._own.estimator_class()

    @property
    def params(self) -> dict[str, Any] | None:
        return self._own.params

    def build(self, **fitting: Any) -> Any:
        kind = OnViews if self.asked == 1 else OverViews
        return kind(self._own.build(**fitting), self.views, self.asked, self.holds_out)

    @property
    def _own(self) -> Head:
        assert self.inner is not None  # `of` gives one
        return self.inner


class OnViews(Around):
    """A head that learns from all views and decides over the first alone, the image itself.

    head: what it is around. views: of each image that it is fitted on. asked: over how many it decides. What it is
    asked of may have more views than these, and need not have all that it learnt from. holds_out: the head holds rows
    out of those that it is fitted on, and is told which are views of one image.

    A support vector machine of many rows learns from the images first, and then from the views of those that are
    support vectors (Schoelkopf et al. 1996): of others no view comes near the boundary.
    """

    def __init__(self, head: Any, views: int, asked: int = 1, holds_out: bool = False) -> None:
        self.head, self.views, self.asked, self.holds_out = head, views, asked, holds_out

    def __sklearn_clone__(self) -> Self:
        return self._around(clone(self.head))

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Those of the head."""
        return self.head.get_params(deep)

    def set_params(self, **params: Any) -> Self:
        """Set the head's."""
        self.head.set_params(**params)
        return self

    def given(self, features: Any) -> Any:
        return rows_of_views(features, self.n_features_in_, self.asked)

    def fit(self, X: Any, y: Any, **fit_params: Any) -> Self:
        """Fit on X (N, views * D) and labels y (N,); fit_params: what the head is told of each row, (N,)."""
        if self._learns_from_few(X):
            self.head = next(self._from_few(X, y, [{}]))
            return self
        fit_params = {**({"groups": np.arange(len(X))} if self.holds_out else {}), **fit_params}
        X, y = self._rows(X, y)
        self.head.fit(X, y, **{name: np.repeat(values, self.views) for name, values in fit_params.items()})
        return self

    @where_the_head_has("fit_path")
    def fit_path(self, X: Any, y: Any, candidates: Iterable[dict]) -> Iterator[Self]:
        """As the head has it."""
        few = self._learns_from_few(X)
        for head in self._from_few(X, y, candidates) if few else self.head.fit_path(*self._rows(X, y), candidates):
            yield self._around(head)

    @available_if(lambda around: around.asked == 1 and hasattr(around.head, "predict_path"))
    def predict_path(self, X: Any, y: Any, queries: Any, candidates: Sequence[dict]) -> Iterator[np.ndarray]:
        """As the head has it."""
        yield from self.head.predict_path(*self._rows(X, y), self._asked_of(queries, X), candidates)

    @where_the_head_has("votes_path")
    def votes_path(self, X: Any, y: Any, queries: Any, candidates: Sequence[dict]) -> Iterator[np.ndarray]:
        """As the head has it."""
        for votes in self.head.votes_path(*self._rows(X, y), self._asked_of(queries, X), candidates):
            yield self._votes(votes)

    @where_the_head_has("fold_decisions")
    def fold_decisions(
        self, X: Any, y: Any, folds: Sequence[Fold], candidates: Sequence[dict]
    ) -> Iterator[tuple[int, int, np.ndarray]] | None:
        """As the head has it; None where it learns from the views of few."""
        if self._learns_from_few(X):
            return None
        views, asked = np.arange(self.views), np.arange(self.asked)
        of_views = [
            Fold(
                fold.repeat,
                (fold.training[:, None] * self.views + views).ravel(),
                (fold.held_out[:, None] * self.views + asked).ravel(),
                fold.classes,
            )
            for fold in folds
        ]
        decided = self.head.fold_decisions(*self._rows(X, y), of_views, candidates)
        return None if decided is None else ((*which, self._decisions(said)) for *which, said in decided)

    @where_the_head_has("codes_of")
    def codes_of(self, decisions: np.ndarray) -> np.ndarray:
        """As the head has it."""
        return self.head.codes_of(decisions)

    @where_the_head_has("logits")
    def logits(self, scores: np.ndarray) -> np.ndarray:
        """As the head has it."""
        return self.head.logits(scores)

    @property
    def converged_(self) -> Any:
        """Whether the head came to its optimum; None where it does not say."""
        return getattr(self.head, "converged_", None)

    def _around(self, head: Any) -> Self:
        return type(self)(head, self.views, self.asked, self.holds_out)

    def _learns_from_few(self, X: Any) -> bool:
        return hasattr(self.head, "HAS_SUPPORT") and len(X) * self.views > MANY_ROWS

    def _from_few(self, X: Any, y: Any, candidates: Iterable[dict]) -> Iterator[Any]:
        """The head with each candidate's parameters, fitted on the views of what are support vectors of the images."""
        images, y = rows_of_views(X, X.shape[1] // self.views, 1), np.asarray(y)
        for head in self.head.fit_path(images, y, candidates):
            support = np.sort(head.support_)
            yield clone(head).fit(*self._rows(X.take(support, axis=0), y[support]))

    def _votes(self, votes: np.ndarray) -> np.ndarray:
        return votes

    def _decisions(self, said: np.ndarray) -> np.ndarray:
        return said

    def _rows(self, X: Any, y: Any) -> tuple[Any, np.ndarray]:
        return rows_of_views(X, X.shape[1] // self.views, self.views), np.repeat(y, self.views)

    def _asked_of(self, queries: Any, X: Any) -> Any:
        return rows_of_views(queries, X.shape[1] // self.views, self.asked)


class OverViews(OnViews):
    """One that decides over several views: the mean of the logits that its probabilities are made of, or would be."""

    decides_by_logits = True

    def decision_function(self, features: Any) -> np.ndarray:
        """The mean logits, float64 (N, K), of two classes too."""
        return self._mean(class_scores(self.head, self.given(features)))

    def predict(self, features: Any) -> np.ndarray:
        """(N,) labels."""
        return self.classes_[self.codes_of(self.decision_function(features))]

    @where_the_head_has("predict_proba")
    def predict_proba(self, features: Any) -> np.ndarray:
        """(N, K): of a head that has them."""
        return softmax(self.decision_function(features), axis=1)

    def codes_of(self, decisions: np.ndarray) -> np.ndarray:
        """The place of the largest."""
        return decisions.argmax(axis=1)

    def logits(self, scores: np.ndarray) -> np.ndarray:
        """They are that."""
        return scores

    def _votes(self, votes: np.ndarray) -> np.ndarray:
        with np.errstate(divide="ignore"):
            shares = np.log(votes / votes.sum(axis=1, keepdims=True))
        return np.exp(self._mean(shares))

    def _decisions(self, said: np.ndarray) -> np.ndarray:
        columns = said if said.ndim == 2 else np.stack([-said, said], axis=1) / 2
        return self._mean(log_softmax(columns, axis=1) if hasattr(self.head, "predict_proba") else columns)

    def _mean(self, scores: np.ndarray) -> np.ndarray:
        """Of scores of views (N * asked, K), as `class_scores` has them."""
        logits = self.head.logits(scores) if hasattr(self.head, "logits") else scores
        mean = logits.reshape(-1, self.asked, logits.shape[1]).mean(axis=1)
        return log_softmax(mean, axis=1) if hasattr(self.head, "predict_proba") else mean
