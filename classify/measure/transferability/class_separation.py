"""H-score and its regularised form: how much of the features' variance lies between classes."""

import numpy as np

from classify.measure.transferability.matrices import Blocks
from classify.measure.transferability.spectrum import class_spectrum


def h_score(features: np.ndarray, labels: np.ndarray) -> float:
    """trace(cov(f)^+ cov(E[f | y])) of features (N, D) and labels (N,), between 0 and C - 1. Higher is better.

    Bao et al., 'An information-theoretic approach to transferability in task transfer learning', ICIP 2019,
    the definition of the H-score. The inverse is the pseudo-inverse at numerical rank, so constant and duplicated
    features change nothing; nor does any invertible linear map. Where D >= N - 1 the features can name every row and
    the score is its bound whatever they are worth: the regularised form is meant for that.
    """
    spectrum = class_spectrum(Blocks(features, centre=True), labels, standardise=True)
    return float(np.sum(spectrum.projections**2 / spectrum.counts))


def regularised_h_score(features: np.ndarray, labels: np.ndarray) -> float:
    """trace(cov_a(f)^-1 (1 - a) cov(E[f | y])) of features (N, D) and labels (N,). Higher is better.

    Ibrahim, Ponomareva and Mazumder, 'Newer is not always better: rethinking transferability metrics, their
    peculiarities, stability and performance', ECML-PKDD 2022, section 3. cov_a = (1 - a) S + a trace(S) / D I with
    the shrinkage a of Ledoit and Wolf, 'A well-conditioned estimator for large-dimensional covariance matrices',
    Journal of Multivariate Analysis 88, 2004, section 3.3. Both covariances divide by N.
    Unchanged by rotation and scale; not by other linear maps.
    """
    blocks = Blocks(features, centre=True)
    columns = np.asarray(features).shape[1]
    norms = blocks.squared_norms()
    spectrum = class_spectrum(blocks, labels)
    if len(spectrum.values) == 0:
        return 0.0
    variances = spectrum.values**2 / blocks.rows
    mean_variance = variances.sum() / columns
    empty = columns - len(variances)
    distance = np.sum((variances - mean_variance) ** 2) + empty * mean_variance**2
    noise = (np.mean(norms**2) - np.sum(variances**2)) / blocks.rows
    shrinkage = min(max(noise, 0.0), distance) / distance if distance > 0 else 0.0
    kept = (1 - shrinkage) * variances
    between = np.sum(spectrum.projections**2 / spectrum.counts, axis=1)
    return float(np.sum(between * kept / (kept + shrinkage * mean_variance)))
