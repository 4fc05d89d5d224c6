"""Scores that say how well features suit a task before any head is trained.

`SCORES` names them all, with what each one reads, so that a probe can loop over them. Every score is a function of
one array and the labels, works in float64 whatever the array's type, and is finite for all finite float32: classes of
one sample, labels with gaps, constant or duplicated features, more features than samples. Measured against probes by
`weighted_tau`. Left to others: where features come from, and what is done with the ranking.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from classify.measure.transferability.alignment import cka_to_labels, linear_cka
from classify.measure.transferability.class_separation import h_score, regularised_h_score
from classify.measure.transferability.coding_rate import transrate
from classify.measure.transferability.evidence import logme
from classify.measure.transferability.ranking import weighted_tau
from classify.measure.transferability.source_classes import leep, nce, source_probabilities
from features.errors import UserError
from features.plugins import Plugin, blamed, plugins

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


OURS: dict[str, Score] = {
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


class Scores(Mapping[str, Score]):
    """Scores by name: ours, and behind them those of plug-ins, loaded when they are asked for."""

    def __getitem__(self, name: str) -> Score:
        return OURS[name] if name in OURS else _of_plugin(plugins("scores")[name])

    def __iter__(self) -> Iterator[str]:
        return iter((*OURS, *(name for name in plugins("scores") if name not in OURS)))

    def __len__(self) -> int:
        return sum(1 for _ in self)


@functools.cache
def _of_plugin(plugin: Plugin) -> Score:
    """The score that an entry point gives: a `Score`, or a function of features and labels, of which more is better."""
    brought = plugin.load()

    def scored(array: np.ndarray, labels: np.ndarray) -> float:
        with blamed(plugin.name, plugin.origin):
            return float(brought.function(array, labels) if isinstance(brought, Score) else brought(array, labels))

    if isinstance(brought, Score):
        return dataclasses.replace(brought, name=plugin.name, function=scored)
    if not callable(brought):
        raise UserError(
            f"the plug-in {plugin.name} of {plugin.origin} is a {type(brought).__name__}, and no function; tell its "
            "authors"
        )
    return Score(plugin.name, plugin.name, plugin.origin, "features", scored)


SCORES = Scores()
