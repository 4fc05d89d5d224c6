"""Fitted heads as torch modules: the same scores from the same features, in float32, for networks that are exported.

A head has a form here where its decision is a formula over arrays. To add one, write its module and give its class a
line in `_FORMS`.
"""

import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from classify.heads.calibrated import Calibrated
from classify.heads.estimator import LinearHead, ProbabilityMixin, both_planes
from classify.heads.familiar import Guarded
from classify.heads.head2toe import Head2Toe
from classify.heads.knn import KNN, LEAST_SHARE
from classify.heads.mlp import MLP
from classify.heads.network.untouched import UntouchedClassifier
from classify.heads.on_axes import OnAxes
from classify.heads.on_views import OnViews, OverViews
from classify.heads.svm import RBFSVM
from features.errors import UserError

# Decided for, scores, probabilities, distance to the training images.
Decision = tuple[torch.Tensor, torch.Tensor, torch.Tensor | None, torch.Tensor | None]


def head_module(head: Any) -> nn.Module:
    """A head as a module: features (N, D) float32 to (output that it decides for int64 (N,), scores (N, K),
    probabilities (N, K) or None, distance (N,) or None), as `SavedModel.answers` has them. UserError for a head without
    a form here."""
    for kind, form in _FORMS.items():
        if isinstance(head, kind):
            return form(head).eval()
    if isinstance(head, Calibrated):
        inner: Any = head_module(head.head)
        inner.temperature = head.temperature
        return inner
    if isinstance(head, OnViews):
        return head_module(head.head)
    raise UserError(
        f"a head of type {type(head).__name__} cannot be exported, since it has no form as a network here; train "
        "another head"
    )


def linear_form(head: Any) -> tuple[np.ndarray, np.ndarray]:
    """Weights (K, D) and intercepts (K,), float64, of a head that is linear in its features: with two classes half the
    plane and its negative, so that the softmax of the scores is the head's probabilities where it has any.

    UserError for a head that is not linear.
    """
    if isinstance(head, Guarded):
        return linear_form(head.head)
    if isinstance(head, Calibrated):
        weights, intercept = linear_form(head.head)
        return weights / head.temperature, intercept / head.temperature
    if isinstance(head, OverViews):
        raise UserError(
            f"a head that decides over {head.asked} views cannot become one final layer; take --format onnx or torch, "
            "or train it with --test-views 1"
        )
    if isinstance(head, OnViews):
        return linear_form(head.head)
    if isinstance(head, OnAxes):
        weights, intercept = linear_form(head.head)
        weights = weights @ head.axes.axes.T.astype(float)
        return weights, intercept - weights @ head.axes.mean.astype(float)
    if isinstance(head, LinearHead):
        weights, intercept = head.coef_.astype(float), np.asarray(head.intercept_, dtype=float).reshape(-1)
    elif isinstance(head, UntouchedClassifier):
        weights = np.zeros((len(head.source_classes_), head.n_features_in_))
        weights[np.arange(len(weights)), head.source_classes_] = 1
        intercept = np.zeros(len(weights))
    else:
        raise UserError(
            f"a head of type {type(head).__name__} is not linear in its features, so it cannot become one final layer; "
            "take --format onnx or torch, or a linear head (logistic, linear-svm, ridge, lda, linear, centroid)"
        )
    return both_planes(weights, intercept)


class _Form(nn.Module):
    """A head as a module, whose arrays are buffers by name: float32, or int64 where they are whole numbers.

    temperature: of its probabilities, where they are calibrated. as_logits: it gives for scores what probabilities are
    made of, or would be, and nothing else.
    """

    temperature: float | None = None
    as_logits = False

    def decided(
        self, label: torch.Tensor, scores: torch.Tensor, logits: torch.Tensor, own: torch.Tensor | None
    ) -> Decision:
        """What is decided; own: probabilities where nothing was calibrated."""
        if self.as_logits:
            return label, logits, None, None
        return label, scores, own if self.temperature is None else (logits / self.temperature).softmax(1), None

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...

    def keep(self, **arrays: Any) -> None:
        """Take copies of the arrays as buffers."""
        for name, array in arrays.items():
            array = np.asarray(array)
            kind = np.int64 if array.dtype.kind in "iu" else np.float32
            self.register_buffer(name, torch.from_numpy(array.astype(kind)))


class _Linear(_Form):
    def __init__(self, head: Any) -> None:
        super().__init__()
        weights, intercept = linear_form(head)
        self.layer = nn.Linear(weights.shape[1], len(weights))
        with torch.no_grad():
            self.layer.weight.copy_(torch.from_numpy(weights))
            self.layer.bias.copy_(torch.from_numpy(intercept))
        self.probable = isinstance(head, ProbabilityMixin | UntouchedClassifier)

    def forward(self, features: torch.Tensor) -> Decision:
        scores = self.layer(features)
        return self.decided(scores.argmax(1), scores, scores, scores.softmax(1) if self.probable else None)


class _OnAxes(_Form):
    def __init__(self, head: OnAxes) -> None:
        super().__init__()
        self.keep(mean=head.axes.mean, axes=head.axes.axes)
        self.head = head_module(head.head)

    def forward(self, features: torch.Tensor) -> Decision:
        reduced = (features.reshape(-1, len(self.mean)) - self.mean) @ self.axes
        return self.head(reduced.reshape(features.shape[0], -1))


class _OverViews(_Form):
    """The head asked of each view, and the mean of what its probabilities are made of.

    It takes the numbers of all views of an image (N, views * D), or of fewer, over which it then decides.
    """

    def __init__(self, head: OverViews) -> None:
        super().__init__()
        self.width, self.probable = head.n_features_in_, hasattr(head.head, "predict_proba")
        inner: Any = head_module(head.head)
        inner.as_logits = True
        self.head = inner

    def forward(self, features: torch.Tensor) -> Decision:
        views = features.shape[1] // self.width
        _, logits, _, _ = self.head(features.reshape(-1, self.width))
        logits = logits.reshape(-1, views, logits.shape[1]).mean(1)
        logits = logits.log_softmax(1) if self.probable else logits
        return self.decided(logits.argmax(1), logits, logits, logits.softmax(1) if self.probable else None)


class _Guarded(_Form):
    """The head beside the distance to the k-th nearest training row at length 1."""

    def __init__(self, head: Guarded) -> None:
        super().__init__()
        familiar = head.familiar
        self.columns = familiar.columns is not None
        self.k, self.limit = familiar.k, familiar.limit
        rows = familiar.rows.astype(np.float64)
        # Rows are near each other beside their length: around their middle float32 tells them apart.
        self.keep(middle=rows.mean(axis=0), rows=rows - rows.mean(axis=0))
        self.keep(lengths=self.rows.square().sum(1), **({"chosen": familiar.columns} if self.columns else {}))
        self.head = head_module(head.head)

    def forward(self, features: torch.Tensor) -> Decision:
        label, scores, probabilities, _ = self.head(features)
        seen = features[:, self.chosen] if self.columns else features[:, : self.rows.shape[1]]
        length = seen.square().sum(1, keepdim=True).sqrt()
        seen = seen / torch.where(length > 0, length, torch.ones_like(length)) - self.middle
        squares = seen.square().sum(1, keepdim=True) + self.lengths - 2 * seen @ self.rows.T
        nearest = squares.topk(self.k, dim=1, largest=False).values[:, -1]
        return label, scores, probabilities, nearest.clamp(min=0).sqrt() / self.limit


class _RBFSVM(_Form):
    """The kernel expansion, and the vote of each pair of classes."""

    def __init__(self, head: RBFSVM) -> None:
        super().__init__()
        classes = len(head.classes_)
        self.sizes = head.n_support_.tolist()
        self.gamma, self.unit = head.gamma_, head.unit_
        self.two = classes == 2
        pairs = np.array(list(itertools.combinations(range(classes), 2)))
        first, second = pairs.T
        self.keep(mean=head.mean_, vectors=head.vectors_, coefficients=head.coefficients_, intercept=head.intercept_)
        self.keep(lengths=self.vectors.square().sum(1))
        # Among the (K, K - 1) sums over the vectors of each class, where those of the two sides of a pair stand.
        self.keep(one_side=first * (classes - 1) + second - 1, other_side=second * (classes - 1) + first)
        belongs = np.zeros((2, len(pairs), classes))
        belongs[0, np.arange(len(pairs)), first] = belongs[1, np.arange(len(pairs)), second] = 1
        self.keep(firsts=belongs[0], seconds=belongs[1])

    def forward(self, features: torch.Tensor) -> Decision:
        centred = (features - self.mean) * self.unit
        distances = centred.square().sum(1, keepdim=True) + self.lengths - 2 * centred @ self.vectors.T
        kernel = torch.exp(-self.gamma * distances.clamp(min=0))
        parts = zip(kernel.split(self.sizes, 1), self.coefficients.split(self.sizes), strict=True)
        sums = torch.cat([part @ coefficients for part, coefficients in parts], 1)
        margins = sums[:, self.one_side] + sums[:, self.other_side] + self.intercept
        if self.two:
            scores = torch.cat([margins, -margins], 1) / 2
            return self.decided((scores[:, 1] > scores[:, 0]).long(), scores, scores, None)
        won = (margins > 0).to(margins.dtype)
        votes = won @ self.firsts + (1 - won) @ self.seconds
        confidence = margins @ (self.firsts - self.seconds)
        # A confidence is worth less than a third of a vote; on a tie of votes the first class is taken.
        label = votes.argmax(1)
        # As `RBFSVM.logits` has it: the class decided for and the one of the largest sum exchange theirs.
        top = confidence.max(1, keepdim=True)
        chosen, largest = label[:, None], top.indices
        logits = confidence.scatter(1, largest, confidence.gather(1, chosen)).scatter(1, chosen, top.values)
        return self.decided(label, votes + confidence / (3 * (confidence.abs() + 1)), logits, None)


class _KNN(_Form):
    """All distances, and the votes of the nearest."""

    def __init__(self, head: KNN) -> None:
        super().__init__()
        self.k = min(head.k, len(head.rows_))
        self.cosine = head.scale_ is None
        if head.scale_ is not None:
            self.keep(mean=head.scale_.mean, factor=head.scale_.factor)
        votes = np.zeros((len(head.rows_), len(head.classes_)))
        votes[np.arange(len(votes)), head.codes_] = head.shares_[head.codes_]
        self.keep(rows=head.rows_, lengths=head.lengths_, votes=votes)

    def forward(self, features: torch.Tensor) -> Decision:
        if self.cosine:
            length = features.square().sum(1, keepdim=True).sqrt()
            queries = features / torch.where(length > 0, length, torch.ones_like(length))
        else:
            queries = (features - self.mean) * self.factor
        distances = self.lengths - 2 * queries @ self.rows.T
        nearest = distances.topk(self.k, dim=1, largest=False).indices
        votes = self.votes[nearest].sum(1)
        shares = votes / votes.sum(1, keepdim=True)
        return self.decided(votes.argmax(1), shares, shares.clamp(min=LEAST_SHARE).log(), shares)


class _MLP(_Form):
    def __init__(self, head: MLP) -> None:
        super().__init__()
        A, a, B, b = (torch.from_numpy(np.asarray(array, dtype=np.float32)) for array in head.parameters_)
        self.keep(mean=head.scale_.mean, factor=head.scale_.factor)
        self.first, self.second = nn.Linear(A.shape[1], len(A)), nn.Linear(B.shape[1], len(B))
        with torch.no_grad():
            for layer, weight, bias in ((self.first, A, a), (self.second, B, b)):
                layer.weight.copy_(weight)
                layer.bias.copy_(bias)

    def forward(self, features: torch.Tensor) -> Decision:
        logits = self.second(self.first((features - self.mean) * self.factor).relu())
        two = logits.shape[1] == 2
        scores = torch.stack([logits[:, 0] - logits[:, 1], logits[:, 1] - logits[:, 0]], 1) / 2 if two else logits
        return self.decided(logits.argmax(1), scores, scores, logits.softmax(1))


class _Head2Toe(_Form):
    """Each layer brought to length 1, the relevant columns kept, and the scaler folded into the logistic regression."""

    def __init__(self, head: Head2Toe) -> None:
        super().__init__()
        self.widths = list(head.widths) if head.widths is not None else [head.n_features_in_]
        scaler, logistic = (step for _, step in head.head_.steps)
        weights = logistic.coef_ / scaler.scale_
        weights, intercept = both_planes(weights, logistic.intercept_ - weights @ scaler.mean_)
        self.keep(kept=head.kept_, weights=weights.T, intercept=intercept)

    def forward(self, features: torch.Tensor) -> Decision:
        layers = []
        for layer in features.split(self.widths, 1):
            length = layer.square().sum(1, keepdim=True).sqrt()
            layers.append(layer / torch.where(length > 0, length, torch.ones_like(length)))
        scores = torch.cat(layers, 1)[:, self.kept] @ self.weights + self.intercept
        return self.decided(scores.argmax(1), scores, scores, scores.softmax(1))


_FORMS: dict[type, Callable[[Any], nn.Module]] = {
    LinearHead: _Linear,
    UntouchedClassifier: _Linear,
    OnAxes: _OnAxes,
    OverViews: _OverViews,
    Guarded: _Guarded,
    RBFSVM: _RBFSVM,
    KNN: _KNN,
    MLP: _MLP,
    Head2Toe: _Head2Toe,
}
