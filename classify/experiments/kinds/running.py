"""What a network's row leaves beside the results while it is made: a run that is stopped carries on from there.

A network that is trained and lacks its test, and what came of it outside each fold. Others may write to a folder of
results, so nothing here is run: plain JSON, and arrays without objects. What is damaged is as good as none.
"""

import contextlib
import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from classify.measure.outcome import plain_json
from features.digests import sha256_json
from features.notes import read_json, write_json
from features.regular import open_regular
from features.whole import write_whole

Arrays = dict[str, np.ndarray]


def write_fitted(place: Path, content: dict[str, Any]) -> None:
    """Leave the fields of a fitted row; content: plain values and arrays, in dictionaries too."""
    noted = plain_json(content)
    write_json(place / "fitted.json", {"noted": noted, "sha256": sha256_json(noted)})


def read_fitted(place: Path) -> dict[str, Any] | None:
    """The same with lists for arrays; None where there is nothing of this kind."""
    note = read_json(place / "fitted.json")
    noted = note.get("noted") if isinstance(note, dict) else None
    if not isinstance(noted, dict) or note.get("sha256") != sha256_json(noted) or "fields" not in noted:
        return None
    return noted


def kept_arrays(path: Path, work_out: Callable[[], Arrays]) -> Arrays:
    """The arrays in a file, which is written where there is none yet."""
    damaged = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile)
    with contextlib.suppress(*damaged), open_regular(path) as stream, np.load(stream, allow_pickle=False) as kept:
        return {name: kept[name] for name in kept.files}
    arrays, content = work_out(), io.BytesIO()
    np.savez(content, **arrays)  # type: ignore[arg-type]  # its own flag is none of the names
    write_whole(path, content.getvalue())
    return arrays
