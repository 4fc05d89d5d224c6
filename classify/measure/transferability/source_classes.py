"""LEEP and NCE: what the source network's own classes say about the target's.

Both read what the network's `fc` makes of the target images; `source_probabilities` turns its cached output into that.
"""

import numpy as np
from scipy.special import softmax

from classify.measure.transferability.matrices import check_labels, one_hot
from features.errors import UserError

BLOCK_ROWS = 4096


def source_probabilities(logits: np.ndarray) -> np.ndarray:
    """Softmax of the source head's output (N, Z), as (N, Z) float64."""
    logits = np.asarray(logits, dtype=np.float64)
    if logits.ndim != 2 or not np.isfinite(logits).all():
        raise UserError(
            f"the source head's output must be a table of finite numbers, one row an image, not {logits.shape} with "
            "NaN or infinity; extract 'fc' again, with --precision float32"
        )
    return softmax(logits, axis=1)


def leep(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Log expected empirical prediction, of (N, Z) source probabilities and labels (N,); at most 0. Higher is better.

    Nguyen, Hassner, Seeger and Archambeau, 'LEEP: a new measure to evaluate transferability of learned
    representations', ICML 2020, equations 1 and 2: P(y, z) is the mean of the probability of z over the rows of class
    y; the score is the mean over the rows of log sum_z P(y | z) p(z). A source class of no probability adds nothing.
    """
    probabilities = _checked(probabilities)
    codes, counts = check_labels(len(probabilities), labels)
    joint = np.zeros((len(counts), probabilities.shape[1]))
    for start in range(0, len(codes), BLOCK_ROWS):
        rows = slice(start, start + BLOCK_ROWS)
        joint += one_hot(codes[rows], len(counts)).T @ np.asarray(probabilities[rows], dtype=np.float64)
    marginal = joint.sum(axis=0)
    conditional = np.divide(joint, marginal, out=np.zeros_like(joint), where=marginal > 0)
    logarithms = 0.0
    for start in range(0, len(codes), BLOCK_ROWS):
        rows = slice(start, start + BLOCK_ROWS)
        block = np.asarray(probabilities[rows], dtype=np.float64)
        logarithms += np.log(np.einsum("iz,iz->i", conditional[codes[rows]], block)).sum()
    return float(min(logarithms / len(codes), 0.0))


def nce(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Negative conditional entropy, in nats, of labels (N,) given the source predictions; at most 0. Higher is better.

    Tran, Nguyen and Hassner, 'Transferability and hardness of supervised classification tasks', ICCV 2019,
    section 4: -H(Y | Z) = sum over y, z of P(y, z) log(P(y, z) / P(z)), with Z the likeliest source class. Reads
    (N, Z) probabilities or (N,) predicted source classes.
    """
    probabilities = np.asarray(probabilities)
    predicted = probabilities if probabilities.ndim == 1 else _checked(probabilities).argmax(axis=1)
    codes, counts = check_labels(len(predicted), labels)
    source, source_counts = check_labels(len(predicted), predicted)
    joint = np.zeros((len(counts), len(source_counts)))
    np.add.at(joint, (codes, source), 1.0)
    share = joint / source_counts
    return float(np.sum(joint * np.log(np.where(joint > 0, share, 1.0))) / len(codes))


def _checked(probabilities: np.ndarray) -> np.ndarray:
    probabilities = np.asarray(probabilities)
    if probabilities.ndim != 2 or probabilities.shape[1] == 0:
        raise ValueError(f"expected source probabilities (N, Z), got shape {probabilities.shape}")
    sums = probabilities.sum(axis=1, dtype=np.float64)
    # Written so that NaN fails too; half-precision probabilities add up to 1 within a few thousandths.
    if not (np.abs(sums - 1) < 1e-2).all() or not (probabilities >= 0).all():
        raise ValueError("source probabilities must not be negative and must add up to 1; give logits to softmax first")
    return probabilities
