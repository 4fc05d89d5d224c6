"""Problems of several folds over the same features, solved side by side: one product serves all of them.

A product of the features with the weights of one problem is narrow and waits for memory; with those of all folds it
takes hardly longer. So the folds' descents take their steps in turn, what they ask for is answered together, and a
curvature that one of them asks for serves the others, which are as far: it is only a first guess. Each starts and stops
as it would alone, and sees its own training rows alone.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from classify.heads.estimator import row_blocks
from classify.heads.scaling import FoldRows
from classify.heads.solvers.curvature import Curvature
from classify.heads.solvers.descent import Bend, Gradient, LinearProblem, Scores, Solution, descent


def minimise_together(
    problems: Sequence[LinearProblem],
    penalties: Sequence[float],
    starts: Sequence[np.ndarray | None],
    *,
    tolerance: float,
    max_iter: int,
) -> list[Solution]:
    """As `minimise` for each of the problems, whose features are `FoldRows` of the same rows."""
    running = {
        place: descent(problem, penalty, start, tolerance=tolerance, max_iter=max_iter)
        for place, (problem, penalty, start) in enumerate(zip(problems, penalties, starts, strict=True))
    }
    solved: dict[int, Solution] = {}
    bends = dict.fromkeys(running, 0)
    curvatures: list[Curvature] = []
    given: dict[int, Any] = dict.fromkeys(running)
    scores: dict[int, np.ndarray] = {}
    gradients: dict[int, np.ndarray] = {}
    while given:
        for place, reply in given.items():
            try:
                asked = running[place].send(reply)
                while isinstance(asked, Bend):
                    if bends[place] == len(curvatures):
                        curvatures.append(problems[place].curvature(asked.scores, penalties[place]))
                    bends[place] += 1
                    asked = running[place].send(curvatures[bends[place] - 1])
            except StopIteration as end:
                solved[place] = end.value
                continue
            if isinstance(asked, Scores):
                scores[place] = asked.W
            else:
                assert isinstance(asked, Gradient)
                gradients[place] = asked.slopes
        # All wait for whoever needs scores once more, and go on side by side.
        if scores:
            given, scores = _scores(problems, scores), {}
        else:
            given, gradients = _gradients(problems, gradients), {}
    return [solved[place] for place in range(len(problems))]


def _scores(problems: Sequence[LinearProblem], asked: dict[int, np.ndarray]) -> dict[int, np.ndarray]:
    """The scores of each problem's rows for its weights (K, D + 1): (K, n)."""
    rows = {place: _rows(problems[place]) for place in asked}
    weights = {place: W[:, :-1] * rows[place].factor for place, W in asked.items()}
    every = np.concatenate(list(weights.values())).astype(np.float32) @ rows[next(iter(rows))].Z.T
    given, start = {}, 0
    for place, W in asked.items():
        stop = start + len(W)
        lacking = W[:, -1] - weights[place] @ rows[place].shift
        given[place] = every[start:stop].take(rows[place].rows, axis=1)
        given[place] += lacking[:, None].astype(np.float32)
        start = stop
    return given


def _gradients(problems: Sequence[LinearProblem], asked: dict[int, np.ndarray]) -> dict[int, np.ndarray]:
    """Each problem's slopes (K, n) times its rows, as `LinearProblem.gradient`."""
    if not asked:
        return {}
    rows = {place: _rows(problems[place]) for place in asked}
    Z = rows[next(iter(rows))].Z
    every = np.zeros((sum(map(len, asked.values())), len(Z)), np.float32)
    start = 0
    for place, slopes in asked.items():
        every[start : start + len(slopes), rows[place].rows] = slopes
        start += len(slopes)
    total = np.zeros((len(every), Z.shape[1]))
    for block in row_blocks(len(Z), 8192):
        total += every[:, block] @ Z[block]
    given, start = {}, 0
    for place, slopes in asked.items():
        sums = slopes.sum(axis=1, dtype=np.float64)
        own = (total[start : start + len(slopes)] - np.outer(sums, rows[place].shift)) * rows[place].factor
        given[place] = np.column_stack([own, sums]) / len(rows[place])
        start += len(slopes)
    return given


def _rows(problem: LinearProblem) -> FoldRows:
    assert isinstance(problem.Z, FoldRows)
    return problem.Z
