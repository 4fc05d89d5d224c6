"""Every head is a scikit-learn classifier: scikit-learn's own checks, in small."""

import subprocess
import sys

import joblib
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.utils import get_tags
from sklearn.utils.estimator_checks import parametrize_with_checks

from classify.heads import HEADS
from classify.heads.centroid import Centroid
from classify.heads.head2toe import Head2Toe
from classify.heads.knn import KNN
from classify.heads.lda import LDA
from classify.heads.linear import SoftmaxLayer
from classify.heads.linear_svm import LinearSVM
from classify.heads.logistic import Logistic
from classify.heads.mlp import MLP
from classify.heads.ridge import Ridge
from classify.heads.svm import RBFSVM
from features.errors import UserError


@parametrize_with_checks(
    [
        RBFSVM(),
        # Repeated rows and weights are held to each other more closely than the default tolerance solves either.
        LinearSVM(tol=1e-9),
        Logistic(tol=1e-9),
        SoftmaxLayer(learning_rate=0.03, batch=16),
        Ridge(1.0),
        LDA(),
        KNN(metric="euclidean"),
        Centroid(),
        MLP(32, learning_rate=0.03, batch=16),
        Head2Toe(),
    ]
)
def test_scikit_learns_checks(estimator, check):
    if check.func.__name__.endswith("_on_sparse_data") and not get_tags(estimator).input_tags.sparse:
        pytest.skip("scikit-learn 1.6 asks for sparse features of an estimator that says it takes none")
    check(estimator)


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    return train_test_split(X.astype(np.float32), y, test_size=0.3, random_state=0, stratify=y)


FLOORS = {
    "svm": 0.98,
    "linear-svm": 0.93,
    "logistic": 0.95,
    "linear": 0.91,
    "ridge": 0.91,
    "lda": 0.93,
    "knn": 0.96,
    "centroid": 0.87,
    "mlp": 0.97,
}
# Its defaults are for tens of thousands of rows.
FEW_ROWS = {"linear": {"learning_rate": 0.01}}


@pytest.mark.parametrize("name", HEADS)
def test_a_head_learns_digits_and_survives_clone_and_joblib(name, digits, tmp_path):
    X, X_test, y, y_test = digits
    words = np.array(["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"])
    head = clone(HEADS[name].build(seed=3, **FEW_ROWS.get(name, {}))).fit(X, words[y])
    assert (head.predict(X_test) == words[y_test]).mean() > FLOORS[name]
    assert list(head.classes_) == sorted(words)
    assert head.n_features_in_ == 64
    joblib.dump(head, tmp_path / "head.joblib")
    again = joblib.load(tmp_path / "head.joblib")
    assert np.array_equal(again.predict(X_test), head.predict(X_test))
    if hasattr(head, "predict_proba"):
        chances = head.predict_proba(X_test)
        assert chances.shape == (len(X_test), 10)
        assert np.allclose(chances.sum(axis=1), 1)
        assert (head.classes_[chances.argmax(axis=1)] == head.predict(X_test)).all()


def test_only_heads_with_honest_probabilities_offer_them():
    offering = {name for name in HEADS if hasattr(HEADS[name].build(), "predict_proba")}
    assert offering == {"logistic", "linear", "lda", "knn", "mlp"}


@pytest.mark.parametrize("name", HEADS)
def test_the_seed_decides_everything(name, digits):
    X, X_test, y, _ = digits
    first, second = (HEADS[name].build(seed=5).fit(X[:300], y[:300]) for _ in range(2))
    scores = "decision_function" if hasattr(first, "decision_function") else "predict_proba"
    assert np.array_equal(getattr(first, scores)(X_test), getattr(second, scores)(X_test))


@pytest.mark.parametrize("name", HEADS)
def test_a_read_only_map_with_dead_and_repeated_features_is_fine(name, digits, tmp_path):
    X, X_test, y, y_test = digits
    wide = np.hstack([X, X[:, 20:40], np.full((len(X), 3), 7.7, np.float32), np.zeros((len(X), 2), np.float32)])
    np.save(tmp_path / "wide.npy", wide)
    mapped = np.load(tmp_path / "wide.npy", mmap_mode="r")
    # A dead feature that wakes up in the test set must not matter where it was told to be constant.
    tested = np.hstack([X_test, X_test[:, 20:40], np.full((len(X_test), 5), 7.7, np.float32)])
    head = HEADS[name].build(**FEW_ROWS.get(name, {})).fit(mapped, y)
    assert (head.predict(tested) == y_test).mean() > FLOORS[name] - 0.05


@pytest.mark.parametrize("name", HEADS)
def test_a_far_offset_changes_no_standardised_head(name, digits):
    X, X_test, y, y_test = digits
    params = {"metric": "euclidean"} if name == "knn" else FEW_ROWS.get(name, {})
    head = HEADS[name].build(**params).fit(X.astype(float) + 1e6, y)
    assert (head.predict(X_test.astype(float) + 1e6) == y_test).mean() > FLOORS[name] - 0.01


@pytest.mark.parametrize("name", sorted(set(HEADS) - {"centroid"}))
def test_class_weights_move_decisions_towards_the_heavy_class(name):
    random = np.random.default_rng(0)
    X = np.vstack([random.normal(0, 1, (300, 5)), random.normal(0.7, 1, (60, 5))]).astype(np.float32)
    y = np.array(["many"] * 300 + ["few"] * 60)
    few = [
        (HEADS[name].build(class_weight=weights, **({"k": 20} if name == "knn" else {})).fit(X, y).predict(X) == "few")
        .mean()
        for weights in (None, "balanced", {"few": 50.0})
    ]  # fmt: skip
    assert few[0] < few[1] <= few[2] or name == "svm" and few[0] < few[1]


def test_a_head_without_class_weights_says_so():
    with pytest.raises(UserError, match="centroid cannot weight classes"):
        HEADS["centroid"].build(class_weight="balanced")


@pytest.mark.parametrize(
    ("name", "params", "message"),
    [
        ("logistic", {"C": 0.0}, "C=0.0 of Logistic is not legal; give a number above 0"),
        ("linear-svm", {"max_iter": 2.5}, "max_iter=2.5 of LinearSVM is not legal; give a whole number of at least 1"),
        ("ridge", {"alpha": -1}, "alpha=-1 of Ridge is not legal"),
        ("lda", {"shrinkage": 1.5}, "of at least 0 and at most 1"),
        ("knn", {"metric": "taxi"}, "metric='taxi' of KNN is not legal; give 'euclidean' or 'cosine'"),
        ("svm", {"width": float("nan")}, "width=nan of RBFSVM is not legal"),
        ("mlp", {"hidden": True}, "hidden=True of MLP is not legal"),
        ("mlp", {"smoothing": 1.0}, "smoothing=1.0 of MLP is not legal; give a number of at least 0 and at most 0.9"),
        ("mlp", {"epochs": 0}, "epochs=0 of MLP is not legal; give None, or a whole number of at least 1"),
        ("linear", {"epochs": 0}, "epochs=0 of SoftmaxLayer is not legal"),
    ],
)
def test_an_illegal_value_is_named_with_its_bound(name, params, message, digits):
    X, _, y, _ = digits
    with pytest.raises(UserError, match=message.replace("(", r"\(")):
        HEADS[name].build(**params).fit(X, y)


@pytest.mark.parametrize(("rows", "epochs"), [(40, 60), (27_000, 25)])
def test_a_hidden_layer_is_trained_longer_on_few_rows(rows, epochs):
    X = np.random.default_rng(0).normal(size=(rows, 2)).astype(np.float32)
    fitted = MLP(1).fit(X, X[:, 0] > 0)
    assert fitted.n_iter_ == epochs and len(fitted.parameters_[1]) == 1


@pytest.mark.parametrize(("rows", "hidden"), [(99_999, 512), (100_000, 2048)])
def test_a_hidden_layer_is_wider_for_many_rows(rows, hidden):
    X = np.random.default_rng(0).normal(size=(rows, 2)).astype(np.float32)
    assert MLP(epochs=1).fit(X, X[:, 0] > 0).parameters_[0].shape == (hidden, 2)


def test_a_hidden_layer_sees_features_in_one_unit(digits):
    X, X_test, y, _ = digits
    plain, scaled = (MLP(16, epochs=2).fit(X * scale + shift, y) for scale, shift in ((1, 0), (64, 512)))
    assert np.allclose(scaled.predict_proba(X_test * 64 + 512), plain.predict_proba(X_test), atol=1e-4)
    (factor,) = set(plain.scale_.factor) - {0.0}
    assert factor == pytest.approx(1 / np.sqrt(X.var(axis=0)[plain.scale_.factor > 0].mean()))
    assert np.array_equal(plain.scale_.factor == 0, X.std(axis=0) == 0)


@pytest.mark.parametrize(
    ("weights", "message"),
    [("heavy", "'heavy' is not legal"), ({"x": 2.0}, "names the class 'x'"), ({1: -1.0}, "the weight -1.0")],
)
def test_bad_class_weights_are_named(weights, message, digits):
    X, _, y, _ = digits
    with pytest.raises(UserError, match=message):
        HEADS["ridge"].build(class_weight=weights).fit(X, y)


def test_threads_are_limited_inside_the_block_and_in_libraries_loaded_since():
    from threadpoolctl import threadpool_info

    from classify.heads.estimator import threads

    def counts() -> set[int]:
        return {library["num_threads"] for library in threadpool_info()}

    before = counts()
    with threads(1):
        assert counts() == {1}
    assert counts() == before
    script = (
        "import numpy; from classify.heads.estimator import threads\n"
        "from threadpoolctl import threadpool_info\n"
        "with threads(1): known = len(threadpool_info())\n"
        "import torch\n"
        "with threads(1): found = [library['num_threads'] for library in threadpool_info()]\n"
        "assert len(found) > known and set(found) == {1}, (known, found)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["svm", "head2toe", "logistic"])
def test_a_row_gets_the_same_scores_whatever_stands_beside_it(name):
    """Within scikit-learn's own tolerance, at the widths of layers, where float32 products lose ten times as much."""
    random = np.random.default_rng(0)
    X = random.normal(0, 1, (300, 512)).astype(np.float32)
    y = (X[:, :3].argmax(axis=1) + 3 * (X[:, 3] > 0)).astype(int)
    head = (
        Head2Toe(fractions=(0.5,), max_steps=50)
        if name == "head2toe"
        else HEADS[name].build(seed=0, **FEW_ROWS.get(name, {}))
    ).fit(X, y)
    scores = getattr(head, "decision_function" if hasattr(head, "decision_function") else "predict_proba")
    rows = random.normal(0, 1, (150, 512)).astype(np.float32)
    together, order = scores(rows), random.permutation(len(rows))
    for beside in (1, 7, 64):
        apart = np.concatenate([scores(rows[start : start + beside]) for start in range(0, len(rows), beside)])
        np.testing.assert_allclose(apart, together, rtol=1e-7, atol=1e-7)
    np.testing.assert_allclose(scores(rows[order]), together[order], rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_of_rows_as_near_as_each_other_the_first_count_whatever_stands_beside_the_query(metric):
    random = np.random.default_rng(0)
    once = random.normal(0, 1, (300, 64)).astype(np.float32)
    X, y = np.concatenate([once] * 3), random.integers(0, 5, 900)
    queries = once[:60]
    for k, nearest in ((1, [0]), (2, [0, 300]), (3, [0, 300, 600])):
        head = KNN(k, metric=metric).fit(X, y)
        assert np.array_equal(head.neighbours(queries), np.arange(60)[:, None] + nearest)
        alone = np.concatenate([head.neighbours(queries[row : row + 1]) for row in range(len(queries))])
        assert np.array_equal(alone, head.neighbours(queries))
