"""Linear CKA: how alike two sets of features of the same images are, or features and labels."""

import numpy as np

from classify.measure.transferability.matrices import Blocks, check_labels, one_hot


def linear_cka(first: np.ndarray, second: np.ndarray) -> float:
    """Linear centred kernel alignment of (N, D) and (N, E) features of the same N images, from 0 to 1; 1 is alike.

    Kornblith, Norouzi, Lee and Hinton, 'Similarity of neural network representations revisited', ICML 2019,
    section 3, equations 1, 3 and 4 with linear kernels: |Y'X|^2 / (|X'X| |Y'Y|), Frobenius norms of centred features
    (the biased HSIC). Unchanged by rotation, shift and uniform scale of either side. 0 where either side is constant.
    """
    X, Y = Blocks(first, centre=True), Blocks(second, centre=True)
    if X.rows != Y.rows:
        raise ValueError(f"CKA compares features of the same images, got {X.rows} and {Y.rows} rows")
    if X.columns == 0 or Y.columns == 0:
        return 0.0
    if X.rows < max(X.columns, Y.columns):
        kernels = [_kernel(side) for side in (X, Y)]
        cross = float(np.vdot(*kernels))
        lengths = [float(np.linalg.norm(kernel)) for kernel in kernels]
    else:
        wide, narrow = (X, Y) if X.columns >= Y.columns else (Y, X)
        product = np.zeros((narrow.columns, wide.columns))
        for rows, block in wide:
            product += narrow.take(rows).T @ block
        cross = float(np.sum(product**2))
        lengths = [float(np.linalg.norm(side.gram())) for side in (X, Y)]
    return min(cross / lengths[0] / lengths[1], 1.0)


def cka_to_labels(features: np.ndarray, labels: np.ndarray) -> float:
    """Linear CKA of features (N, D) to the one-hot labels (N,), from 0 to 1. Higher is better.

    `linear_cka` with the indicators of the classes that occur as the second set of features; 0 for a single class.
    """
    codes, counts = check_labels(len(features), labels)
    return linear_cka(features, one_hot(codes, len(counts)))


def _kernel(side: Blocks) -> np.ndarray:
    whole = side.whole()
    return whole @ whole.T
