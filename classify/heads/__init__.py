"""What can sit on a cut: every head by name, with the candidates that a search tries.

This module is read by `--help`, so it imports neither numpy nor scikit-learn nor torch: a head names the class that it
builds and imports it when asked to. To add a head, write its file and one entry in `HEADS`.
"""

import contextlib
import dataclasses
import functools
import importlib
import inspect
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from features.errors import UserError, unknown
from features.named_code import names_code
from features.plugins import Plugin, blamed, plugins

if TYPE_CHECKING:
    from classify.heads.protocol import Classifier


def _grid(**values: tuple) -> tuple[dict[str, Any], ...]:
    """Every combination of the values; the first of each is the untuned default."""
    return tuple(dict(zip(values, choice, strict=True)) for choice in itertools.product(*values.values()))


@dataclass(frozen=True)
class Head:
    """A classifier over features (N, D): what it is called, where it lives and what a search tries.

    name: as typed after `--model`. summary: one line for `--help`. estimator: 'module:Class'. grid: candidates, the
    first is the untuned default. complexity: orders candidates from the most to the least regularised; a search
    prefers the smaller on a tie and walks along it. search_rows: a search uses at most so many training rows
    (None: all). holds_out: it holds out some of the rows that it is fitted on by itself, and its `fit` takes `groups`,
    codes (N,), none of which may be cut. version: another one learns otherwise, and its rows are others. plugin: the
    package that brings it, with its version; '' for ours. growth: of its seconds with the rows, as a power, by which a
    search plans its time (from 200 to 7,291 rows it was 0.3 to 0.8 of ridge, lda, logistic and linear-svm, 1.4 of svm).
    """

    name: str
    summary: str
    estimator: str
    grid: tuple[dict[str, Any], ...] = ({},)
    complexity: Callable[[Mapping[str, Any]], Any] = lambda params: 0
    search_rows: int | None = None
    holds_out: bool = False
    version: int = 1
    plugin: str = ""
    growth: float = 1.2

    def told(self, groups: Any) -> dict[str, Any]:
        """What its `fit` is told of the groups (N,) of the rows that it is given, or None, beside these."""
        return {"groups": groups} if self.holds_out and groups is not None else {}

    def estimator_class(self) -> type[Any]:
        """The scikit-learn style class, imported now."""
        module, name = self.estimator.split(":")
        with self.blamed():
            return getattr(importlib.import_module(module), name)

    @property
    def params(self) -> dict[str, Any] | None:
        """What a record says of it beside its name, where that is not all."""
        return {"version": self.version} if self.version > 1 else None

    def blamed(self) -> contextlib.AbstractContextManager:
        """What a plug-in's head raises is a line that names it."""
        return blamed(self.name, self.plugin) if self.plugin else contextlib.nullcontext()

    def build(
        self,
        *,
        seed: int = 0,
        class_weight: str | dict | None = None,
        jobs: int | None = None,
        device: str | None = None,
        **params: Any,
    ) -> "Classifier":
        """An unfitted classifier; parameters that are not given take the untuned default.

        jobs: threads to use (None: all). device: a GPU, for the heads that can use it. Raises UserError for class
        weights where the head has none and for a parameter that it does not know.
        """
        kind = self.estimator_class()
        accepted = set(inspect.signature(kind).parameters)
        if strange := sorted(set(params) - accepted):
            raise UserError(
                f"the head {self.name} has no parameter {strange[0]!r}; it has {', '.join(sorted(accepted))}"
            )
        if class_weight is not None and "class_weight" not in accepted:
            raise UserError(
                f"the head {self.name} cannot weight classes (class weight {class_weight!r} was asked for); "
                "leave the weights out or choose another head"
            )
        shared = {"random_state": seed, "seed": seed, "class_weight": class_weight, "jobs": jobs, "device": device}
        given = {name: value for name, value in shared.items() if name in accepted} | self.grid[0] | params
        with self.blamed():
            return kind(**given)


_OWN = "classify.heads.own"  # where heads that are none of ours are made
# What `--help` says of them.
ANY_HEAD = (
    "python:MODULE:CLASS",
    "like scikit-learn's, as in python:sklearn.svm:SVC?C=10",
)

_STEPS_OF_THREE = (0.01, 0.0003, 0.001, 0.003, 0.03, 0.1, 0.3, 1.0)


class Heads(Mapping[str, Head]):
    """Heads by name: ours, and behind them those of plug-ins, each of which is loaded when it is asked for. A name that
    means code (`classify.heads.own`) is one as well, and is not listed."""

    def __init__(self, heads: Iterable[Head]) -> None:
        self._ours = {head.name: head for head in heads}

    def _plugins(self) -> dict[str, Plugin]:
        return {name: plugin for name, plugin in plugins("heads").items() if name not in self._ours}

    def __getitem__(self, name: str) -> Head:
        if names_code(name):
            return importlib.import_module(_OWN).head_called(name)
        return self._ours[name] if name in self._ours else _of_plugin(self._plugins()[name])

    def __contains__(self, name: object) -> bool:
        return name in self._ours or name in self._plugins() or names_code(name)

    def __iter__(self) -> Iterator[str]:
        return iter((*self._ours, *self._plugins()))

    def __len__(self) -> int:
        return len(self._ours) + len(self._plugins())

    def summaries(self) -> dict[str, str]:
        """A line for each; nothing is loaded for it."""
        ours = {head.name: head.summary for head in self._ours.values()}
        return ours | {name: plugin.summary for name, plugin in self._plugins().items()}


@functools.cache
def _of_plugin(plugin: Plugin) -> Head:
    """The head that an entry point gives: a `Head`, or a scikit-learn style class, which has then nothing to search."""
    brought = plugin.load()
    if isinstance(brought, Head):
        return dataclasses.replace(brought, name=plugin.name, plugin=plugin.origin)
    if not (isinstance(brought, type) and callable(getattr(brought, "fit", None))):
        raise UserError(
            f"the plug-in {plugin.name} of {plugin.origin} is a {type(brought).__name__}, and no classify.heads.Head "
            "or class with fit and predict; tell its authors"
        )
    return Head(plugin.name, plugin.summary, plugin.value, plugin=plugin.origin)


HEADS = Heads(
    (
        Head(
            "svm",
            "support vector machine with an RBF kernel, its width set by the features' total variance",
            "classify.heads.svm:RBFSVM",
            _grid(C=(10.0, 1.0, 100.0), width=(1.0, 0.5, 2.0)),
            lambda params: (params["C"], -params["width"]),
            search_rows=10_000,
            growth=1.5,
        ),
        Head(
            "linear-svm",
            "linear support vector machine, squared hinge, one class against the rest",
            "classify.heads.linear_svm:LinearSVM",
            # A squared hinge bends more than a cross entropy: its best C is smaller, and large ones take long.
            _grid(C=(0.003, 0.0001, 0.0003, 0.001, 0.01, 0.03, 0.1)),
            lambda params: params["C"],
            search_rows=20_000,
            growth=1.0,
        ),
        Head(
            "logistic",
            "multinomial logistic regression with an L2 penalty, solved to its optimum",
            "classify.heads.logistic:Logistic",
            _grid(C=_STEPS_OF_THREE),
            lambda params: params["C"],
            search_rows=20_000,
            growth=1.0,
        ),
        Head(
            "linear",
            "softmax layer trained with minibatches in torch: what replacing `fc` trains",
            "classify.heads.linear:SoftmaxLayer",
            _grid(learning_rate=(1e-3, 3e-4, 3e-3, 1e-2)),
            lambda params: params["learning_rate"],
            search_rows=20_000,
        ),
        Head(
            "ridge",
            "least squares on +-1 targets with an L2 penalty, every penalty from one factorisation",
            "classify.heads.ridge:Ridge",
            tuple({"alpha": alpha} for alpha in (100.0, *(10.0 ** (e / 4) for e in range(-8, 25) if e != 8))),
            lambda params: -params["alpha"],
            growth=1.0,
        ),
        Head(
            "lda",
            "linear discriminant analysis with a shrunken covariance",
            "classify.heads.lda:LDA",
            _grid(shrinkage=(0.01, 1e-5, 1e-4, 1e-3, 0.003, 0.03, 0.1, 0.2, 0.5, 1.0)),
            lambda params: -params["shrinkage"],
            growth=1.0,
        ),
        Head(
            "knn",
            "k nearest neighbours, exact, by Euclidean distance on standardised features or by cosine",
            "classify.heads.knn:KNN",
            _grid(k=(5, 1, 3, 10, 20, 50), metric=("cosine", "euclidean")),
            lambda params: -params["k"],
            search_rows=20_000,
            growth=1.5,
        ),
        Head(
            "centroid",
            "nearest class mean on standardised features",
            "classify.heads.centroid:Centroid",
        ),
        Head(
            "mlp",
            "one hidden layer trained in torch, with smoothed labels",
            "classify.heads.mlp:MLP",
            version=2,
        ),
    )
)


def find_head(name: str) -> Head:
    """The head of that name; UserError with the nearest names if there is none."""
    if name in HEADS:
        return HEADS[name]
    raise unknown(f"there is no head called {name!r}", name, HEADS, f", or name one of your own: {ANY_HEAD[0]}")
