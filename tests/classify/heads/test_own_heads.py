"""Classifiers of somebody else's as heads: what they are given, what they are called, and what is known of them."""

import json

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.datasets import load_digits
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier, StackingClassifier
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.naive_bayes import GaussianNB
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from classify.heads import HEADS, find_head
from classify.heads.described import build, describe
from classify.heads.folds import class_scores, search_folds
from classify.heads.legal import FitError
from classify.heads.own import OwnHead, heads_by_name
from classify.measure.kept_heads import in_skops_format
from classify.measure.scores import accuracy
from features.errors import UserError


@pytest.fixture(scope="module")
def digits():
    """Real digits (N, 64), and labels that are no numbers from 0 on without a gap."""
    pixels, labels = load_digits(return_X_y=True)
    return pixels[:300].astype(np.float32) * 100, labels[:300] * 2 + 5


class Watching(ClassifierMixin, BaseEstimator):
    """Notes what it is given."""

    def __init__(self, random_state=None):
        self.random_state = random_state

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        self.seen_ = X, y
        return self

    def predict(self, X):
        return np.full(len(X), self.classes_[-1])


class Raw(Watching):
    standardise = False


class Words(Watching):
    def predict(self, X):
        return np.full(len(X), "cat")


def test_it_is_fitted_on_standardised_features_and_labels_without_a_gap(digits):
    X, y = digits
    head = OwnHead.of(Watching()).build(seed=3).fit(X, y)
    given, codes = head.head_.seen_
    assert abs(given.mean()) < 1e-5 and np.isin(given.std(axis=0).round(3), (0, 1)).all()
    np.testing.assert_array_equal(np.unique(codes), np.arange(10))
    assert head.head_.random_state == 3
    np.testing.assert_array_equal(head.predict(X[:2]), [23, 23])
    np.testing.assert_array_equal(head.classes_, np.unique(y))


@pytest.mark.parametrize(
    ("estimator", "scaled"),
    [
        (SVC(), True),
        (Raw(), False),
        (make_pipeline(StandardScaler(), SVC()), False),
        (GridSearchCV(make_pipeline(SVC()), {"svc__C": [1, 2]}), False),
        (GridSearchCV(SVC(), {"C": [1, 2]}), True),
    ],
)
def test_features_are_left_as_they_are_where_it_says_so(estimator, scaled):
    assert OwnHead.of(estimator).standardise is scaled


def test_what_was_given_stays_as_it_was_and_each_fit_starts_from_it(digits):
    X, y = digits
    given = SVC(C=2)
    head = OwnHead.of(given)
    given.C = 1e9
    assert head.build().estimator.C == 2
    assert head.build() is not head.build()
    head.build().fit(X, y)
    assert not hasattr(given, "support_") and not hasattr(head.prototype, "support_")


def test_every_part_that_draws_gets_the_seed_unless_it_has_one():
    search = GridSearchCV(RandomForestClassifier(), {"max_depth": [2, 4]}, cv=StratifiedKFold(3, shuffle=True))
    built = OwnHead.of(search).build(seed=7).estimator
    assert (built.estimator.random_state, built.cv.random_state) == (7, 7)
    assert search.cv.random_state is None
    assert OwnHead.of(RandomForestClassifier(random_state=1)).build(seed=7).estimator.random_state == 1


@pytest.mark.parametrize(
    "estimator",
    [
        GaussianNB(),  # probabilities alone
        SVC(decision_function_shape="ovo"),  # values for pairs
        HistGradientBoostingClassifier(max_iter=2),
        LinearDiscriminantAnalysis(),  # both
        StackingClassifier([("a", GaussianNB())], LogisticRegression()),  # cannot predict before it is fitted
    ],
)
def test_it_is_searched_on_folds_and_scored_like_ours(digits, estimator):
    X, y = digits
    folds = np.arange(len(y)) % 3
    found = search_folds(OwnHead.of(estimator), X, y, [folds], score=accuracy)
    assert found.predicted.shape == (1, 300) and np.mean(found.predicted[0] == y) > 0.5
    assert found.scores.shape == (1, 300, 10) and np.isfinite(found.scores).all()
    fitted = OwnHead.of(estimator).build().fit(X, y)
    assert class_scores(fitted, X).shape == (300, 10)
    if hasattr(fitted, "predict_proba"):
        np.testing.assert_allclose(np.exp(class_scores(fitted, X)).sum(axis=1), 1, atol=1e-5)


def test_its_own_search_converging_and_saving(digits):
    X, y = digits
    fitted = OwnHead.of(GridSearchCV(SVC(), {"C": [0.1, 10.0]}, cv=2)).build().fit(X, y)
    assert fitted.converged_ and fitted.head_.best_params_ == {"C": 10.0}
    assert in_skops_format(fitted) is not None
    unfinished = OwnHead.of(MLPClassifier((4,), max_iter=1)).build().fit(X, y)
    assert not unfinished.converged_
    assert in_skops_format(unfinished) is not None
    assert in_skops_format(OwnHead.of(RandomForestClassifier(2)).build().fit(X, y)) is None


def test_names_tell_heads_apart_and_bring_them_back():
    given = [SVC(), SVC(C=3), SVC(C=3), GridSearchCV(SVC(), {"C": [1, 2]}), GridSearchCV(SVC(), {"C": [1, 3]}), SVC]
    names = heads_by_name([*given, "ridge"])
    assert names[:3] == ("python:sklearn.svm:SVC", "python:sklearn.svm:SVC?C=3", "python:sklearn.svm:SVC?C=3")
    assert names[3].startswith("python:sklearn.model_selection:GridSearchCV#") and names[3] != names[4]
    assert names[5:] == ("python:sklearn.svm:SVC", "ridge")
    assert HEADS[names[4]].prototype.param_grid == {"C": [1, 3]}
    assert heads_by_name(RandomForestClassifier()) == ("python:sklearn.ensemble:RandomForestClassifier",)
    typed = find_head("python:sklearn.svm:SVC?C=3&kernel=linear")
    assert typed.prototype.get_params()["kernel"] == "linear"
    assert "scikit-learn" in typed.plugin
    raw = find_head("python:sklearn.svm:SVC?standardise=False")
    assert not raw.standardise and raw.params != HEADS["python:sklearn.svm:SVC"].params


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("python:sklearn.svm:SVR", "tells numbers and no classes"),
        ("python:sklearn.svm:SVC?D=3", "unexpected keyword argument 'D'"),
        ("python:json:dumps?obj=1", "builtins.str cannot be a head"),
        ("pyton:sklearn.svm:SVC", "name one of your own: python:MODULE:CLASS"),
    ],
)
def test_what_is_no_head_is_said_in_a_line(name, said):
    with pytest.raises(UserError, match=said):
        find_head(name)


def test_what_is_no_head_as_an_object_and_what_answers_with_no_labels(digits):
    for strange in (Ridge(), SVC(kernel=lambda a, b: a @ b.T)):
        with pytest.raises(UserError):
            heads_by_name([strange])
    with pytest.raises(UserError, match="cannot weight classes"):
        OwnHead.of(GaussianNB()).build(class_weight="balanced")
    assert OwnHead.of(SVC()).build(class_weight="balanced").estimator.class_weight == "balanced"
    with pytest.raises(FitError, match="not the labels"):
        OwnHead.of(Words()).build().fit(*digits).predict(digits[0])


def test_a_description_is_plain_and_builds_the_same_again():
    given = GridSearchCV(
        make_pipeline(StandardScaler(), SVC()),
        [{"svc__C": np.logspace(-1, 1, 3)}, {"svc__gamma": ("scale", 0.1)}],
        scoring={"accuracy": "accuracy"},
        refit="accuracy",
        cv=StratifiedKFold(3),
    )
    described = json.loads(json.dumps(describe(given)))
    again = build(described)
    assert describe(again) == described == describe(given)
    np.testing.assert_array_equal(again.param_grid[0]["svc__C"], given.param_grid[0]["svc__C"])
    assert again.cv.n_splits == 3 and again.param_grid[1] == {"svc__gamma": ("scale", 0.1)}
    assert describe(float("nan")) == {"float": "nan"} and np.isnan(build({"float": "nan"}))
    with pytest.raises(UserError, match="built again"):
        build({"class": "sklearn.svm:Absent", "params": {}})


def test_a_comparison_takes_them_by_name_with_a_layer_and_as_objects():
    from classify.experiments.models import parse_model

    model = parse_model("python:sklearn.svm:SVC?C=3@layer3")
    assert model.is_head and (model.name, model.layers) == ("python:sklearn.svm:SVC?C=3", ("layer3",))
    assert str(model) == "python:sklearn.svm:SVC?C=3@layer3"
    (name,) = heads_by_name(GaussianNB())
    assert len(parse_model(name).layers) == 2
    with pytest.raises(UserError, match="has no SVX"):
        parse_model("python:sklearn.svm:SVX@layer3")
