"""How results stand to one of them: paired tests on the stored predictions, and who is beaten by nobody.

For a probe, a comparison, the studies and the report alike. Whatever is chosen was chosen on validation before.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol, TypeVar

import numpy as np

from classify.measure.paired import holm, mcnemar, resampled_t
from classify.measure.results import SavedResult
from features.errors import UserError

# Below it, rows differ by more than chance would have it.
LEVEL = 0.05

T = TypeVar("T")


def p_values(best: SavedResult, others: Sequence[SavedResult]) -> list[float | None]:
    """McNemar's mid-p value of each other result against `best`, Holm's correction over all of them; None for one that
    was tested on other rows."""
    reference = best.predictions()
    values: dict[int, float] = {}
    for place, other in enumerate(others):
        predictions = other.predictions()
        if np.array_equal(predictions.rows, reference.rows):
            values[place] = mcnemar(reference.labels, reference.predicted, predictions.predicted).p_value
    corrected = dict(zip(values, holm(list(values.values())).tolist(), strict=True)) if values else {}
    return [corrected.get(place) for place in range(len(others))]


def against(best: SavedResult, others: Sequence[SavedResult]) -> list[float]:
    """The same for results that were all tested on the same rows; UserError naming one that was not."""
    values = []
    for other, value in zip(others, p_values(best, others), strict=True):
        if value is None:
            raise UserError(f"{other.path} was tested on other rows than {best.path}; give --again")
        values.append(value)
    return values


def against_best(best: T, rows: Sequence[T], saved: Callable[[T], SavedResult]) -> tuple[float | None, ...]:
    """The same for rows, whose results `saved` gives, against one of them; None for that one itself."""
    others = [row for row in rows if row is not best]
    corrected = dict(zip(map(id, others), against(saved(best), list(map(saved, others))), strict=True))
    return tuple(corrected.get(id(row)) for row in rows)


def not_distinguishable(best: SavedResult, others: Sequence[SavedResult]) -> list[int]:
    """The numbers of the other results that cannot be told apart from `best` on the rows that it was chosen on."""
    return alike_where_chosen(best.predictions(), (other.predictions() for other in others))


class ChosenOn(Protocol):
    """What was predicted for the rows that something was chosen on, as `Predictions` has it."""

    @property
    def validation_rows(self) -> np.ndarray | None: ...

    @property
    def validation_predicted(self) -> np.ndarray | None: ...

    @property
    def validation_labels(self) -> np.ndarray | None: ...

    @property
    def validation_folds(self) -> np.ndarray | None: ...


def alike_where_chosen(reference: ChosenOn, others: Iterable[ChosenOn]) -> list[int]:
    """The numbers of the others that cannot be told apart from `reference` on the rows that it was chosen on.

    Out of folds by the corrected resampled t-test, on a hold-out by McNemar's, Holm's correction over all, 5 %. Those
    that were chosen on other rows, or on none, are not among them.
    """
    labels, predicted, folds = reference.validation_labels, reference.validation_predicted, reference.validation_folds
    if labels is None or predicted is None:
        return []
    values: dict[int, float] = {}
    for place, mine in enumerate(others):
        if mine.validation_predicted is None or not _chosen_alike(mine, reference):
            continue
        if folds is None:
            values[place] = mcnemar(labels, predicted, mine.validation_predicted).p_value
        else:
            values[place] = resampled_t(labels, predicted, mine.validation_predicted, folds)
    adjusted = holm(list(values.values())).tolist() if values else []
    return [place for place, value in zip(values, adjusted, strict=True) if not differs(value)]


def _chosen_alike(first: ChosenOn, second: ChosenOn) -> bool:
    """Whether two results were chosen on the same rows, in the same folds if in any."""
    pairs = ((first.validation_rows, second.validation_rows), (first.validation_folds, second.validation_folds))
    return all(mine is other if mine is None or other is None else np.array_equal(mine, other) for mine, other in pairs)


def differs(p_value: float | None) -> bool:
    """Whether a row differs from the best for certain."""
    return p_value is not None and p_value < LEVEL


def frontier(rows: Iterable[T], cost: Callable[[T], float], accuracy: Callable[[T], float]) -> tuple[T, ...]:
    """The rows that no other row beats in both accuracy and cost, cheapest first; of equals the first."""
    kept: list[T] = []
    for row in sorted(rows, key=lambda row: (cost(row), -accuracy(row))):
        if not kept or accuracy(row) > accuracy(kept[-1]):
            kept.append(row)
    return tuple(kept)
