"""Any classifier that fits and predicts as scikit-learn's do, as a head: by name, or an object from Python.

`python:sklearn.ensemble:HistGradientBoostingClassifier?max_iter=50` is such a name (`features.named_code`); in Python
an estimator itself is given. It is cloned for every fit, gets the row's seed where it takes a `random_state` and has
none, and is fitted on standardised features; one that scales them itself, a `Pipeline` or a search over one, gets them
as they are, and so does one that says `standardise = False` as an attribute of its class, or `?standardise=False` in
its name. A search (`GridSearchCV`) brings its candidates and folds along, and sees training rows alone.
"""

import copy
import inspect
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, clone, is_regressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.metaestimators import available_if

from classify.heads import Head
from classify.heads.described import build, describe, modules_in, name_of, own_params
from classify.heads.estimator import row_blocks
from classify.heads.legal import FitError
from classify.heads.scaling import Standardiser
from features.blocks import Blocks, in_memory, memory_told
from features.commands.speaking import tell_once
from features.digests import sha256_json
from features.errors import UserError
from features.named_code import PREFIX, NamedCode, origins_of, require_trust, running

_SEED = "random_state"
_SHORT = 60  # characters of parameters that stand in a name


def _has(method: str) -> Any:
    return available_if(lambda own: hasattr(getattr(own, "head_", own.estimator), method))


class Own(ClassifierMixin, BaseEstimator):
    """A classifier of somebody else's between our features and our labels.

    estimator: what is cloned and fitted. standardise: features to mean 0 and deviation 1 of the training rows first.
    Fitted it has `classes_`, `n_features_in_`, the fitted estimator `head_`, which knows labels as 0 .. K-1, and
    `converged_`. FitError for what it cannot be fitted on, and for predictions that are no labels.
    """

    kept_in_files: ClassVar[bool] = True
    classes_: np.ndarray
    n_features_in_: int
    head_: Any

    def __init__(self, estimator: Any, standardise: bool = True) -> None:
        self.estimator = estimator
        self.standardise = standardise

    def fit(self, X: Any, y: Any) -> Self:
        """Fit on X (N, D), an array or `Blocks` that fit into memory, and labels y (N,)."""
        X, name = in_memory(X), type(self.estimator).__name__
        if isinstance(X, Blocks):
            raise FitError(
                f"{name} needs all of its features in memory: {memory_told(X)}; take a head that learns in passes "
                "(logistic, ridge), fewer rows (--limit) or fewer numbers (--pool, --pca)"
            )
        X = np.asarray(X)
        self.classes_, codes = np.unique(np.asarray(y), return_inverse=True)
        if len(self.classes_) < 2:
            raise FitError(f"{name} needs at least two classes to tell apart, and all {len(codes)} rows are of one")
        self.n_features_in_ = X.shape[1]
        self.scale_ = Standardiser.fit(X) if self.standardise else None
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            self.head_ = clone(self.estimator).fit(self._given(X), codes)
        self.converged_ = not any(issubclass(warning.category, ConvergenceWarning) for warning in said)
        for warning in said:
            if not issubclass(warning.category, ConvergenceWarning):
                tell_once(f"{name}: {' '.join(str(warning.message).split())[:300]}")
        return self

    def predict(self, X: Any) -> np.ndarray:
        """The label of each row (N,)."""
        codes = np.concatenate([np.asarray(self.head_.predict(part)) for part in self._parts(X)])
        codes = codes[:, 0] if codes.ndim == 2 and codes.shape[1] == 1 else codes
        if codes.ndim != 1 or not np.isin(codes, np.arange(len(self.classes_))).all():
            raise FitError(
                f"{type(self.head_).__name__} predicts {str(codes.ravel()[:3])[1:-1]} and the like, and not the labels "
                "that it was fitted on; give a classifier"
            )
        return self.classes_[codes.astype(np.intp)]

    @_has("predict_proba")
    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities (N, K), in the order of `classes_`."""
        return np.concatenate([self.head_.predict_proba(part) for part in self._parts(X)])

    @_has("decision_function")
    def decision_function(self, X: Any) -> np.ndarray:
        """What it says of the classes, or of pairs of them."""
        return np.concatenate([self.head_.decision_function(part) for part in self._parts(X)])

    def _parts(self, X: Any) -> Iterator[np.ndarray]:
        if not isinstance(X, Blocks):
            yield self._given(np.asarray(X))
            return
        for rows in row_blocks(len(X)):
            yield self._given(np.asarray(X[rows]))

    def _given(self, X: np.ndarray) -> np.ndarray:
        return X if self.scale_ is None else self.scale_.apply(X)


@dataclass(frozen=True)
class OwnHead(Head):
    """A head around an estimator. described: what it is, as plain values; they are its parameters in a record."""

    prototype: Any = field(default=None, compare=False)
    standardise: bool = True
    described: Any = field(default=None, compare=False)

    @classmethod
    def of(cls, estimator: Any, name: str = "", standardise: bool | None = None) -> "OwnHead":
        """The head around an estimator; name: as it was typed, by default made of its class and parameters. UserError
        for what is no classifier, or cannot be known again."""
        kind = type(estimator)
        # Some can predict, and are seen to, when they are fitted.
        if not all(hasattr(estimator, m) or hasattr(kind, m) for m in ("fit", "predict", "get_params")):
            raise UserError(
                f"a {kind.__module__}.{kind.__qualname__} cannot be a head; give what fits and predicts as "
                "scikit-learn's classifiers do, with get_params (sklearn.base.BaseEstimator has it)"
            )
        if is_regressor(estimator):
            raise UserError(f"{kind.__qualname__} tells numbers and no classes; give a classifier")
        with running(kind.__qualname__):
            # A copy: what is done to the object afterwards is nothing to the rows.
            prototype = clone(estimator)
        described = describe(prototype)
        if standardise is None:
            standardise = getattr(estimator, "standardise", True) and not _is_pipeline(estimator)
        origins = ", ".join(origins_of(sorted(modules_in(described))))
        name = name or _name(prototype, described, standardise)
        head = cls(
            name, "a classifier from Python", f"{__name__}:Own", plugin=origins,
            prototype=prototype, standardise=bool(standardise), described=described,
        )  # fmt: skip
        _made[name] = head
        return head

    @property
    def params(self) -> dict[str, Any]:
        """What a record says of it."""
        return {"standardise": self.standardise, "estimator": self.described}

    def blamed(self) -> AbstractContextManager:
        """What its code raises is a line that names it."""
        return running(self.name)

    def build(
        self,
        *,
        seed: int = 0,
        class_weight: str | dict | None = None,
        jobs: int | None = None,
        device: str | None = None,
        **params: Any,
    ) -> Any:
        """An unfitted classifier with this seed where it takes one; UserError where it cannot weigh classes."""
        with self.blamed():
            estimator = _seeded(clone(self.prototype), seed)
            own = own_params(estimator)
            if class_weight is not None:
                if "class_weight" not in own:
                    raise UserError(
                        f"the head {self.name} cannot weight classes (class weight {class_weight!r} was asked for); "
                        "leave the weights out or choose another head"
                    )
                estimator.set_params(class_weight=class_weight)
            if jobs is not None and own.get("n_jobs", jobs) is None:
                estimator.set_params(n_jobs=jobs)
            return Own(estimator, self.standardise)


# Every head of somebody else's that was made in this process, by its name.
_made: dict[str, OwnHead] = {}


def head_called(name: str) -> OwnHead:
    """The head that a name means, `python:MODULE:CALLABLE?NAME=VALUE`, or that an estimator given here was called."""
    if name in _made:
        return _made[name]
    code = NamedCode.parse(name)
    options = dict(code.options)
    standardise = options.pop("standardise", None)
    estimator = code.load()
    if isinstance(estimator, type) or not hasattr(estimator, "fit"):
        estimator = replace(code, options=options).call()
    return OwnHead.of(estimator, name, standardise)


def head_recorded(name: str, params: Any) -> OwnHead:
    """The head that a record describes; UserError where its code did not run here yet and is not trusted."""
    if name in _made:
        return _made[name]
    require_trust(name, "the record")
    if not isinstance(params, dict) or set(params) != {"standardise", "estimator"}:
        raise UserError(f"the record does not say what the head {name} is; make the row anew with its own command")
    return OwnHead.of(build(params["estimator"]), name, bool(params["standardise"]))


def heads_by_name(heads: Any) -> tuple[Any, ...]:
    """One head or several, with estimators, and classes of them, as the names by which `HEADS` has them from now on;
    names, and whatever else there is, as they are."""
    items = (heads,) if isinstance(heads, str) or hasattr(heads, "get_params") else tuple(heads)
    made = (item() if isinstance(item, type) else item for item in items)
    return tuple(OwnHead.of(item).name if hasattr(item, "fit") else item for item in made)


def _name(estimator: Any, described: Any, standardise: bool) -> str:
    """A name to type where the parameters that are not the usual ones are short, else with a digest of them."""
    plain = f"{PREFIX}{name_of(type(estimator))}"
    try:
        usual = own_params(type(estimator)())
    except TypeError:
        usual = {}  # some of them must be given
    params = own_params(estimator)
    changed = {
        name: value for name, value in params.items() if name not in usual or describe(value) != describe(usual[name])
    }
    changed |= {} if standardise == (not _is_pipeline(estimator)) else {"standardise": standardise}
    text = "&".join(f"{name}={value!r}" for name, value in changed.items())
    is_plain = all(value is None or isinstance(value, bool | int | float) for value in changed.values())
    if not changed:
        return plain
    return f"{plain}?{text}" if is_plain and len(text) < _SHORT else f"{plain}#{sha256_json(described)[:8]}"


def _is_pipeline(estimator: Any) -> bool:
    """Whether it has steps, or searches over what has."""
    return hasattr(estimator, "steps") or (
        hasattr(estimator, "estimator") and _is_pipeline(estimator.estimator)
    )  # fmt: skip


def _seeded(estimator: Any, seed: int) -> Any:
    """The estimator with this seed wherever it, or what it is made of, would draw without one."""
    params = estimator.get_params(deep=True)
    unseeded = {name: seed for name, value in params.items() if name.split("__")[-1] == _SEED and value is None}
    if _SEED not in params and _SEED in inspect.signature(type(estimator).__init__).parameters:
        unseeded[_SEED] = seed  # some say nothing of parameters that were not given
    estimator.set_params(**unseeded)
    for name, value in params.items():
        # A way to split that shuffles.
        if not hasattr(value, "get_params") and getattr(value, _SEED, seed) is None and getattr(value, "shuffle", True):
            value = copy.deepcopy(value)
            setattr(value, _SEED, seed)
            estimator.set_params(**{name: value})
    return estimator
