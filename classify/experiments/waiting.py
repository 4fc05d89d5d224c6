"""Fitted heads that wait for their test in a file: a run that is stopped carries on with the rows that it lacks.

A pickle is not read unless it is byte for byte the one that was written: its SHA-256 stands before it.
"""

import hashlib
import os
import tempfile
from pathlib import Path
from typing import Any

from features.errors import UserError

# Other versions' files hold other classes; they are made again.
_FORMAT = b"layerprobe fitted 2\n"
_SUM = hashlib.sha256().digest_size


def write(path: Path, content: Any) -> None:
    """Write a file that a reader finds whole or not at all."""
    import joblib

    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, aside = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w+b") as stream:
            start = stream.write(_FORMAT) + stream.write(bytes(_SUM))
            joblib.dump(content, stream)
            stream.seek(start)
            digest = hashlib.file_digest(stream, "sha256").digest()
            stream.seek(len(_FORMAT))
            stream.write(digest)
        Path(aside).replace(path)
    except BaseException:
        Path(aside).unlink(missing_ok=True)
        raise


def read(path: Path) -> Any:
    """What `write` left in a file; None where there is none of this version, UserError where it is damaged."""
    import joblib

    try:
        with path.open("rb") as stream:
            if stream.read(len(_FORMAT)) != _FORMAT:
                return None
            digest = stream.read(_SUM)
            start = stream.tell()
            if hashlib.file_digest(stream, "sha256").digest() != digest:
                raise UserError(f"{path}, a head staged for its test, is damaged; remove it and run the same again")
            stream.seek(start)
            return joblib.load(stream)
    except FileNotFoundError:
        return None
