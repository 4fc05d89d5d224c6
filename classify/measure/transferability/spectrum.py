"""What a feature matrix and the classes look like along the matrix's principal directions.

LogME and both H-scores are sums over the left singular vectors of the features and need nothing else, so the
decomposition is made here, once and carefully, and the scores stay a few lines each.
"""

from dataclasses import dataclass

import numpy as np

from classify.measure.transferability.matrices import Blocks, check_labels, one_hot

# A Gram matrix squares the condition number: it loses singular values below about 1e-6 of the largest. Features are
# therefore multiplied by its inverse square root, floored there, and the well-conditioned product's Gram matrix
# supplies what the first one missed. All of it is matrix products: 60000 x 512 takes 1.8 s on one core. A QR
# decomposition is as accurate and took 3 s on two idle cores, but minutes for 60000 x 1000 where they were shared.
FLOOR = 1e-12


@dataclass(frozen=True)
class Spectrum:
    """Thin singular value decomposition of (N, D) features, up to their numerical rank k, against C classes.

    values:       (k,) singular values, largest first.
    projections:  (k, C) left singular vectors' transpose times the class indicators (N, C).
    residuals:    (C,) squared length of what of each indicator lies outside the features' span.
    counts:       (C,) rows of each class.
    """

    values: np.ndarray
    projections: np.ndarray
    residuals: np.ndarray
    counts: np.ndarray


def class_spectrum(blocks: Blocks, labels: np.ndarray, *, standardise: bool = False) -> Spectrum:
    """The spectrum of the features in `blocks` against `labels` (N,), every column brought to length 1 if asked.

    Costs three products of N * D * D where N > D, else of N * N * D, and decompositions of the smaller side.
    """
    codes, counts = check_labels(blocks.rows, labels)
    if blocks.columns == 0:
        return Spectrum(np.zeros(0), np.zeros((0, len(counts))), counts.astype(float), counts)
    if blocks.rows <= blocks.columns:
        values, coordinates = _wide(blocks, one_hot(codes, len(counts)), standardise)
    else:
        values, coordinates = _tall(blocks, codes, len(counts), standardise)
    rank = _rank(values, blocks)
    projections = coordinates[:rank]
    residuals = np.maximum(counts - np.sum(projections**2, axis=0), 0.0)
    return Spectrum(values[:rank], projections, residuals, counts)


def _tall(blocks: Blocks, codes: np.ndarray, classes: int, standardise: bool) -> tuple[np.ndarray, np.ndarray]:
    gram = blocks.gram()
    if standardise:
        blocks.factors = 1.0 / np.sqrt(np.diag(gram))
        gram *= blocks.factors * blocks.factors[:, None]
    vectors, lengths = _directions(gram)
    to_even = vectors / lengths
    even_gram = np.zeros_like(gram)
    sums = np.zeros((blocks.columns, classes))
    for rows, block in blocks:
        even = block @ to_even
        even_gram += even.T @ even
        sums += even.T @ one_hot(codes[rows], classes)
    squares, turn = _significant(even_gram, blocks)
    left, values, _ = np.linalg.svd(np.sqrt(squares)[:, None] * turn.T * lengths, full_matrices=False)
    return values, left.T @ ((turn / np.sqrt(squares)).T @ sums)


def _wide(blocks: Blocks, indicators: np.ndarray, standardise: bool) -> tuple[np.ndarray, np.ndarray]:
    whole = blocks.whole()
    if standardise:
        whole /= np.sqrt(np.einsum("ij,ij->j", whole, whole))
    vectors, lengths = _directions(whole @ whole.T)
    even = (vectors / lengths).T @ whole
    squares, turn = _significant(even @ even.T, blocks)
    _, values, right = np.linalg.svd(np.sqrt(squares)[:, None] * turn.T * lengths, full_matrices=False)
    return values, right @ (vectors.T @ indicators)


def _directions(gram: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvectors as columns, and the length of the features along each as far as the Gram matrix can tell."""
    squares, vectors = np.linalg.eigh(gram)
    return vectors, np.sqrt(np.maximum(squares, FLOOR * squares[-1]))


def _significant(gram: np.ndarray, blocks: Blocks) -> tuple[np.ndarray, np.ndarray]:
    squares, vectors = np.linalg.eigh(gram)
    kept = squares > max(blocks.rows, blocks.columns) * np.finfo(np.float64).eps * squares[-1]
    return squares[kept], vectors[:, kept]


def _rank(values: np.ndarray, blocks: Blocks) -> int:
    smallest = max(blocks.rows, blocks.columns) * np.finfo(np.float64).eps * values[0]
    return int(np.count_nonzero(values > smallest))
