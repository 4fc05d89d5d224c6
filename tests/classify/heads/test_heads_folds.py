"""The search over folds: what it takes and says is what fitting each candidate on each training part gives."""

import dataclasses

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.metrics import log_loss

from classify.heads import HEADS
from classify.heads.folds import LEAST, FoldSearch, class_scores, search_folds
from classify.heads.legal import FitError
from classify.heads.on_axes import Reduction
from features.rows import limit_rows

CLASSICAL = ("svm", "linear-svm", "logistic", "ridge", "lda", "knn", "centroid")


def accuracy(labels, predicted, probabilities):
    return float(np.mean(labels == predicted))


def folds_of(count, folds, repeats=1):
    return [np.random.default_rng([7, repeat]).permutation(count) % folds for repeat in range(repeats)]


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    return X[:600].astype(np.float32), y[:600]


def wide(rows=60, columns=150):
    """More features than rows, at the scale and offset that a network's have."""
    random = np.random.default_rng(3)
    y = np.arange(rows) % 3
    return (random.normal(size=(rows, columns)) + 0.4 * random.normal(size=(3, columns))[y] + 5).astype(np.float32), y


def hard(case):
    """Features that are hard on numbers, 120 x 20: what each case's name says."""
    random = np.random.default_rng(11)
    y = np.arange(120) % 3
    X = random.normal(size=(120, 20)) + 0.7 * random.normal(size=(3, 20))[y]
    if case == "constant features":
        X[:, 5:] = 3
    elif case == "constant but for one fold":
        X[:, 5:] = 3
        X[np.flatnonzero(folds_of(120, 4)[0] == 2)[0], 5:8] = 7
    elif case == "duplicates":
        X[60:] = X[:60]
    elif case == "scale 1e6":
        X *= 1e6
    elif case == "far from zero":
        X += 3000
    elif case == "scales that differ":
        X *= np.logspace(-6, 6, 20)
    elif case == "one class is rare":
        y = np.where(np.arange(120) < 3, 2, np.arange(120) % 2)
    return X.astype(np.float64 if case == "float64" else np.float32), y


HARD = ("constant features", "constant but for one fold", "duplicates", "scale 1e6", "far from zero")
HARD += ("scales that differ", "one class is rare", "float64")


def plainly(head, X, y, numbers, params, **fitting):
    """What the head's public class says of each fold when it is fitted on all other rows, and its classes' scores."""
    predicted, scores = np.empty_like(y), np.zeros((len(y), len(np.unique(y))))
    for fold in np.unique(numbers):
        train, held_out = np.flatnonzero(numbers != fold), np.flatnonzero(numbers == fold)
        fitted = head.build(seed=0, **fitting, **params).fit(X[train], y[train])
        predicted[held_out] = fitted.predict(X[held_out])
        scores[np.ix_(held_out, fitted.classes_)] = class_scores(fitted, X[held_out])
    return predicted, scores


@pytest.mark.parametrize("data", ["digits", "wide"])
@pytest.mark.parametrize("name", CLASSICAL)
def test_a_search_over_folds_is_what_fitting_each_candidate_on_each_fold_gives(name, data, digits):
    X, y = (digits[0][:300], digits[1][:300]) if data == "digits" else wide()
    folds = folds_of(len(y), 3, 2)
    found = search_folds(HEADS[name], X, y, folds, score=accuracy, seed=0)
    assert [trial.params for trial in found.trials] == sorted(HEADS[name].grid, key=HEADS[name].complexity)
    for trial in found.trials[:: max(1, len(found.trials) // 2)]:
        alone = np.mean([accuracy(y, plainly(HEADS[name], X, y, numbers, trial.params)[0], None) for numbers in folds])
        # A warm start ends within the tolerance of a cold one, not on the same bits.
        assert abs(trial.score - alone) <= 1.5 / len(y)
    assert found.score == max(trial.score for trial in found.trials)
    assert found.predicted.shape == (2, len(y)) and found.predicted.dtype == y.dtype
    assert found.scores.shape == (2, len(y), len(np.unique(y))) and found.scores.dtype == np.float64
    assert found.log_probabilities == hasattr(HEADS[name].estimator_class(), "predict_proba")
    for repeat, numbers in enumerate(folds):
        predicted, scores = plainly(HEADS[name], X, y, numbers, found.params)
        assert np.mean(found.predicted[repeat] == predicted) >= 1 - 2 / len(y)
        # As near as their solvers' tolerances bring two starts together; the SVM's are votes, of which one may change.
        assert np.median(np.abs(found.scores[repeat] - scores)) <= 5e-3 * scores.std()


@pytest.mark.parametrize("case", HARD)
@pytest.mark.parametrize("name", CLASSICAL)
def test_hard_numbers_are_searched_over_folds_as_well_as_alone(name, case):
    X, y = hard(case)
    numbers = folds_of(120, 4)[0]
    found = search_folds(HEADS[name], X, y, [numbers], score=accuracy)
    assert np.isfinite(found.scores).all()
    predicted, scores = plainly(HEADS[name], X, y, numbers, found.params)
    assert np.sum(found.predicted[0] != predicted) <= 1
    assert np.median(np.abs(found.scores[0] - scores)) <= 5e-3 * max(1.0, scores.std())
    for trial in found.trials[:: max(1, len(found.trials) - 1)]:
        alone = plainly(HEADS[name], X, y, numbers, trial.params)[0]
        assert abs(trial.score - accuracy(y, alone, None)) <= 1.5 / 120


@pytest.mark.parametrize(("C", "width"), [(10.0, 1.0), (1e4, 1e-5)])
@pytest.mark.parametrize(("corrections", "small"), [(0, 0), (12, 0), (12, 512)])
def test_an_svm_is_solved_where_no_active_set_is_found_and_where_float32_is_too_short(
    corrections, small, C, width, digits, monkeypatch
):
    monkeypatch.setattr("classify.heads.solvers.pair_folds.CORRECTIONS", corrections)
    monkeypatch.setattr("classify.heads.solvers.pair_folds.SMALL_PAIR", small)
    X, y = digits[0][:200], digits[1][:200]
    numbers = folds_of(200, 4)[0]
    head = dataclasses.replace(HEADS["svm"], grid=({"C": C, "width": width},))
    found = search_folds(head, X, y, [numbers], score=accuracy)
    predicted, scores = plainly(head, X, y, numbers, head.grid[0])
    assert np.sum(found.predicted[0] != predicted) <= 1
    assert np.median(np.abs(found.scores[0] - scores)) <= 1e-3


@pytest.mark.parametrize("reduction", [None, Reduction("pca", 12)], ids=["whole", "reduced"])
@pytest.mark.parametrize("name", CLASSICAL)
def test_a_held_out_row_changes_nothing_of_what_its_fold_says_of_others(name, reduction, digits):
    X, y = digits[0][:200], digits[1][:200]
    numbers = folds_of(len(y), 4)[0]
    row = int(np.flatnonzero(numbers == 2)[3])
    changed, other = X.copy(), y.copy()
    changed[row] = 1e4 * (1 + np.arange(X.shape[1]))
    other[row] = (y[row] + 1) % 10
    head = dataclasses.replace(HEADS[name], grid=HEADS[name].grid[:2])
    options = {"score": lambda *_: 0.0, "reduction": reduction}
    before = search_folds(head, X, y, [numbers], **options)
    after = search_folds(head, changed, other, [numbers], **options)
    same = (numbers == 2) & (np.arange(len(y)) != row)
    assert np.array_equal(before.predicted[0, same], after.predicted[0, same])
    assert np.abs(before.scores[0, same] - after.scores[0, same]).max() <= 2e-3
    if (name, reduction) == ("knn", None):
        return  # by angle such a row is nobody's neighbour
    # Others have learnt from it.
    assert np.abs(before.scores[0, numbers != 2] - after.scores[0, numbers != 2]).max() > 0.01


def test_among_equal_scores_the_more_regularised_is_taken(digits):
    found = search_folds(HEADS["ridge"], *digits, folds_of(600, 3), score=lambda *_: 0.5)
    assert found.params == {"alpha": 1e6} and found.score == 0.5
    # 0.1 + 0.2 and 0.3 are equal but for rounding.
    scores = iter([0.1 + 0.2 - 2e-16, 0.1 + 0.2] + [0.0] * 5)
    found = search_folds(HEADS["linear-svm"], *digits, folds_of(600, 3), score=lambda *_: next(scores))
    assert found.params == {"C": 1e-4}


def test_the_score_sees_probabilities_of_all_rows_where_the_head_has_them(digits):
    X, y = digits
    seen = []

    def minus_log_loss(labels, predicted, probabilities):
        seen.append(probabilities)
        return -log_loss(labels, probabilities)

    found = search_folds(HEADS["logistic"], X, y, folds_of(600, 3), score=minus_log_loss)
    assert all(np.allclose(probabilities.sum(axis=1), 1) for probabilities in seen)
    assert found.score == pytest.approx(-log_loss(y, np.exp(found.scores[0])), abs=1e-9)
    search_folds(HEADS["ridge"], X, y, folds_of(600, 3), score=lambda *said: seen.append(said[2]) or 0.0)
    assert seen[-1] is None


@pytest.mark.parametrize("name", [*CLASSICAL, "linear", "mlp"])
@pytest.mark.parametrize("class_weight", [None, {"a": 2.0, "rare": 3.0}])
def test_a_class_that_a_training_part_lacks_has_no_share_there(name, class_weight, digits):
    X, y = digits[0][:80], np.array(["a", "b", "c"])[digits[1][:80] % 3]
    y = y.astype("<U8")
    numbers = folds_of(80, 4)[0]
    y[np.flatnonzero(numbers == 1)[:2]] = "rare"
    if name == "centroid":
        class_weight = None
    head = dataclasses.replace(HEADS[name], grid=HEADS[name].grid[:1])
    found = search_folds(head, X, y, [numbers], score=accuracy, class_weight=class_weight)
    assert found.predicted.dtype == y.dtype and found.scores.shape == (1, 80, 4)
    assert not np.any(found.predicted[0, numbers == 1] == "rare")
    without = found.scores[0, numbers == 1]
    if found.log_probabilities:
        assert np.all(without[:, 3] == LEAST)
    else:
        assert np.array_equal(without[:, 3], without[:, :3].min(axis=1))


def test_two_classes_have_a_column_each(digits):
    X, y = digits
    found = search_folds(HEADS["linear-svm"], X, y % 2 == 0, folds_of(600, 3), score=accuracy)
    assert found.predicted.dtype == bool and found.scores.shape == (1, 600, 2)
    assert np.array_equal(found.scores[0].argmax(axis=1) == 1, found.predicted[0])
    assert np.array_equal(found.scores[..., 0], -found.scores[..., 1])


def test_a_limited_search_takes_a_subset_of_each_training_part_and_fits_what_it_takes_on_all(digits):
    X, y = digits
    numbers = folds_of(600, 3)[0]
    head = dataclasses.replace(HEADS["logistic"], search_rows=120)
    found = search_folds(head, X, y, [numbers], score=accuracy, seed=5)
    assert found.rows == 120
    predicted, _ = plainly(HEADS["logistic"], X, y, numbers, found.params)
    assert np.mean(found.predicted[0] == predicted) >= 1 - 2 / 600
    rows = np.flatnonzero(numbers != 0)
    rows = rows[limit_rows(y[rows], 120, 5)]
    trial = found.trials[2]
    alone = head.build(**trial.params).fit(X[rows], y[rows])
    one_fold = search_folds(
        dataclasses.replace(head, grid=(trial.params,), search_rows=None),
        np.concatenate([X[rows], X[numbers == 0]]),
        np.concatenate([y[rows], y[numbers == 0]]),
        [np.repeat([1, 0], [120, 200])],
        score=accuracy,
    )
    assert np.array_equal(one_fold.predicted[0, 120:], alone.predict(X[numbers == 0]))


@pytest.mark.parametrize("kind", ["pca", "projection"])
def test_features_are_reduced_by_the_training_part_of_each_fold(kind, digits):
    X, y = digits
    numbers = folds_of(600, 3)[0]
    head = dataclasses.replace(HEADS["ridge"], grid=({"alpha": 1.0},))
    found = search_folds(head, X, y, [numbers], score=accuracy, reduction=Reduction(kind, 9, 4))
    for fold in range(3):
        axes = Reduction(kind, 9, 4).fit(X[numbers != fold])
        alone = head.build().fit(axes.apply(X[numbers != fold]), y[numbers != fold])
        assert np.allclose(found.scores[0, numbers == fold], class_scores(alone, axes.apply(X[numbers == fold])))


def test_candidates_that_do_not_fit_into_memory_together_are_tried_in_turn(digits, monkeypatch):
    folds = folds_of(600, 3)
    together = search_folds(HEADS["lda"], *digits, folds, score=accuracy)
    monkeypatch.setattr("classify.heads.folds.KEPT_NUMBERS", 600 * 10 * 3)
    in_turn = search_folds(HEADS["lda"], *digits, folds, score=accuracy)
    assert dataclasses.replace(in_turn, seconds=0.0, trials=()) == dataclasses.replace(together, seconds=0.0, trials=())
    assert [trial.score for trial in in_turn.trials] == [trial.score for trial in together.trials]
    assert isinstance(in_turn, FoldSearch) and np.array_equal(in_turn.predicted, together.predicted)


def test_a_training_part_of_one_class_is_refused_in_one_line(digits):
    y = np.repeat([0, 1], 300)
    with pytest.raises(FitError, match="needs at least two classes"):
        search_folds(HEADS["ridge"], digits[0], y, [y], score=accuracy)
    with pytest.raises(ValueError, match="at least two folds"):
        search_folds(HEADS["ridge"], digits[0], y, [np.zeros(600, int)], score=accuracy)
