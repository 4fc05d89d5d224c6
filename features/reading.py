"""Reading the cache: the features of a layer, alone or joined with others, over the rows that were asked for."""

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np

from features import request as requests
from features import store
from features.blocks import Blocks, side_by_side
from features.commands.speaking import tell_once
from features.datasets import open_dataset
from features.digests import sha256_rows
from features.errors import UserError
from features.notes import remembered_answer
from features.request import Plan, Request, Wanted, selected_rows
from features.rows import validation_split
from features.typed import typed
from features.versions import made_with_others

_COMPUTE = ("layerprobe", "torch", "torchvision")  # Other decoders' numbers differ by one level, if at all.


@dataclass(frozen=True)
class Cached:
    """A complete file, and which of its rows are wanted (None: all of them)."""

    file: store.FeatureFile
    rows: np.ndarray | None = None

    def features(self) -> np.ndarray:
        """(N, D) or (N, C, H, W): the wanted rows, verified; a read-only map of the file where all are wanted."""
        return self.file.whole() if self.rows is None else self.file.features(self.rows)

    def labels(self) -> np.ndarray:
        """(N,) int64."""
        return self.file.labels() if self.rows is None else self.file.labels()[self.rows]

    def index(self) -> np.ndarray:
        """(N,) int64: positions in the data set's split."""
        return self.file.index() if self.rows is None else self.file.index()[self.rows]


def find_cached(wanted: Wanted, request: Request) -> Cached | None:
    """The complete file for a wanted one, or the rows of it in the file of all rows; None where there is neither."""
    if file := store.find(wanted.key):
        return Cached(file)
    if wanted.whole != wanted.key and (file := store.find(wanted.whole)):
        return Cached(file, selected_rows(file.labels(), request, wanted.split))
    return None


def missing(plan: Plan) -> list[Wanted]:
    """The files of a plan that neither stand in the cache nor are part of one that does, each once."""
    files = {wanted.key.digest: wanted for wanted in plan.wanted}
    return [wanted for wanted in files.values() if find_cached(wanted, plan.request) is None]


def used_of_others(plan: Plan) -> str:
    """A line on files of a plan that stand in the cache and that other versions of what computes them made; ''."""
    for wanted in {wanted.key.digest: wanted for wanted in plan.wanted}.values():
        if cached := find_cached(wanted, plan.request):
            versions = [(name, version) for name, version in cached.file.versions.items() if name in _COMPUTE]
            again = f"`python -m features remove {cached.file.path.name}` and the like have them made again"
            if line := made_with_others(versions, what="features", again=again):
                return line
    return ""


def read_layer(plan: Plan, layer: str, split: str, pool: str | None = None) -> tuple[np.ndarray, Cached]:
    """The features of a layer, or of layers joined by `+` side by side, and the file (the first of several); of several
    views (N, views, ...).

    UserError where they are not in the cache, saying what the nearest file differs in.
    """
    parts, views = _parts(plan, layer, split, pool), plan.request.views
    if len(parts) == 1:
        return parts[0].features(), parts[0]
    joined = side_by_side([part.features() for part in parts], views)
    return joined.reshape(len(joined), views, -1) if views > 1 else joined, parts[0]


def read_blocks(plan: Plan, layer: str, split: str, pool: str | None = None) -> tuple[Blocks, Cached]:
    """The same as `read_layer` without reading: the features stay in the store, flattened to (N, D)."""
    parts = _parts(plan, layer, split, pool)
    return Blocks([part.file for part in parts], [part.rows for part in parts], plan.request.views), parts[0]


def _parts(plan: Plan, layer: str, split: str, pool: str | None) -> list[Cached]:
    parts = []
    for wanted in plan.parts(layer, split, pool):
        cached = find_cached(wanted, plan.request)
        if cached is None:
            raise UserError(_miss(wanted, plan.request))
        parts.append(cached)
    return parts


def require_splits(request: Request, *splits: str) -> None:
    """UserError if the data set lacks one of the splits: before anything is extracted in vain."""
    dataset = open_dataset(request.dataset)
    for split in splits:
        dataset.require(split)


def require_training_rows(request: Request) -> None:
    """UserError unless the rows that a request takes can be cut into training and validation rows, or the data set has
    its own to validate on, and there is a test split: before anything is extracted in vain. Asked once for the same
    rows of the same data."""
    require_splits(request, "train", "test")
    dataset = open_dataset(request.dataset)
    if "validation" in dataset.splits:
        return
    together = dataset.together("train")
    groups = None if together is None else together[0]

    def can_be_cut() -> str:
        labels = dataset.load("train").labels
        rows = selected_rows(labels, request, "train")
        validation_split(labels, rows, request.seed, classes=dataset.classes, groups=groups)
        return "they can be"

    rows = f"{request.limit} of the training rows with seed {request.seed} of {dataset.fingerprint()}"
    rows += "" if groups is None else f" in the groups {sha256_rows(groups)}"
    remembered_answer(f"can {rows} be cut for validation", can_be_cut)


def load_features(
    dataset: Any = "mnist",
    layer: str = "avgpool",
    split: str = "train",
    pool: str = "avg",
    *,
    names: bool = False,
    **options: Any,
) -> tuple[np.ndarray, ...]:
    """The cached features and labels of one layer. Nothing is computed: what is missing is named, with the command.

    Parameters
    ----------
    dataset : str or data
        As `open_dataset` takes it.
    layer : str
        A stage or node, or joined ones ('layer2+layer3'), which stand side by side.
    split : {'train', 'validation', 'test'}
        'validation' where the data set has such a part of its own.
    pool : str
        'avg', 'max', 'grid:N' or 'none'.
    names : bool
        A third array besides, (N,), of what each image is called: its path relative to the data set, or its row.
    **options
        The other fields of `features.request.Request`, as they were in extraction: `backbone`, `weights`, `image_size`,
        `limit`, ...

    Returns
    -------
    X : ndarray of float32, (N, D), or (N, C, H, W) with pool='none'
        With views=V there is one more axis behind the first, (N, V, D). float16 where it was stored so. Read-only where
        all rows of a file are wanted.
    y : ndarray of int64, (N,)
        Positions in the data set's `classes`.

    Raises
    ------
    UserError
        Where the features are not in the cache, with the `extract` command that makes them.

    Examples
    --------
    >>> import layerprobe as lp
    >>> _ = lp.probe("digits", "efficientnet_lite0", ["avgpool", "fc"], "ridge", image_size=32, limit=100,
    ...              limit_test=50, quick=True, jobs=1)
    >>> X, y = lp.load_features("digits", "avgpool", "test", backbone="efficientnet_lite0", image_size=32, limit=100,
    ...                         limit_test=50)
    >>> X.shape, X.dtype.name, y.shape
    ((50, 1280), 'float32', (50,))
    """
    request = Request(dataset=dataset, layers=(layer,), pools=(pool,), **options)
    plan = requests.plan(request)
    if split not in plan.splits:
        raise UserError(f"{request.dataset} has no split {split!r}; it has {' and '.join(plan.splits)}")
    if line := used_of_others(plan):
        tell_once(line)
    features, cached = read_layer(plan, layer, split)
    if not names:
        return features, cached.labels()
    data = open_dataset(request.dataset)
    return features, cached.labels(), np.array([data.name_of(split, int(row)) for row in cached.index()])


def _miss(wanted: Wanted, request: Request) -> str:
    extracted = dataclasses.replace(request, test_views=1)
    command = f"python -m extract {typed(extracted, layers=[wanted.layer], pools=[wanted.pool])}"
    message = f"{wanted.layer} of the {wanted.split} split is not in the cache; make it with `{command}`"
    if near := store.nearest(wanted.key):
        file, differences = near
        has = "; ".join(f"{name} {other!r} instead of {value!r}" for name, (value, other) in differences.items())
        message += f" (the nearest file, {file.path.name}, has {has})"
    return message
