"""The heads reach the optima that scikit-learn's estimators define, along paths and in every shape."""

import itertools

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, LinearSVC

from classify.heads import HEADS
from classify.heads.centroid import Centroid
from classify.heads.knn import KNN
from classify.heads.lda import LDA
from classify.heads.linear_svm import LinearSVM
from classify.heads.logistic import Logistic
from classify.heads.ridge import Ridge
from classify.heads.svm import RBFSVM


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    random = np.random.default_rng(0)
    # Mixed with noise so that classes overlap and optima are finite and apart.
    X = X + random.normal(0, 4, X.shape)
    return X[:1200], y[:1200], X[1200:], y[1200:]


def standardised(X, X_test):
    scaler = StandardScaler().fit(X)
    return scaler.transform(X), scaler.transform(X_test)


SHAPES = {
    "many rows": (slice(None), 10),
    "fewer rows than features": (slice(0, 50), 10),
    "two classes": (slice(None), 2),
}


@pytest.fixture(params=SHAPES)
def shaped(request, digits):
    X, y, X_test, y_test = digits
    rows, classes = SHAPES[request.param]
    kept, kept_test = y < classes, y_test < classes
    return X[kept][rows], y[kept][rows], X_test[kept_test], y_test[kept_test]


@pytest.mark.parametrize("C", [0.001, 0.1, 1.0])
@pytest.mark.parametrize("class_weight", [None, "balanced", {1: 5.0}])
def test_logistic_is_scikit_learns_optimum(shaped, C, class_weight):
    X, y, X_test, _ = shaped
    Z, Z_test = standardised(X, X_test)
    theirs = LogisticRegression(C=C, tol=1e-8, max_iter=10_000, class_weight=class_weight).fit(Z, y)
    ours = Logistic(C, tol=1e-6, class_weight=class_weight).fit(X, y)
    assert ours.converged_
    assert np.abs(ours.predict_proba(X_test) - theirs.predict_proba(Z_test)).max() < 2e-3
    assert np.allclose(np.exp(ours.predict_log_proba(X_test)), ours.predict_proba(X_test))


@pytest.mark.parametrize("C", [0.001, 0.1])
def test_linear_svm_is_scikit_learns_optimum(shaped, C):
    X, y, X_test, _ = shaped
    Z, Z_test = standardised(X, X_test)
    # LinearSVC penalises the intercept; a large scaling makes that penalty vanish.
    theirs = LinearSVC(C=C, dual=False, tol=1e-8, max_iter=100_000, intercept_scaling=100.0).fit(Z, y)
    ours = LinearSVM(C, tol=1e-6).fit(X, y)
    assert ours.converged_
    assert np.abs(ours.decision_function(X_test) - theirs.decision_function(Z_test)).max() < 5e-3


@pytest.mark.parametrize("alpha", [0.1, 100.0])
@pytest.mark.parametrize("class_weight", [None, "balanced"])
def test_ridge_is_scikit_learns(shaped, alpha, class_weight):
    X, y, X_test, _ = shaped
    Z, Z_test = standardised(X, X_test)
    theirs = RidgeClassifier(alpha, class_weight=class_weight).fit(Z, y).decision_function(Z_test)
    ours = Ridge(alpha, class_weight=class_weight).fit(X, y).decision_function(X_test)
    assert np.abs(ours - theirs).max() < 1e-4


@pytest.mark.parametrize("shrinkage", [0.01, 0.5])
def test_lda_is_scikit_learns(shaped, shrinkage):
    X, y, X_test, _ = shaped
    Z, Z_test = standardised(X, X_test)
    ours = LDA(shrinkage).fit(X, y)
    means = np.stack([Z[y == label].mean(axis=0) for label in ours.classes_])
    within = Z - means[np.searchsorted(ours.classes_, y)]
    covariance = within.T @ within / len(Z)
    covariance = (1 - shrinkage) * covariance + shrinkage * np.trace(covariance) / 64 * np.eye(64)
    if len(X) > 64:
        reference = LinearDiscriminantAnalysis(solver="lsqr", covariance_estimator=Fixed(covariance)).fit(Z, y)
        assert np.abs(ours.predict_proba(X_test) - reference.predict_proba(Z_test)).max() < 1e-3
    weights = np.linalg.solve(covariance, means.T)
    scores = Z_test @ weights - 0.5 * np.einsum("kd,dk->k", means, weights)
    scores += np.log(np.bincount(np.searchsorted(ours.classes_, y)) / len(y))
    assert (ours.predict(X_test) == ours.classes_[scores.argmax(axis=1)]).mean() > 0.99


class Fixed:
    """A covariance estimator that hands out what it was given, divided among classes as scikit-learn asks for it."""

    def __init__(self, covariance):
        self.covariance = covariance

    def fit(self, X):
        self.covariance_ = self.covariance
        return self


@pytest.mark.parametrize("k", [1, 5, 20])
def test_knn_finds_the_same_neighbours(digits, k):
    X, y, X_test, _ = digits
    X, y = np.tile(X, (8, 1)) + np.random.default_rng(0).normal(0, 0.5, (9600, 64)), np.tile(y, 8)
    Z, Z_test = standardised(X, X_test)
    theirs = KNeighborsClassifier(k, algorithm="brute").fit(Z.astype(np.float32), y)
    ours = KNN(k, metric="euclidean").fit(X, y)
    expected = theirs.kneighbors(Z_test.astype(np.float32), return_distance=False)
    assert (ours.neighbours(X_test) == expected).mean() > 0.999
    assert (ours.predict(X_test) == theirs.predict(Z_test.astype(np.float32))).mean() > 0.995
    cosine = KNeighborsClassifier(k, algorithm="brute", metric="cosine").fit(X, y)
    assert (KNN(k, metric="cosine").fit(X, y).predict(X_test) == cosine.predict(X_test)).mean() > 0.995


def test_more_neighbours_than_rows_is_all_rows(digits):
    X, y, X_test, _ = digits
    head = KNN(500).fit(X[:20], y[:20])
    assert head.neighbours(X_test).shape == (len(X_test), 20)


def test_centroid_is_scikit_learns(digits):
    X, y, X_test, _ = digits
    Z, Z_test = standardised(X, X_test)
    assert np.array_equal(Centroid().fit(X, y).predict(X_test), NearestCentroid().fit(Z, y).predict(Z_test))


@pytest.mark.parametrize("solver", ["own", "sklearn", "sklearnex"])
@pytest.mark.parametrize("classes", [2, 3, 10])
def test_svm_predicts_as_scikit_learns_svc(digits, classes, solver, monkeypatch):
    if solver == "sklearnex":
        pytest.importorskip("sklearnex", reason="needs the extra 'fast'")
    if solver != "own":
        monkeypatch.setattr("classify.heads.svm.solver_name", lambda: solver)
        monkeypatch.setattr("classify.heads.solvers.dual.KERNEL_NUMBERS", 10)
        monkeypatch.setattr("classify.heads.solvers.pairs.SMALL_PAIR", 0)
    X, y, X_test, y_test = digits
    X, y, X_test = X[y < classes], y[y < classes], X_test[y_test < classes]
    for params in ({"C": 1.0}, {"C": 100.0, "class_weight": "balanced"}):
        theirs = SVC(**params, tol=1e-5, decision_function_shape="ovr").fit(X - X.mean(axis=0), y)
        ours = RBFSVM(**params, tol=1e-5).fit(X, y)
        assert ours.solver_ == solver
        assert ours.gamma_ == pytest.approx(theirs._gamma, rel=1e-6)
        assert (ours.predict(X_test) == theirs.predict(X_test - X.mean(axis=0))).mean() > 0.998
        difference = ours.decision_function(X_test) - theirs.decision_function(X_test - X.mean(axis=0))
        # A margin of almost nothing may fall to the other side and move a vote.
        assert np.median(np.abs(difference)) < 1e-3


def rows_of(counts, numbers=24):
    """Clouds that overlap, so many rows of each class, and as many others to predict."""
    random = np.random.default_rng(len(counts))
    means = random.normal(0, 0.7, (len(counts), numbers))
    y = random.permutation(np.repeat(np.arange(len(counts)), counts))
    return *(part.astype(np.float32) for part in (means[y] + random.normal(0, 1, (2, len(y), numbers)))), y


@pytest.mark.parametrize(
    ("counts", "together"),
    [
        ([3] * 60, 3_000),
        ([3] * 40, 3_000),
        ([12] * 30, 3_000),
        ([12] * 30, 50),
        ([1, 2, 300, 5, 40, 1, 300, 80, 17, 9], 3_000),
        ([1, 2, 300, 5, 40, 1, 300, 80, 17, 9], 100),
    ],
)
@pytest.mark.parametrize("weights", [None, "balanced"])
def test_an_svm_of_many_small_classes_is_scikit_learns(counts, together, weights, monkeypatch):
    monkeypatch.setattr("classify.heads.solvers.small_pairs.TOGETHER", together)
    X, X_test, y = rows_of(counts)
    for params in ({"C": 0.5}, {"C": 50.0}):
        theirs = SVC(**params, class_weight=weights, tol=1e-5, decision_function_shape="ovr").fit(X - X.mean(axis=0), y)
        ours = RBFSVM(**params, class_weight=weights, tol=1e-5).fit(X, y)
        # More than a thousand pairs of a few rows are LIBSVM's, where scikit-learn-intelex is installed too.
        assert ours.solver_ == ("own" if len(counts) < 60 else "sklearn") and ours.converged_
        assert (ours.predict(X_test) == theirs.predict(X_test - X.mean(axis=0))).mean() > 0.995
        difference = ours.decision_function(X_test) - theirs.decision_function(X_test - X.mean(axis=0))
        assert np.median(np.abs(difference)) < 1e-3


@pytest.mark.parametrize("counts", [[3] * 220, [2, 3, 4, 3] * 52 + [6], [2] * 230 + [30]])
@pytest.mark.parametrize("weights", [None, "balanced"])
def test_among_hundreds_of_classes_rows_are_decided_as_few_at_a_time_and_as_by_scikit_learn(counts, weights):
    X, X_test, y = rows_of(counts)
    theirs = SVC(C=2.0, class_weight=weights, tol=1e-5, decision_function_shape="ovr").fit(X - X.mean(axis=0), y)
    ours = RBFSVM(C=2.0, class_weight=weights, tol=1e-5).fit(X, y)
    decisions = ours.decision_function(X_test)
    few = np.concatenate([ours.decision_function(X_test[row : row + 100]) for row in range(0, len(X_test), 100)])
    # Votes are the same; confidences, a third of a vote at the most, are summed in another order.
    assert np.array_equal(np.rint(decisions), np.rint(few))
    assert np.abs(decisions - few).max() < 1e-10
    assert (ours.predict(X_test) == theirs.predict(X_test - X.mean(axis=0))).mean() > 0.995
    difference = decisions - theirs.decision_function(X_test - X.mean(axis=0))
    assert np.median(np.abs(difference)) < 1e-3


def test_small_classes_are_solved_to_the_tolerance_in_every_step_of_a_search():
    X, X_test, y = rows_of([4, 9, 30, 2, 15, 6, 11, 25] * 2)
    candidates = [{"C": C, "width": width} for C in (30.0, 0.3, 3.0) for width in (2.0, 0.5)]
    for head, params in zip(RBFSVM(tol=1e-5).fit_path(X, y, candidates), candidates, strict=True):
        alone = RBFSVM(tol=1e-5, **params).fit(X, y)
        assert head.converged_ and alone.converged_
        assert np.median(np.abs(head.decision_function(X_test) - alone.decision_function(X_test))) < 1e-3


def test_small_classes_take_no_more_steps_than_they_may():
    X, _, y = rows_of([12] * 30)
    assert RBFSVM(max_iter=3).fit(X, y).n_iter_ == 3
    assert not RBFSVM(max_iter=3).fit(X, y).converged_


@pytest.mark.parametrize("kind", [Logistic, LinearSVM])
def test_a_path_ends_where_separate_fits_do(digits, kind):
    X, y, X_test, _ = digits
    candidates = [{"C": C} for C in (0.001, 0.01, 0.1)]
    path = list(kind(tol=1e-6).fit_path(X, y, candidates))
    assert [head.C for head in path] == [0.001, 0.01, 0.1]
    for head, params in zip(path, candidates, strict=True):
        alone = kind(tol=1e-6, **params).fit(X, y)
        assert np.abs(head.decision_function(X_test) - alone.decision_function(X_test)).max() < 2e-3
    assert sum(head.n_iter_ for head in path) < sum(kind(tol=1e-6, **c).fit(X, y).n_iter_ for c in candidates) + 5


@pytest.mark.parametrize("kind", [Logistic, LinearSVM])
def test_running_out_of_steps_is_said_without_a_warning(digits, kind, recwarn):
    X, y, _, _ = digits
    head = kind(10.0, max_iter=2).fit(X, y)
    assert head.converged_ is False
    assert head.n_iter_ == 2
    assert kind(10.0).fit(X, y).converged_ is True
    assert not recwarn.list


def test_an_svm_whose_kernel_hardly_varies_is_solved_as_well(digits):
    X, y, X_test, _ = digits
    head = RBFSVM(100.0, width=1e-3).fit(X, y)
    assert head.converged_
    theirs = SVC(C=100.0, gamma=head.gamma_).fit(X - X.mean(axis=0), y)
    assert (head.predict(X_test) == theirs.predict(X_test - X.mean(axis=0))).mean() > 0.998


def test_svm_says_that_it_ran_out_of_steps(digits, recwarn):
    X, y, _, _ = digits
    assert RBFSVM(max_iter=1).fit(X, y).converged_ is False
    assert RBFSVM().fit(X, y).converged_ is True
    assert not recwarn.list


THEIRS = {
    "svm": lambda: make_pipeline(StandardScaler(with_std=False), SVC(C=10.0)),
    "logistic": lambda: make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=1000)),
    "linear-svm": lambda: make_pipeline(StandardScaler(), LinearSVC(C=0.003, intercept_scaling=100.0)),
    "ridge": lambda: make_pipeline(StandardScaler(), RidgeClassifier(100.0)),
    "knn": lambda: KNeighborsClassifier(5, metric="cosine", algorithm="brute"),
}


@pytest.mark.parametrize("name", THEIRS)
def test_accuracy_is_scikit_learns_to_a_twentieth_of_a_point(name):
    random = np.random.default_rng(0)
    means = random.normal(0, 1, (6, 48))
    y = random.integers(0, 6, 12_000)
    X = (means[y] + random.normal(0, 2, (len(y), 48))).astype(np.float32)
    X *= np.linspace(0.5, 2, 48, dtype=np.float32)
    X, y, X_test, y_test = X[:2000], y[:2000], X[2000:], y[2000:]
    ours = HEADS[name].build().fit(X, y).predict(X_test)
    theirs = THEIRS[name]().fit(X, y).predict(X_test)
    # Hard enough that being right is not all that there is.
    assert 0.6 < (theirs == y_test).mean() < 0.97
    assert abs((ours == y_test).mean() - (theirs == y_test).mean()) <= 0.0005


def test_an_svm_search_ends_where_separate_fits_do(digits):
    X, y, X_test, _ = digits
    X, y = X[y < 4], y[y < 4]
    candidates = [{"C": C, "width": width} for C in (0.3, 10.0) for width in (2.0, 0.5)]
    for head, params in zip(RBFSVM(tol=1e-5).fit_path(X, y, candidates), candidates, strict=True):
        alone = RBFSVM(tol=1e-5, **params).fit(X, y)
        assert head.get_params()["C"] == params["C"] and head.gamma_ == alone.gamma_
        assert np.median(np.abs(head.decision_function(X_test) - alone.decision_function(X_test))) < 1e-3


@pytest.mark.parametrize("classes", [2, 5])
def test_no_row_of_a_fitted_svm_violates_the_conditions_of_the_optimum(digits, classes):
    X, y, _, _ = digits
    X, y = X[y < classes], y[y < classes]
    head = RBFSVM(3.0, tol=1e-4).fit(X, y)
    bounds = np.concatenate([[0], np.cumsum(head.n_support_)])
    Z = (X - head.mean_).astype(np.float32)
    distances = ((Z[:, None, :] - head.vectors_[None]) ** 2).sum(axis=2, dtype=float)
    kernel = np.exp(-head.gamma_ * distances)
    for pair, (i, j) in enumerate(itertools.combinations(range(classes), 2)):
        beta = np.zeros(len(head.vectors_))
        beta[bounds[i] : bounds[i + 1]] = head.coefficients_[bounds[i] : bounds[i + 1], j - 1]
        beta[bounds[j] : bounds[j + 1]] = head.coefficients_[bounds[j] : bounds[j + 1], i]
        assert abs(beta.sum()) < 1e-4 and np.abs(beta).max() <= 3.0
        rows = (y == i) | (y == j)
        # Each row's coefficient is that of the support vector that it is, or none.
        nearest = distances[rows].argmin(axis=1)
        alpha = np.where(distances[rows].min(axis=1) == 0, np.abs(beta[nearest]), 0.0)
        margin = np.where(y[rows] == i, 1, -1) * (kernel[rows] @ beta + head.intercept_[pair])
        assert (margin[alpha < 3.0 - 1e-6] > 1 - 1e-3).all()
        assert (margin[alpha > 0] < 1 + 1e-3).all()
