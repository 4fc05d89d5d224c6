"""LogME: the evidence of the labels under a Bayesian linear model of the features."""

import numpy as np

from classify.measure.transferability.matrices import Blocks
from classify.measure.transferability.spectrum import Spectrum, class_spectrum

RELATIVE_STOP = 1e-5
MOST_STEPS = 1000
GUARD = 1e-5  # The authors' addition to both denominators; it bounds the evidence where the labels fit exactly.


def logme(features: np.ndarray, labels: np.ndarray) -> float:
    """Log maximum evidence per sample of features (N, D) for labels (N,), mean over the classes. Higher is better.

    You, Liu, Wang and Long, 'LogME: practical assessment of pre-trained models for transfer learning', ICML 2021,
    equation 2 (the evidence) and algorithm 1 (alpha and beta), in the fixed-point form of You et al., 'Ranking and
    tuning pre-trained models', 2022: the ratio alpha / beta starts at 1 and is iterated until it moves by less than
    1e-5 of itself. Classes are those that occur. Features are not centred.

    Two choices are the authors' code's: 1e-5 is added to both denominators, and the evidence is evaluated with the
    last alpha and beta and the squared lengths they were made from. One is not: where the features' rank k is less
    than D, log |A| takes in the D - k directions of variance alpha, as equation 2 has it; their fixed-point code
    leaves those out, which adds (D - k) / 2N log(alpha) to the score.
    """
    spectrum = class_spectrum(Blocks(features, centre=False), labels)
    return float(np.mean([_evidence(spectrum, number) for number in range(len(spectrum.counts))]))


def _evidence(spectrum: Spectrum, number: int) -> float:
    squares = spectrum.values**2
    inside = spectrum.projections[:, number] ** 2
    outside = spectrum.residuals[number]
    rows, rank = int(spectrum.counts.sum()), len(squares)
    ratio = 1.0
    for _ in range(MOST_STEPS):
        shrunk = ratio / (ratio + squares)
        effective = np.sum(squares / (ratio + squares))
        weights = np.sum(squares * inside / (ratio + squares) ** 2)
        errors = np.sum(inside * shrunk**2) + outside
        alpha = max(effective, np.finfo(float).tiny) / (weights + GUARD)
        # rows - effective, without the cancellation that leaves 0 where the features span every row.
        beta = max(rows - rank + shrunk.sum(), np.finfo(float).tiny) / (errors + GUARD)
        previous, ratio = ratio, alpha / beta
        if abs(ratio - previous) <= RELATIVE_STOP * previous:
            break
    # rank/2 log(alpha) - 1/2 sum log(alpha + beta s^2), as one sum that cannot cancel; directions of s = 0 add nothing.
    log_volume = -0.5 * np.sum(np.log1p(squares / ratio))
    fit = 0.5 * rows * np.log(beta / (2 * np.pi)) - 0.5 * beta * errors - 0.5 * alpha * weights
    return float((log_volume + fit) / rows)
