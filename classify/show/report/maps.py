"""Two-dimensional maps of cached test features, layer by layer: PCA, t-SNE, and UMAP where it is installed.

This reads more than results: files of the cache, found by the keys in the records. Nothing is extracted here; a layer
whose file has gone is named, with the command that makes it.
"""

import dataclasses
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from classify.measure.outcome import Predictions
from classify.measure.wording import one_line, percent
from classify.show.layers import depth_order
from classify.show.report.folder import Section
from features import store
from features.errors import UserError
from features.key import CacheKey

AXES = 50  # principal axes that t-SNE and UMAP start from
WIDEST = 50_000  # numbers of one image; unpooled maps of large images would take gigabytes
FEWEST = 10  # images, below which a map says nothing
GRID = 1000  # coordinates are whole numbers from 0 to this


@dataclass(frozen=True)
class LayerMap:
    """Maps of one layer: method -> whole numbers (N, 2) from 0 to 1000; note: what PCA's two axes hold."""

    layer: str
    maps: dict[str, list[list[int]]]
    note: str


@dataclass(frozen=True)
class MapGroup:
    """The layers of one trunk (backbone, weights, image size), mapped on the same images."""

    name: str
    layers: tuple[LayerMap, ...]


def sample_rows(predictions: Predictions, size: int, seed: int) -> np.ndarray:
    """Places in the predictions of `size` test rows: as equally many of each class as there are, drawn with `seed`."""
    random = np.random.default_rng(seed)
    order = random.permutation(len(predictions.rows))
    labels = predictions.labels[order]
    # A row's rank within its class: taking the lowest ranks first takes the classes in turn.
    ranks = np.empty(len(labels), dtype=np.int64)
    for label in np.unique(labels):
        mine = np.flatnonzero(labels == label)
        ranks[mine] = np.arange(len(mine))
    return np.sort(order[np.argsort(ranks, kind="stable")[:size]])


def map_layers(section: Section, rows: np.ndarray, seed: int) -> tuple[tuple[MapGroup, ...], tuple[str, ...]]:
    """Maps of every layer that the section's records read, on these rows of the test split, and what was left out."""
    if len(rows) < FEWEST:
        return (), (f"no maps of the features: {len(rows)} test images are too few",)
    from threadpoolctl import threadpool_limits

    groups: dict[str, list[LayerMap]] = {}
    missing: dict[tuple[str, str], list[str]] = {}
    notes = []
    cached = store.list_files()
    for name, layer, key, command in _keys(section):
        try:
            features = _read(key, rows, cached)
        except UserError as error:
            notes.append(f"no map of {layer}: {one_line(error)}")
            continue
        if features is None:
            missing.setdefault((name, command), []).append(layer)
        elif features.shape[1] > WIDEST:
            notes.append(f"no map of {layer} ({name}): {features.shape[1]:,} numbers an image are too many")
        else:
            # Of so few images several threads mostly wait for each other, on a busy machine for minutes.
            with threadpool_limits(1):
                groups.setdefault(name, []).append(_map(layer, features, seed))
    for (name, command), layers in missing.items():
        again = f"; make them with `{one_line(command)}`" if command else ""
        notes.append(f"no map of {', '.join(layers)} ({name}): the test features are not in the cache{again}")
    return tuple(MapGroup(name, tuple(layers)) for name, layers in groups.items()), tuple(notes)


def _keys(section: Section) -> list[tuple[str, str, CacheKey, str]]:
    """(trunk, layer, key, command) of the test features that records read, each once; pooled ones before unpooled.

    The trunk of the model best on validation comes first, those of controls last.
    """
    keys: dict[str, tuple[str, str, CacheKey, str]] = {}
    depths: dict[str, int] = {}
    for model in section.models:
        config, result = model.saved.result.config, model.saved.result
        for what, fields in result.keys.items():
            split, _, layer = what.partition(" ")
            try:
                key = CacheKey.from_json(fields)
            except (ValueError, TypeError):
                continue
            if split != "test" or key.split != "test":
                continue
            name = f"{config.get('backbone', key.backbone)}, {config.get('weights', key.weights[:8])}"
            name = one_line(f"{name}, {key.image_size} px")
            keys.setdefault(key.digest, (name, one_line(layer), key, result.command))
    for document in section.documents:
        if document.is_probe:
            for row in document.body["layers"]:
                depths.setdefault(row["layer"], len(depths))
    entries = sorted(keys.values(), key=lambda entry: (entry[2].pool == "none", entry[2].pool != "avg"))
    best: dict[tuple[str, str], tuple[str, str, CacheKey, str]] = {}
    for entry in entries:
        best.setdefault((entry[0], entry[1]), entry)
    trunks = list(dict.fromkeys(name for name, *_ in keys.values()))
    deepest = len(depths)
    return sorted(
        best.values(),
        key=lambda entry: (trunks.index(entry[0]), depths.get(entry[1], deepest), depth_order(entry[1])),
    )


def _read(key: CacheKey, rows: np.ndarray, cached: Sequence[store.FeatureFile]) -> np.ndarray | None:
    """(N, D) float32 of these test rows, from the file of the key or one that differs in its rows alone; or None."""
    exact = store.find(key)
    others = [file for file in cached if dataclasses.replace(file.key, rows=key.rows) == key]
    for file in [*([exact] if exact else []), *others]:
        places = {int(row): place for place, row in enumerate(file.index())}
        if all(int(row) in places for row in rows):
            features = file.features(np.array([places[int(row)] for row in rows]))
            return np.asarray(features, dtype=np.float32).reshape(len(rows), -1)
    return None


def _map(layer: str, features: np.ndarray, seed: int) -> LayerMap:
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    axes = min(AXES, *features.shape)
    pca = PCA(axes, random_state=seed)
    with np.errstate(invalid="ignore"):  # random weights may give features that are all constant
        reduced = pca.fit_transform(features)
    plane = np.pad(reduced[:, :2], ((0, 0), (0, max(0, 2 - axes))))
    maps = {"PCA": _whole(plane)}
    perplexity = min(30.0, (len(features) - 1) / 3)
    if np.ptp(plane) > 0:
        maps["t-SNE"] = _whole(TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(reduced))
        if importlib.util.find_spec("umap"):
            import umap

            maps["UMAP"] = _whole(umap.UMAP(random_state=seed, n_jobs=1).fit_transform(reduced))
    share = float(np.nan_to_num(pca.explained_variance_ratio_[:2]).sum())
    note = f"PCA's two axes hold {percent(share, 0)} % of the variance; t-SNE with perplexity {perplexity:.0f}"
    return LayerMap(layer, maps, note)


def _whole(plane: np.ndarray) -> list[list[int]]:
    """Both axes on the same scale, so that distances stay comparable, as whole numbers around the middle."""
    plane = np.asarray(plane, dtype=np.float64)
    span = float(np.ptp(plane, axis=0).max()) or 1.0
    middle = (plane.max(axis=0) + plane.min(axis=0)) / 2
    return np.rint(GRID * ((plane - middle) / span + 0.5)).astype(int).tolist()
