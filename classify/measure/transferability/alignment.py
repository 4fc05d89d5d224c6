"""Debiased linear CKA: how alike two sets of features of the same images are, or features and labels.

CKA as first published is biased: of noise it is the larger the wider the features and the fewer the images, so that it
ranks wide layers too high. What stands here is 0 on average for features that have nothing to do with each other.
"""

import numpy as np

from classify.measure.transferability.matrices import Blocks, check_labels, one_hot

FEWEST_ROWS = 4  # of which there is an unbiased estimate
# A similarity of a side with itself that is smaller than this share of what it is the rest of, is rounding.
_ROUNDING = 1e-10


def linear_cka(first: np.ndarray, second: np.ndarray) -> float:
    """Debiased linear CKA of (N, D) and (N, E) features of the same N images, from -1 to 1; 1 is alike, 0 unrelated.

    Nguyen, Raghu and Kornblith, 'Do wide and deep networks learn the same things? Uncovering how neural network
    representations vary with width and depth', ICLR 2021, equations 2 and 3 with all images in one batch:
    HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L)) with the unbiased HSIC of Song et al., 'Feature selection via dependence
    maximization', JMLR 2012, and linear kernels K = XX', L = YY'. It is an inner product, so none is above 1. Unchanged
    by rotation, shift and uniform scale of either side. 0 where a side is constant, where its images are all equally
    far apart, and for fewer than four images, of which it cannot be told.
    """
    X, Y = Blocks(first, centre=True), Blocks(second, centre=True)
    if X.rows != Y.rows:
        raise ValueError(f"CKA compares features of the same images, got {X.rows} and {Y.rows} rows")
    if X.columns == 0 or Y.columns == 0 or X.rows < FEWEST_ROWS:
        return 0.0
    if X.rows < max(X.columns, Y.columns):
        kernels = [_kernel(side) for side in (X, Y)]
        cross = float(np.vdot(*kernels))
        squares = [float(np.vdot(kernel, kernel)) for kernel in kernels]
    else:
        wide, narrow = (X, Y) if X.columns >= Y.columns else (Y, X)
        product = np.zeros((narrow.columns, wide.columns))
        for rows, block in wide:
            product += narrow.take(rows).T @ block
        cross = float(np.sum(product**2))
        squares = [float(np.sum(side.gram() ** 2)) for side in (X, Y)]
    diagonals = [side.squared_norms() for side in (X, Y)]
    own = [_unbiased(square, diagonal, diagonal) for square, diagonal in zip(squares, diagonals, strict=True)]
    if any(value <= _ROUNDING * square for value, square in zip(own, squares, strict=True)):
        return 0.0
    alignment = _unbiased(cross, *diagonals) / np.sqrt(own[0]) / np.sqrt(own[1])
    return float(np.clip(alignment, -1.0, 1.0))


def cka_to_labels(features: np.ndarray, labels: np.ndarray) -> float:
    """Debiased linear CKA of features (N, D) to the one-hot labels (N,), from -1 to 1. Higher is better.

    `linear_cka` with the indicators of the classes that occur as the second set of features; 0 for a single class.
    """
    codes, counts = check_labels(len(features), labels)
    return linear_cka(features, one_hot(codes, len(counts)))


def _unbiased(trace: float, first: np.ndarray, second: np.ndarray) -> float:
    """N (N - 3) times the unbiased HSIC, from the trace of KL and the diagonals of K and L (N,), both centred.

    Song's estimator takes the diagonals off; since the rows of what is centred sum to 0, no more than these is needed.
    """
    rows = len(first)
    return trace - rows / (rows - 2) * float(first @ second) + first.sum() * second.sum() / ((rows - 1) * (rows - 2))


def _kernel(side: Blocks) -> np.ndarray:
    whole = side.whole()
    return whole @ whole.T
