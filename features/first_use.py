"""What weights and data sets held when they were first used here: a change has to be accepted by name.

Neither a `.safetensors` file nor a user's own images carry a check sum, so damage to them cannot be told from an edit
by looking at them alone. The digest of what was read is kept in `known.json`; another one stops the run until
`python -m features accept NAME` says that it is meant.
"""

import contextlib
import time
from collections.abc import Iterable
from pathlib import Path

from features.digests import read_record, witness, write_note
from features.errors import UserError
from features.home import home, user_path


def recognise(name: str, digest: str, files: Iterable[Path] = ()) -> None:
    """Remember the digest of something that is used for the first time; UserError if it was another one before.

    name: the path of a file of weights, or a data set as `open_dataset` takes it. files: what it is read from, to name
    those that changed since.
    """
    memory = home() / "known.json"
    everything = read_record(memory)
    known = everything.get(name)
    if not isinstance(known, dict) or not isinstance(known.get("sha256"), str):
        write_note(memory, {**everything, name: {"sha256": digest, "seen": time.time_ns()}})
        return
    if known["sha256"] == digest:
        return
    write_note(memory, {**everything, name: {**known, "refused": digest}})
    raise UserError(
        f"{name} is not what it was when it was first used here (SHA-256 {known['sha256'][:8]} then, {digest[:8]} "
        f"now){_changed(files, known.get('seen'))}, and nothing was computed from it; put back what it was or, if the "
        f"change is meant, accept it with `python -m features accept {name}`"
    )


def accept(name: str) -> str:
    """Take what was last refused under a name for what it should be; its digest. UserError if nothing was refused."""
    memory = home() / "known.json"
    everything = read_record(memory)
    spelled = [name, str(user_path(name).absolute())]
    kind, colon, path = name.partition(":")
    if colon:
        spelled.append(f"{kind}:{user_path(path).absolute()}")
    for each in spelled:
        known = everything.get(each)
        if isinstance(known, dict) and isinstance(known.get("refused"), str):
            everything[each] = {"sha256": known["refused"], "seen": time.time_ns()}
            write_note(memory, everything)
            return known["refused"]
    waiting = [each for each, known in everything.items() if isinstance(known, dict) and known.get("refused")]
    hint = f"what was refused: {', '.join(sorted(waiting))}" if waiting else "nothing was refused so far"
    raise UserError(f"no change of {name!r} was refused, so there is none to accept; {hint}")


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
