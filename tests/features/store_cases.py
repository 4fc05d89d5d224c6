"""Small files of the store, made in one known way, for all tests of the store."""

import numpy as np

from features import store
from features.key import About, CacheKey
from features.store.catalogue import entries

ROWS, WIDTH, STEP = 1500, 701, 128
RECIPE = {"batch": STEP, "torch": "2.0"}
ABOUT = About("mnist", "avgpool", tuple("0123456789"), "a stand-in")


def key(**changes) -> CacheKey:
    """A key; `changes` replaces fields."""
    fields = {
        "dataset": "d" * 64,
        "split": "train",
        "rows": "e" * 64,
        "backbone": "resnet18",
        "weights": "f" * 64,
        "layer": "layer4",
        "pool": "avg",
        "image_size": 224,
        "preprocessing": '{"crop":224}',
        "precision": "float32",
    }
    return CacheKey(**{**fields, **changes})


def numbers(shape=(ROWS, WIDTH), seed=0) -> np.ndarray:
    """float32 features in which no two rows are alike."""
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def begin(of: CacheKey, shape=(ROWS, WIDTH), recipe=RECIPE, about=ABOUT, dtype="float32") -> store.PartialFile:
    """Open the partial file of a key, new or carried on."""
    labels, index = np.arange(shape[0]) % 10, np.arange(shape[0])[::-1]
    return store.PartialFile.open(of, about, shape=shape, dtype=dtype, labels=labels, index=index, recipe=recipe)


def carry_on(file: store.PartialFile, features: np.ndarray, until: int | None = None, every: int = 1) -> None:
    """Write from where a file stands, a step at a time, and record every so many steps."""
    end = len(features) if until is None else until
    for count, start in enumerate(range(file.rows_done, end, STEP), 1):
        stop = min(start + STEP, end)
        file.write(start, features[start:stop])
        if count % every == 0 or stop == end:
            file.commit(stop)


def make(of: CacheKey, features: np.ndarray | None = None, **options) -> store.FeatureFile:
    """A complete file."""
    features = numbers() if features is None else features
    file = begin(of, features.shape, **options)
    carry_on(file, features)
    return file.publish()


def partial_records() -> list[store.PartialRecord]:
    """The partial files that can be carried on."""
    return [entry.record for entry in entries() if isinstance(entry.record, store.PartialRecord)]
