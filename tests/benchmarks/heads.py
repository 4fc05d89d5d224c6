"""Heads against scikit-learn's own estimators: cached features, the same rows, fit and predict together.

Features must be in the cache (`python -m extract`). A head is fitted with its untuned default and predicts the test
rows; `ridge` makes its whole search over all penalties as well, as scikit-learn's RidgeClassifierCV does. Accuracies,
the share of equal predictions and, for logistic, the objective reached stand below each table.

`--folds K` asks something else of our own heads alone: how many times as long as a search on a hold-out a search over K
folds takes, the fit on all rows that follows either one included; `--repeats R` draws the folds R times.

`--cells` takes clouds that overlap in the place of features, from two classes to a thousand and from three rows of each
to thousands.
"""

import argparse
import importlib
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from tests.benchmarks.contest import Contender, Outcome, compete, timed

_CELLS = (
    "2x50x512", "2x1000x512", "2x6000x256", "10x20x512", "10x100x256", "10x600x2048", "10x2000x512", "31x20x256",
    "31x100x512", "120x3x256", "120x10x256", "120x60x512", "200x15x256", "1000x3x64", "1000x20x64",
)  # fmt: skip
_HEADS = ("svm", "linear-svm", "logistic", "ridge", "knn")
_LIBRARIES = ("sklearn", "sklearnex")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Which features, which heads, and against whom."""
    add = parser.add_argument
    add("--heads", nargs="+", default=list(_HEADS), choices=(*_HEADS, "linear", "lda", "centroid", "mlp"))
    add("--against", nargs="+", default=list(_LIBRARIES), choices=_LIBRARIES, help="sklearnex: scikit-learn-intelex")
    add("--dataset", default="mnist")
    add("--weights", default="default")
    add("--layer", nargs="+", default=["avgpool"])
    add("--image-size", type=int)
    add("--rows", type=int, help="of the training split (default: all)")
    add(
        "--cells",
        nargs="*",
        metavar="CxRxD",
        help="classes, rows of each, numbers: made-up features instead of a data set's (with no value: a grid of them)",
    )
    add("--folds", type=int, help="a search over so many folds beside one on a hold-out")
    add("--repeats", type=int, default=1, help="of the folds")
    add("--clock", default="wall", choices=("wall", "cpu"), help="cpu: seconds of all threads, on a busy machine")


def measure(options: argparse.Namespace) -> Iterator[Outcome]:
    """A contest for each head."""
    if options.cells is not None:
        for cell in options.cells or _CELLS:
            data = _clouds(*map(int, cell.split("x")))
            for name in options.heads:
                yield _contest(name, data, options)
        return
    from features.reading import load_features

    asked = {"weights": options.weights, "image_size": options.image_size, "limit": options.rows}
    medians: list[list[float]] = []
    for layer in options.layer:
        # Folds leave the test split closed.
        names = ("train", "test") if options.folds is None else ("train", "train")
        splits = [load_features(options.dataset, layer, split, **asked) for split in names]
        origin = f"{options.dataset} {layer} at {options.image_size or 'the usual'} pixels"
        data = _Data(origin, *(np.ascontiguousarray(array) for split in splits for array in split))
        for name in options.heads:
            if options.folds is None:
                yield _contest(name, data, options)
                continue
            outcome = _over_folds(name, data, options)
            medians.append([statistics.median(seconds) for seconds in outcome.seconds.values()])
            holdout, folds = np.sum(medians, axis=0)
            yield outcome.saying(f"so far: hold-out {holdout:.2f} s, folds {folds:.2f} s, {folds / holdout:.2f} times")


def _over_folds(name: str, data: "_Data", options: argparse.Namespace) -> Outcome:
    """A hold-out of a tenth against folds, each with the fit on all rows of what it takes."""
    from classify.heads import find_head
    from classify.heads.folds import search_folds
    from classify.heads.search import search
    from features.rows import train_and_validation

    head, X, y = find_head(name), data.X, data.y
    train, validation = train_and_validation(y, 0, True)
    folds = [
        np.random.default_rng([0, repeat]).permutation(len(y)) % options.folds for repeat in range(options.repeats)
    ]

    def on_holdout() -> None:
        chosen = search(head, X[train], y[train], X[validation], y[validation])
        head.build(**chosen.params).fit(X, y)

    def on_folds() -> None:
        chosen = search_folds(head, X, y, folds, score=lambda labels, predicted, _: float(np.mean(labels == predicted)))
        head.build(**chosen.params).fit(X, y)

    return compete(
        f"{name}, {len(X):,} x {X.shape[1]:,} of {data.origin}, {options.clock} seconds",
        [
            Contender("hold-out", timed(on_holdout, options.clock)),
            Contender(f"{options.repeats} x {options.folds} folds", timed(on_folds, options.clock)),
        ],
        amount=len(X),
        unit="rows",
        rounds=options.rounds,
    )


@dataclass(frozen=True)
class _Data:
    origin: str
    X: np.ndarray
    y: np.ndarray
    X_test: np.ndarray
    y_test: np.ndarray


def _clouds(classes: int, rows: int, numbers: int) -> _Data:
    """A cloud of rows around each of as many centres; as many others to predict."""
    random = np.random.default_rng(0)
    centres = 3 * random.normal(size=(classes, numbers)) / np.sqrt(numbers)
    y = np.repeat(np.arange(classes), rows)
    X, X_test = (centres[y] + random.normal(size=(2, len(y), numbers))).astype(np.float32)
    return _Data(f"{classes:,} clouds of {rows:,}", X, y, X_test, y)


class _Turns:
    """One contender's turns: fits, predicts, and keeps what it predicted last."""

    def __init__(self, build: Callable[[], Any], data: _Data, clock: str) -> None:
        self._build, self._data = build, data
        self._clock = time.perf_counter if clock == "wall" else time.process_time
        self.fitted: Any = None
        self.predicted: np.ndarray | None = None

    def __call__(self) -> float:
        started = self._clock()
        self.fitted = self._build().fit(self._data.X, self._data.y)
        self.predicted = self.fitted.predict(self._data.X_test)
        return self._clock() - started

    @property
    def accuracy(self) -> float:
        return float(np.mean(self.predicted == self._data.y_test))


def _contest(name: str, data: _Data, options: argparse.Namespace) -> Outcome:
    turns = {"layerprobe": _Turns(lambda: _Ours(name), data, options.clock)}
    for library in options.against:
        if (build := _theirs(name, library, data)) is not None:
            turns[library] = _Turns(build, data, options.clock)
    outcome = compete(
        f"{name}, {data.X.shape[0]:,} x {data.X.shape[1]:,} to {len(data.X_test):,} of {data.origin}, "
        f"{options.clock} seconds",
        [Contender(title, turn) for title, turn in turns.items()],
        amount=len(data.X),
        unit="rows",
        rounds=options.rounds,
    )
    ours = turns["layerprobe"]
    told = []
    for title, turn in turns.items():
        same = f", {np.mean(turn.predicted == ours.predicted):.3%} as ours" if turn is not ours else ""
        reached = f", objective {_objective(turn.fitted, data):.4f}" if name == "logistic" else ""
        told.append(f"{title}: accuracy {turn.accuracy:.2%}{same}{reached}")
    return outcome.saying("\n".join(told))


class _Ours:
    """Our head with its untuned default; ridge is searched on a tenth of the rows and fitted again on all."""

    def __init__(self, name: str) -> None:
        from classify.heads import find_head

        self._head = find_head(name)

    def fit(self, X: np.ndarray, y: np.ndarray) -> Any:
        from classify.heads.search import search
        from features.rows import train_and_validation

        if self._head.name != "ridge":
            return self._head.build().fit(X, y)
        train, validation = train_and_validation(y, 0, True)
        found = search(self._head, X[train], y[train], X[validation], y[validation])
        return self._head.build(**found.params).fit(X, y)


def _theirs(name: str, library: str, data: _Data) -> Callable[[], Any] | None:
    """How to build the estimator that does the same in another library; None where it has none of its own."""
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from classify.heads import find_head

    head = find_head(name)
    untuned = head.grid[0]

    def kind(module: str, estimator: str) -> type:
        return getattr(importlib.import_module(f"{library}.{module}"), estimator)

    def centred(estimator: Any) -> Any:
        return make_pipeline(StandardScaler(with_std=False), estimator)

    def standardised(estimator: Any) -> Any:
        return make_pipeline(StandardScaler(), estimator)

    if name == "svm":
        return lambda: centred(kind("svm", "SVC")(C=untuned["C"], cache_size=2000))
    if name == "logistic":
        return lambda: standardised(kind("linear_model", "LogisticRegression")(C=untuned["C"], max_iter=1000))
    if name == "knn":
        # scikit-learn-intelex has no cosine.
        of_ours = {"n_neighbors": untuned["k"], "metric": untuned["metric"], "algorithm": "brute"}
        return (lambda: kind("neighbors", "KNeighborsClassifier")(**of_ours)) if library == "sklearn" else None
    if library != "sklearn":
        return None
    if name == "lda":
        return lambda: kind("discriminant_analysis", "LinearDiscriminantAnalysis")()
    if name == "centroid":
        return lambda: standardised(kind("neighbors", "NearestCentroid")())
    if name == "linear-svm":
        return lambda: standardised(kind("svm", "LinearSVC")(C=untuned["C"], max_iter=10_000))
    if name != "ridge":
        return None
    penalties = sorted(candidate["alpha"] for candidate in head.grid)
    return lambda: standardised(kind("linear_model", "RidgeClassifierCV")(alphas=penalties))


def _objective(fitted: Any, data: _Data) -> float:
    """C * sum of cross entropies + |coefficients|^2 / 2 over standardised features, from a fitted head or pipeline."""
    deviation = data.X.std(axis=0, dtype=np.float64)
    if hasattr(fitted, "steps"):
        penalty, coefficients = fitted[-1].C, fitted[-1].coef_.astype(np.float64)
    else:
        penalty, coefficients = fitted.C, fitted.coef_ * deviation
    losses = -fitted.predict_log_proba(data.X)[np.arange(len(data.y)), np.searchsorted(fitted.classes_, data.y)]
    return penalty * float(losses.sum(dtype=np.float64)) + 0.5 * float(np.sum(coefficients**2))
