"""Which records say what is known to be wrong: those of version 0.1.0 whose numbers came of a fault corrected since.

All that is asked stands in the record; what it was made of is looked at where it still stands, and believed where it
does not. Nothing heavy is imported for the records of later versions, which never keep what is known to be wrong.
"""

import importlib.metadata
import json
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import numpy as np

from classify.measure.corrections import SEEN_BEFORE, superseded
from classify.measure.outcome import Result
from classify.measure.record import RowConfig
from features.datasets import open_dataset
from features.datasets.catalogue import absolute_spec
from features.digests import sha256_rows
from features.errors import UserError
from features.first_use import is_known
from features.home import user_path
from features.notes import remembered_answer

SUPERSEDED = "superseded"  # the folder, in that of results, of what was known to be wrong and has been made again
OTHER_ROWS = "version 0.1.0 tested it on the test images of the first of several seeds"
OTHER_IMAGES = "version 0.1.0 prepared the images otherwise than these weights want it"
WRITTEN_OVER = "version 0.1.0 may have read what a later in-place operation had left of a layer"
OTHER_READING = "version 0.1.0 read the data set by a rule that was corrected, which makes another one of its files"


def fault_of(result: Result, places: dict[str, str], tested_rows: Callable[[], np.ndarray]) -> str | None:
    """Why a result is known to be wrong, or may be; None where it is not.

    places: where its data set and weights stood, by their options' names. tested_rows: gives the test rows, (N,).
    """
    if wrong := superseded(result.config):
        return wrong
    if result.extra.crop_mode is not None:
        return None  # Later versions note it of every row.
    if tested_on_other_rows(result, tested_rows):
        return OTHER_ROWS
    if _read_what_was_written_over(result):
        return WRITTEN_OVER
    if _prepared_otherwise(result.config, places.get("weights")):
        return OTHER_IMAGES
    return OTHER_READING if _read_by_another_rule(result.config, places.get("dataset")) else None


def tested_on_other_rows(result: Result, tested_rows: Callable[[], np.ndarray]) -> bool:
    """Whether the test rows are others than those of the record's cache keys."""
    digests = {key.get("rows") for name, key in result.keys.items() if name.startswith("test ")}
    if result.config.limit_test is None or result.config.test != RowConfig.test or not digests:
        return False
    try:
        return digests != {sha256_rows(tested_rows())}
    except UserError:
        return False  # Whoever needs the predictions says that they are damaged.


def _read_what_was_written_over(result: Result) -> bool:
    """Whether its features, or a regulariser's, are of a layer that a later in-place operation writes over."""
    config = result.config
    read = {
        (str(key.get("backbone")), str(key.get("layer"))) for key in result.keys.values() if not key.get("revision")
    }
    if SEEN_BEFORE not in (config.corrections or ()):
        layers = [layer for text in config.regularizers or () for layer in text.partition("@")[2].split("+")]
        read |= {(str(config.backbone), layer.strip()) for layer in layers if layer.strip()}
    return any(layer in _written_over(backbone) for backbone, layer in read)


@lru_cache
def _written_over(backbone: str) -> frozenset[str]:
    """The layers of an architecture that are written over, by all of their names."""

    def work_out() -> str:
        from features.architectures import outline
        from features.cut import Cut
        from features.families import family_of

        try:
            family = family_of(backbone)
        except UserError:
            return "[]"
        if family.preset_of_earlier(backbone) is None:
            return "[]"  # version 0.1.0 had none of that family
        model = outline(backbone).eval()
        cut = Cut(model, family.fixed_size(model) or 224, traits=family.traits(model))
        names = {name for name, _ in model.named_modules() if name}
        same = {name for name in names if any(layer.startswith(f"{name}.") for layer in cut.layers)}
        return json.dumps(sorted(cut.overwritten | {name for name in same if cut.resolve(name) in cut.overwritten}))

    version = importlib.metadata.version("torchvision")
    return frozenset(
        json.loads(remembered_answer(f"layers of {backbone} written over, torchvision {version}", work_out))
    )


def _prepared_otherwise(config: RowConfig, place: str | None) -> bool:
    """Whether the weights want images prepared otherwise than the architecture's default ones do, as all were."""
    if config.backbone is None or config.weights is None or config.weights.startswith("random ("):
        return False
    path = user_path(place) if place else Path(config.weights)
    return _wants_otherwise(config.backbone, config.weights, path, config.image_size)


@lru_cache
def _wants_otherwise(backbone: str, weights: str, path: Path, image_size: int | None) -> bool:
    from features.presets import preset_of_earlier, preset_of_recorded

    try:
        own, earlier = preset_of_recorded(backbone, weights, path), preset_of_earlier(backbone)
    except UserError:
        return False  # of a network that is not known here nothing can be said
    return own is not None and own.at(image_size).describe() != earlier.at(image_size).describe()


def _read_by_another_rule(config: RowConfig, place: str | None) -> bool:
    # The other data sets are read as they were; and a record may come from anybody, and name what is none of his.
    return (
        place is not None
        and ":" in place
        and is_known(absolute_spec(place))
        and _differs_by_rule(place, config.dataset_sha256)
    )


@lru_cache
def _differs_by_rule(place: str, digest: str) -> bool:
    """Whether the files at a place are another data set than this one for the reason that they are read otherwise."""
    try:
        dataset = open_dataset(place)
        return dataset.survey().rule > 1 and dataset.fingerprint() != digest
    except UserError:
        return False  # A data set that is not there says nothing against the record.
