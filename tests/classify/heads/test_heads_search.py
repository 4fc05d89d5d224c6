"""The registry of heads, and the choice of their parameters on validation rows."""

import dataclasses
import subprocess
import sys

import numpy as np
import pytest
from sklearn.datasets import load_digits

from classify.heads import HEADS, find_head
from classify.heads.search import search
from features.errors import UserError


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    X = X.astype(np.float32)
    return X[:900], y[:900], X[900:1300], y[900:1300]


def test_listing_heads_imports_nothing_heavy():
    code = (
        "import sys; from classify.heads import HEADS; print([h.summary for h in HEADS.values()]); "
        "sys.exit(bool({'numpy', 'sklearn', 'torch', 'scipy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, capture_output=True).returncode == 0


def test_an_unknown_head_gets_the_nearest_names():
    assert find_head("ridge") is HEADS["ridge"]
    with pytest.raises(UserError, match="no head called 'logistics'; did you mean logistic"):
        find_head("logistics")


@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
def test_a_heads_grid_fits_its_class(head):
    assert head.summary and "\n" not in head.summary
    assert head.build().get_params().items() >= head.grid[0].items()
    assert len({tuple(params.items()) for params in head.grid}) == len(head.grid)


def test_an_unknown_parameter_is_named():
    with pytest.raises(UserError, match="head ridge has no parameter 'C'; it has alpha"):
        HEADS["ridge"].build(C=1.0)


@pytest.mark.parametrize("name", ["svm", "linear-svm", "logistic", "ridge", "lda", "knn", "centroid", "linear"])
def test_a_search_is_what_fitting_each_candidate_gives(name, digits):
    head = HEADS[name]
    head = dataclasses.replace(head, grid=head.grid[:6])
    found = search(head, *digits, seed=1)
    X, y, X_validation, y_validation = digits
    assert found.rows == 900
    assert len(found.trials) == len(head.grid)
    for trial in found.trials:
        alone = head.build(seed=1, **trial.params).fit(X, y)
        # A warm start ends within the tolerance of a cold one, not on the same bits.
        assert abs(trial.accuracy - (alone.predict(X_validation) == y_validation).mean()) <= 2 / 400
    assert found.accuracy == max(trial.accuracy for trial in found.trials)
    assert head.complexity(found.params) == min(
        head.complexity(trial.params) for trial in found.trials if trial.accuracy == found.accuracy
    )


def test_a_tie_goes_to_the_more_regularised(digits):
    X, y, X_validation, y_validation = digits
    # Two far clouds: every penalty separates them.
    y, y_validation = y % 2, y_validation % 2
    X, X_validation = X + 1000 * y[:, None], X_validation + 1000 * y_validation[:, None]
    assert search(HEADS["ridge"], X, y, X_validation, y_validation).params == {"alpha": 1e6}
    assert search(HEADS["logistic"], X, y, X_validation, y_validation).params == {"C": 0.0003}
    assert search(HEADS["knn"], X, y, X_validation, y_validation).params["k"] == 50


def test_a_search_on_a_subset_says_so_and_is_stratified(digits):
    X, y, X_validation, y_validation = digits
    seen = []

    class Spy:
        def __init__(self, k=1):
            self.k = k

        def predict_path(self, X, y, queries, candidates):
            seen.append(np.bincount(y))
            return (np.zeros(len(queries), int) for _ in candidates)

    head = dataclasses.replace(HEADS["knn"], search_rows=100)
    object.__setattr__(head, "build", lambda **_: Spy())
    assert search(head, X, y, X_validation, y_validation).rows == 100
    assert seen[0].sum() == 100 and seen[0].min() >= 9 and seen[0].max() <= 11


def test_an_svm_search_takes_the_best_width_and_penalty(digits):
    found = search(dataclasses.replace(HEADS["svm"], search_rows=300), *digits)
    assert found.rows == 300
    assert set(found.params) == {"C", "width"}
    assert found.accuracy > 0.93
