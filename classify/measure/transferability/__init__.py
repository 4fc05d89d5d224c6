"""Scores that say how well features suit a task before any head is trained.

`SCORES` names them all, with what each one reads, so that a probe can loop over them. Every score is a function of
one array and the labels, works in float64 whatever the array's type, and is finite for all finite float32: classes of
one sample, labels with gaps, constant or duplicated features, more features than samples. Measured against probes by
`weighted_tau`. Left to others: where features come from, and what is done with the ranking.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from classify.measure.transferability.alignment import cka_to_labels, linear_cka
from classify.measure.transferability.class_separation import h_score, regularised_h_score
from classify.measure.transferability.coding_rate import transrate
from classify.measure.transferability.evidence import logme
from classify.measure.transferability.ranking import weighted_tau
from classify.measure.transferability.source_classes import leep, nce, source_probabilities

__all__ = [
    "SCORES",
    "Score",
    "cka_to_labels",
    "h_score",
    "leep",
    "linear_cka",
    "logme",
    "nce",
    "regularised_h_score",
    "source_probabilities",
    "transrate",
    "weighted_tau",
]


@dataclass(frozen=True)
class Score:
    """One transferability score: `function(array, labels) -> float`.

    `needs` says which array: 'features' (N, D) at the cut, or 'source_probabilities' (N, Z), what the network's own
    head makes of the same images. `direction` says which end is good.
    """

    name: str
    title: str
    paper: str
    needs: Literal["features", "source_probabilities"]
    function: Callable[[np.ndarray, np.ndarray], float]
    direction: Literal["higher", "lower"] = "higher"


SCORES: dict[str, Score] = {
    score.name: score
    for score in (
        Score("logme", "LogME", "You et al. 2021", "features", logme),
        Score("h-score", "H-score", "Bao et al. 2019", "features", h_score),
        Score("regularised-h-score", "regularised H-score", "Ibrahim et al. 2022", "features", regularised_h_score),
        Score("transrate", "TransRate", "Huang et al. 2022", "features", transrate),
        Score("debiased-cka", "debiased linear CKA to the labels", "Nguyen et al. 2021", "features", cka_to_labels),
        Score("leep", "LEEP", "Nguyen et al. 2020", "source_probabilities", leep),
        Score("nce", "NCE", "Tran et al. 2019", "source_probabilities", nce),
    )
}
