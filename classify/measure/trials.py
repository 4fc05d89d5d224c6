"""A trial on disk: a configuration that was scored on rows to choose on, and is not tested.

A result is tested, and testing hundreds of candidates would be looking at the test images hundreds of times. So what a
search tries is kept beside the results, in a folder of its own: `trials/<slug>-<ten hex digits>.json`, sealed as a
record is. What is damaged or of another version is as good as none, and tried again.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from classify.measure.outcome import plain_json, slug_of
from classify.measure.record import Extra, RowConfig
from classify.measure.results import sealed
from classify.measure.saving import make_place
from features.digests import sha256_json
from features.regular import read_regular
from features.whole import write_whole

FORMAT = "layerprobe trial"
VERSION = 1
TRIALS = "trials"  # the folder, in that of results
_ARRAYS = ("rows", "predicted", "labels", "folds")


@dataclass(frozen=True, eq=False)
class Trial:
    """What a configuration came to on the rows that it was scored on.

    fields: of a `Result`, without what a test has to say. seconds: of the whole of it. validation_rows (V,),
    validation_predicted (V,) or (R, V), validation_labels (V,) and validation_folds (R, V) or None: as in
    `Predictions`.
    """

    config: RowConfig
    fields: dict[str, Any]
    seconds: float
    validation_rows: np.ndarray
    validation_predicted: np.ndarray
    validation_labels: np.ndarray
    validation_folds: np.ndarray | None = None

    @property
    def digest(self) -> str:
        """64 hex digits of the configuration."""
        return sha256_json(dict(self.config))

    @property
    def extra(self) -> Extra:
        """What its head has to say besides."""
        return Extra(self.fields["extra"])

    @property
    def scores(self) -> dict[str, float]:
        """Every score by name, and the number of rows that they are of, as `classify.measure.choice` takes them."""
        return {
            **(self.extra.validation_scores or {}),
            "accuracy": self.fields["validation_accuracy"],
            "rows": len(self.validation_rows),
        }

    def save(self, folder: Path | str) -> None:
        """Keep it in a folder of results."""
        arrays = {name: getattr(self, f"validation_{name}") for name in _ARRAYS}
        record = {
            "format": FORMAT,
            "version": VERSION,
            "config": dict(self.config),
            "fields": self.fields,
            "seconds": self.seconds,
            "validation": {name: None if array is None else array.tolist() for name, array in arrays.items()},
        }
        place = _place(folder, self.config)
        make_place(place.parent, folder)
        write_whole(place, json.dumps(sealed(plain_json(record, FORMAT)), separators=(",", ":")).encode())


def find_trial(folder: Path | str, config: RowConfig) -> Trial | None:
    """The trial of exactly this configuration that stands in a folder of results; None where there is none."""
    try:
        record = json.loads(read_regular(_place(folder, config)))
        if (record["format"], record["version"]) != (FORMAT, VERSION) or sealed(record) != record:
            return None
        if record["config"] != dict(config):
            return None
        arrays = {f"validation_{name}": _array(record["validation"], name) for name in _ARRAYS}
        return Trial(config, dict(record["fields"]), float(record["seconds"]), **arrays)  # type: ignore[arg-type]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _array(validation: Mapping[str, Any], name: str) -> np.ndarray | None:
    return None if validation[name] is None else np.array(validation[name], np.int64)


def _place(folder: Path | str, config: RowConfig) -> Path:
    return Path(folder) / TRIALS / f"{slug_of(config)}-{sha256_json(dict(config))[:10]}.json"
