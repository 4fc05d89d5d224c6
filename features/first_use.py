"""What weights and data sets held when they were first used here: a change has to be accepted by name.

Neither a `.safetensors` file nor a user's own images carry a check sum, so damage to them cannot be told from an edit
by looking at them alone. The digest of what was read is noted; another one stops the run until `python -m features
accept NAME` says that it is meant. A note that is there and cannot be read stops it too.
"""

import contextlib
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from features.datasets.catalogue import READABLE, absolute_spec
from features.digests import witness
from features.errors import UserError
from features.home import user_path
from features.notes import Notes

# By name: what something held when it was first used or last accepted, and what was last refused. Version 0.1.0 had
# both in one.
_KNOWN = Notes("known", old="known.json", vital=True)
_REFUSED = Notes("refused", old="known.json")
_LOOKED_AT = Notes("looked-at")
# The newest rule of how data sets are read. Version 0.1.0 read by the first, and noted none; a rule that makes no
# difference to a data set is none of its.
LATEST_RULE = 3


class ChangedContent(UserError):
    """What was used here before is another one now, which nobody accepted."""


def recognise(name: str, digest: str, files: Iterable[Path] = (), *, rule: int = 1) -> str | None:
    """Remember the digest of something that is used for the first time; ChangedContent if it was another one before.

    name: the path of a file of weights, or a data set as `open_dataset` takes it. files: what it is read from, to name
    those that changed since. rule: the newest one that makes a difference to this data set; what was noted under an
    earlier one says nothing of a change, so that this is a first use again. A line that says so is returned; else None.
    """
    first, seen = _noted(_KNOWN, name, "sha256"), _noted(_KNOWN, name, "seen")
    noted_rule = _noted(_KNOWN, name, "rule") or 1
    if first is None or noted_rule < rule or (first == digest and noted_rule < LATEST_RULE):
        _note(name, digest)
    if first in (None, digest):
        return None
    if noted_rule < rule:
        return (
            f"{name} is read by a corrected rule, and so is another data set (SHA-256 {digest[:8]}) than when it was "
            f"first used here ({first[:8]}), without a change of its files: what was made from it before is not used"
        )
    _REFUSED.put(name, {"refused": digest})
    raise ChangedContent(
        f"{name} is not what it was when it was first used here (SHA-256 {first[:8]} then, {digest[:8]} now)"
        f"{_changed(files, seen)}, and nothing was computed from it; put back what it was or, if the change is meant, "
        f"accept it with `python -m features accept {name}`"
    )


def require_used_here(spec: str, digest: str | None) -> None:
    """UserError for a data set in files that a record names, unless this home has used it with that content before.

    digest: the data set's, as in the record. Whoever wrote the record could else have private images read and shown.
    """
    place = absolute_spec(spec)
    used = was_used(place, digest) or _noted(_LOOKED_AT, f"{digest} {place}", "sha256") is not None
    if ":" in place.removeprefix(READABLE) and not used:
        raise UserError(
            f"the record says that its images are {place}, and nothing was made from those here, so they are not "
            f"opened; say --dataset {place} if you mean them"
        )


def note_looked_at(spec: str, digest: str) -> None:
    """Note that a data set was checked here with this content, be it accepted or not."""
    _LOOKED_AT.put(f"{digest} {absolute_spec(spec)}", {"sha256": digest})


def accept(name: str) -> str:
    """Take what was last refused under a name for what it should be; its digest. UserError if nothing was refused."""
    spellings = [name, str(user_path(name).absolute())]
    kind, colon, path = name.partition(":")
    if colon:
        spellings.append(f"{kind}:{user_path(path).absolute()}")
    for spelling in spellings:
        if digest := _refused(spelling):
            if not _note(spelling, digest):
                raise UserError(
                    f"{_KNOWN.folder} takes no note of it; make the folder writable and see that it has room"
                )
            return digest
    waiting = {refused for refused, _ in _REFUSED.items() if _refused(refused)}
    hint = f"what was refused: {', '.join(sorted(waiting))}" if waiting else "nothing was refused so far"
    raise UserError(f"no change of {name!r} was refused, so there is none to accept; {hint}")


def known_digests() -> dict[str, str]:
    """What everything held when it was first used here or last accepted, by its name."""
    return {name: note["sha256"] for name, note in _KNOWN.items() if isinstance(note, dict) and "sha256" in note}


def is_known(name: str) -> bool:
    """Whether this home has used something under a name."""
    return _noted(_KNOWN, name, "sha256") is not None


def was_used(name: str, digest: str | None) -> bool:
    """Whether this home has used something under a name with exactly this content."""
    return digest is not None and _noted(_KNOWN, name, "sha256") == digest


def _note(name: str, digest: str) -> bool:
    return _KNOWN.put(name, {"sha256": digest, "seen": time.time_ns(), "rule": LATEST_RULE})


def _refused(name: str) -> str | None:
    """The digest that was last refused under a name, if it was not accepted since."""
    digest = _noted(_REFUSED, name, "refused")
    return None if digest == _noted(_KNOWN, name, "sha256") else digest


def _noted(notes: Notes, name: str, field: str) -> Any:
    note = notes.get(name)
    return note.get(field) if isinstance(note, dict) else None


def _changed(files: Iterable[Path], since: int | None) -> str:
    """', FILE changed since', naming the first of the files that did; nothing where none can be named."""
    if not isinstance(since, int):
        return ""
    changed = []
    for path in files:
        with contextlib.suppress(OSError):
            if max(witness(path)[1:]) > since:
                changed.append(path)
    more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
    return f"; {changed[0]}{more} changed since" if changed else ""
