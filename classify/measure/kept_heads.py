"""A fitted head as a file: skops' format, and joblib's beside it, which version 0.1.0 and other programs read.

A joblib file is a pickle, and runs whatever its author put into it as soon as it is read. A skops file holds arrays and
the names of types; one with any other type than a class of `classify.heads` that says `kept_in_files` of itself, as all
heads do by their base, or of scikit-learn that holds parameters alone, is refused before anything of it is built. What
the file's SHA-256 should be is left to `results`. joblib and skops are imported where they are used: reading a record
does without.
"""

import importlib
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from classify.measure.wording import one_line
from features.bombs import refuse_zip_bomb
from features.errors import UserError
from features.plugins import plugins

# Where heads and what they are made of stand. skops itself knows numpy's and scikit-learn's types.
_OURS = "classify.heads."
# Modules of scikit-learn whose classes skops does not know, and which hold parameters in plain Python. What compiled
# code walks through without looking (trees, neighbours) stays out: a crafted file would lead it anywhere.
_PLAIN = (
    "sklearn.metrics._scorer",
    "sklearn.model_selection._split",
    "sklearn.neural_network._stochastic_optimizers",
    "sklearn.utils._bunch",
    "sklearn.utils._metadata_requests",
)
# Types that files of earlier versions know by another name.
MOVED = {f"classify.experiments.width_matching.{name}": f"classify.heads.on_axes.{name}" for name in ("Axes", "OnAxes")}
# skops looks through every package of scikit-learn when it is imported. These hold no estimator, and bring torch and
# dask, which a head like ridge does without: two seconds of the three that its whole run takes.
_HEAVY = ("sklearn.externals.array_api_compat.torch", "sklearn.externals.array_api_compat.dask")


@contextmanager
def _only_what_is_needed() -> Iterator[None]:
    """Inside the block the heavy packages that are not imported yet count as missing, which skops takes as it comes."""
    kept_out = [name for name in _HEAVY if name not in sys.modules]
    for name in kept_out:
        # What a module that is None means to Python's import, typeshed does not know.
        sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        for name in kept_out:
            del sys.modules[name]


def write_joblib(head: Any, stream: BinaryIO) -> None:
    """Write a head as a compressed joblib file."""
    import joblib

    joblib.dump(head, stream, compress=1)


def in_skops_format(head: Any, *, compressed: bool = True) -> bytes | None:
    """The bytes of a head's skops file; None where it holds a type that is not trusted, or has no such form."""
    packing = {"compression": zipfile.ZIP_DEFLATED, "compresslevel": 1} if compressed else {}
    with _only_what_is_needed():
        import skops.io

    try:
        content = skops.io.dumps(head, **packing)
        strange = skops.io.get_untrusted_types(data=content)
    except Exception:
        # Whatever skops cannot put into its format, it says with an exception of its own choosing.
        return None
    return content if all(map(_trusted, strange)) else None


def read_joblib(stream: BinaryIO) -> Any:
    """The head in a joblib file, whose code runs now. Raises whatever the pickle inspires."""
    import joblib

    _know_old_names()
    return joblib.load(stream)


def read_skops(stream: BinaryIO, path: Path) -> Any:
    """The head in a skops file; UserError, and nothing built, where it holds a type that is not trusted. path: what to
    call it."""
    with _only_what_is_needed():
        import skops.io
        from skops.io.exceptions import UntrustedTypesFoundException

    with zipfile.ZipFile(stream) as archive:
        refuse_zip_bomb(path, archive)
    stream.seek(0)
    _know_old_names()
    try:
        trusted = list(filter(_trusted, skops.io.get_untrusted_types(file=stream)))
        stream.seek(0)
        return skops.io.load(stream, trusted=trusted)
    except UntrustedTypesFoundException as error:
        raise UserError(
            f"{path} holds types that no head of ours is made of, and nothing of it was loaded ({one_line(error)}); "
            "run its result again"
        ) from error


def _trusted(name: str) -> bool:
    """Whether a type, by its dotted name, is one of ours that a fitted head is made of."""
    module, _, kind = MOVED.get(name, name).rpartition(".")
    # Whoever installs a plug-in runs its code; what stands beside its head is a part of it.
    if module in {plugin.value.partition(":")[0].strip() for plugin in plugins("heads").values()}:
        return True
    if not module.startswith(_OURS) and module not in _PLAIN:
        return False
    try:
        head_part = getattr(importlib.import_module(module), kind, None)
    except (ImportError, ValueError):
        return False
    if module in _PLAIN:
        return isinstance(head_part, type) and head_part.__module__ == module
    return isinstance(head_part, type) and getattr(head_part, "kept_in_files", False) is True


def _know_old_names() -> None:
    """Have moved types by their old names as well: joblib and skops both import what a file names."""
    for old, new in MOVED.items():
        sys.modules.setdefault(old.rpartition(".")[0], importlib.import_module(new.rpartition(".")[0]))
