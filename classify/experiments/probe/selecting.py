"""Which layers to join, found greedily with a ridge on training and validation rows."""

from collections.abc import Sequence

import numpy as np

from classify.experiments.probe.question import SCORE_ROWS, Question
from classify.experiments.probe.selection import Selection, select_layers
from classify.experiments.sources import CachedLayer
from classify.heads import HEADS
from features.rows import limit_rows, validation_split

# Joining a layer has to gain more than chance on a few validation images would.
LEAST_GAIN = 0.0005


def select(question: Question, sources: Sequence[CachedLayer]) -> Selection:
    """Greedy forward selection over single layers; at most 10,000 stratified training rows, all validation rows."""
    labels = sources[0].read("train").labels
    seed = question.settings.seed
    train, validation = validation_split(labels, np.arange(len(labels)), seed)
    train = train[limit_rows(labels[train], SCORE_ROWS, seed)]
    rows = np.concatenate([train, validation])
    features = {source.layer: np.asarray(source.read("train").features[rows]) for source in sources}
    return select_layers(
        list(features),
        features.__getitem__,
        labels[rows],
        np.arange(len(train)),
        np.arange(len(train), len(rows)),
        lambda: HEADS["ridge"].build(seed=seed, class_weight=question.settings.class_weight, jobs=question.jobs),
        LEAST_GAIN,
    )
