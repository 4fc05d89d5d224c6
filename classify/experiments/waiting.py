"""Fitted heads that wait for their test in a file: a run that is stopped carries on with the rows that it lacks.

Others may write to a home, so what stands there runs nothing: a head is in skops' format, which is read as a saved
one is, with types of our own alone, and the rest is JSON and arrays. The SHA-256 before it tells of damage. Files of
other formats, the pickles of version 0.1.0 among them, are not opened; their rows are fitted again.
"""

import hashlib
import io
import json
from pathlib import Path
from typing import Any

from classify.measure.kept_heads import in_skops_format, read_skops
from features.errors import UserError
from features.regular import open_regular
from features.whole import write_whole

_FORMAT = b"layerprobe fitted 3\n"
_SUM = hashlib.sha256().digest_size


def write(path: Path, content: dict[str, Any]) -> bool:
    """Write a file that a reader finds whole or not at all. content: `fields` (JSON values), the head, and arrays.
    False, and no file, where the head has no form in it: it is no pickle."""
    packed = in_skops_format({**content, "fields": json.dumps(content["fields"])}, compressed=False)
    if packed is None:
        return False
    write_whole(path, _FORMAT + hashlib.sha256(packed).digest() + packed)
    return True


def read(path: Path) -> dict[str, Any] | None:
    """What `write` left in a file; None where there is none of this version, UserError where it is damaged."""
    try:
        with open_regular(path) as stream:
            if stream.read(len(_FORMAT)) != _FORMAT:
                return None
            digest, packed = stream.read(_SUM), stream.read()
    except FileNotFoundError:
        return None
    if hashlib.sha256(packed).digest() != digest:
        raise _damaged(path)
    try:
        content = read_skops(io.BytesIO(packed), path)
        return {**content, "fields": json.loads(content["fields"])}
    except UserError:
        raise
    except Exception as error:  # Whatever a crafted file makes of skops.
        raise _damaged(path) from error


def _damaged(path: Path) -> UserError:
    return UserError(f"{path}, a head staged for its test, is damaged; remove it and run the same again")
