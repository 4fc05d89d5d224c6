"""The choice among results goes by what they are worth on validation rows, never by the order in which they come."""

import itertools

import numpy as np
import pytest

from classify.measure.choice import best_of, by_rank
from classify.measure.metrics import measure
from classify.measure.outcome import Result
from classify.measure.paired import resampled_t


def _result(name, right, rows=200, *, loss=None, numbers=None, score="accuracy", **scores):
    reached = {**scores, **({} if loss is None else {"log_loss": loss})}
    extra = {"validation_scores": reached, **({} if numbers is None else {"features": numbers})}
    return Result(
        config={"dataset": "x", "head": name, **({} if score == "accuracy" else {"score": score})},
        metrics=measure(np.array([0, 1]), np.array([0, 1])),
        validation_accuracy=right / rows,
        rows={"train": rows, "validation": rows},
        extra=extra,
    )


def _chosen(*results):
    """Of every order of the results the one that is chosen, which has to be the same."""
    names = {best_of(order, lambda result: [result]).config.head for order in itertools.permutations(results)}
    assert len(names) == 1
    return names.pop()


def test_the_better_one_is_chosen_whatever_its_loss():
    assert _chosen(_result("a", 190, loss=0.9), _result("b", 180, loss=0.1), _result("c", 170, loss=0.2)) == "a"


def test_a_tie_goes_to_the_smaller_loss_and_then_to_fewer_numbers():
    assert _chosen(_result("a", 190, loss=0.3), _result("b", 190, loss=0.2), _result("c", 150, loss=0.1)) == "b"
    assert _chosen(_result("a", 190, loss=0.2, numbers=512), _result("b", 190, loss=0.2, numbers=64)) == "b"
    assert _chosen(_result("a", 190, numbers=512), _result("b", 190, numbers=64)) == "b"


def test_one_row_of_a_few_hundred_is_a_near_tie_and_two_points_are_none():
    assert _chosen(_result("a", 970, 1000, loss=0.3), _result("b", 969, 1000, loss=0.2)) == "b"
    assert _chosen(_result("a", 970, 1000, loss=0.3), _result("b", 950, 1000, loss=0.2)) == "a"


def test_equals_in_everything_are_told_apart_by_what_they_are():
    _chosen(_result("a", 190), _result("b", 190), _result("c", 190))


def test_another_score_chooses_where_all_were_chosen_by_it():
    rows = _result("a", 190, score="macro-f1", macro_f1=0.5), _result("b", 180, score="macro-f1", macro_f1=0.8)
    assert _chosen(*rows) == "b"
    assert _chosen(rows[0], _result("c", 185)) == "a"
    losses = _result("a", 190, score="log-loss", loss=0.3), _result("b", 180, score="log-loss", loss=0.2)
    assert _chosen(*losses) == "b"


def test_the_others_stand_by_rank_behind_the_chosen_one():
    rows = [_result("a", 150), _result("b", 190, loss=0.5), _result("c", 190, loss=0.4), _result("d", 170)]
    assert [row.config.head for row in by_rank(rows, lambda result: [result])] == ["c", "b", "d", "a"]


def test_the_resampled_t_test_is_nadeau_and_bengios():
    # Ten rows in five folds; the first system is right everywhere, the second wrong on four rows of three folds.
    labels, folds = np.zeros(10, int), np.arange(10)[None] // 2
    second = np.array([1, 1, 1, 0, 1, 0, 0, 0, 0, 0])[None]
    differences = np.array([1, 0.5, 0.5, 0, 0])
    t = differences.mean() / np.sqrt((1 / 5 + 1 / 4) * differences.var(ddof=1))
    from scipy import stats

    expected = 2 * stats.t.sf(t, 4)
    assert resampled_t(labels, np.zeros((1, 10), int), second, folds) == pytest.approx(expected)
    assert resampled_t(labels, second, second, folds) == 1.0
    assert resampled_t(labels, np.ones((1, 10), int), np.zeros((1, 10), int), folds) == 0.0


def test_the_resampled_t_test_keeps_its_level_where_two_heads_are_equally_good():
    random, labels, rejected = np.random.default_rng(0), np.zeros(100, int), 0
    for _ in range(200):
        folds = np.stack([random.permutation(100) % 5 for _ in range(3)])
        # Errors that stay with the row, as out of folds, whatever the repeat.
        first, second = (np.tile(random.random(100) < 0.1, (3, 1)).astype(int) for _ in range(2))
        rejected += resampled_t(labels, first, second, folds) < 0.05
    assert rejected <= 20
