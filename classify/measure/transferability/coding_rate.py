"""TransRate: how many fewer bits the features need once their classes are known."""

import numpy as np

from classify.measure.transferability.matrices import Blocks, check_labels

DISTORTION = 1e-4


def transrate(features: np.ndarray, labels: np.ndarray) -> float:
    """R(Z) - mean over the classes of R(Z_c), features (N, D), labels (N,), in nats. Higher is better.

    Huang et al., 'Frustratingly easy transferability estimation', ICML 2022: the coding rate R(Z) of n centred rows
    is 1/2 log det(I + Z'Z / (n e)) with e = 1e-4, and the classes count alike, as in the paper's listing. The rows of
    a class are not centred again. Features are taken at the scale they come in, which the rate depends on: layers
    whose features differ much in scale are not comparable by this score.
    """
    blocks = Blocks(features, centre=True)
    codes, counts = check_labels(blocks.rows, labels)
    order = np.argsort(codes, kind="stable")
    members = np.split(order, np.cumsum(counts)[:-1])
    tall = blocks.rows > blocks.columns
    total = np.zeros((blocks.columns, blocks.columns) if tall else (0, 0))
    rates = []
    for rows in members:
        part = blocks.take(rows)
        if len(rows) > blocks.columns:
            product = part.T @ part
            if tall:
                total += product
        else:
            product = part @ part.T
            if tall:
                total += part.T @ part
        rates.append(_coding_rate(product, len(rows)))
    if not tall:
        whole = blocks.whole()
        total = whole @ whole.T
    return _coding_rate(total, blocks.rows) - float(np.mean(rates))


def _coding_rate(product: np.ndarray, rows: int) -> float:
    """From Z'Z or ZZ', whichever is smaller: their nonzero eigenvalues are the same, and zeros add nothing."""
    _, log_determinant = np.linalg.slogdet(np.eye(len(product)) + product / (rows * DISTORTION))
    return 0.5 * float(log_determinant)
