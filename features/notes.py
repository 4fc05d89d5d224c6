"""Notes: what was found out once and is not to be found out again, one small file each, in the home's `notes`.

A note answers a question and is named by the question's SHA-256. It is written aside and renamed, so that a reader
finds it whole or not at all, and nothing is ever read, changed and written back: users, processes and machines may
share a home, on a network file system too. Its own SHA-256 stands in it: one that is damaged is as good as none.
Permissions follow the umask. What version 0.1.0 kept in one file for all is read where a note is missing, and never
written.
"""

import contextlib
import errno
import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from features.errors import UserError
from features.home import home
from features.regular import read_regular
from features.whole import write_whole

_NO_PLACE = (errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True)
class Notes:
    """The notes of one kind: questions are text, answers JSON values.

    old: the file in the home that version 0.1.0 kept them in, as one JSON object. vital: whether a note that is there
    but cannot be read is an error, and not as good as none.
    """

    kind: str
    old: str = ""
    vital: bool = False

    @property
    def folder(self) -> Path:
        """Where they stand."""
        return home() / "notes" / self.kind

    def place(self, question: str) -> Path:
        """The file of a note. Paths are asked about too, and may hold bytes that are no text."""
        return self.folder / f"{hashlib.sha256(question.encode(errors='surrogatepass')).hexdigest()}.json"

    def get(self, question: str) -> Any:
        """The answer to a question; None where there is none. UserError for a vital one that cannot be read."""
        note = self._read(self.place(question), _unsealed)
        return note[1] if note else self._of_old().get(question)

    def put(self, question: str, value: Any) -> bool:
        """Note an answer; whether there was a place for it: a full or read-only one only costs work the next time."""
        with if_there_is_place():
            write_whole(self.place(question), _sealed(json.dumps([question, value], separators=(",", ":")).encode()))
            return True
        return False

    def items(self) -> Iterator[tuple[str, Any]]:
        """Every question with its answer; after those of version 0.1.0 those that were noted since."""
        yield from self._of_old().items()
        for path in sorted(self.folder.glob("*.json")):
            if note := self._read(path, _unsealed):
                yield note

    def _of_old(self) -> dict[str, Any]:
        record = self._read(home() / self.old, json.loads) if self.old else None
        return record if isinstance(record, dict) else {}

    def _read(self, path: Path, parse: Callable[[bytes], Any]) -> Any:
        try:
            return parse(read_regular(path))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError, TypeError, RecursionError) as error:
            if not self.vital:
                return None
            reason = error.strerror if isinstance(error, OSError) else "it is damaged"
            raise UserError(
                f"{path} says what was used here before and cannot be read ({reason}); make it readable, or delete it "
                "if what is there now is to be taken for right"
            ) from error


_ANSWERS = Notes("answers", old="answers.json")


def remembered_answer(question: str, work_out: Callable[[], str]) -> str:
    """The answer to a question that always has the same one, worked out the first time and then remembered.

    A question about a file's content carries the content's digest, so that the answer can never be out of date. What
    raises is not remembered.
    """
    value = _ANSWERS.get(question)
    if not isinstance(value, str):
        value = work_out()
        _ANSWERS.put(question, value)
    return value


@contextlib.contextmanager
def if_there_is_place() -> Iterator[None]:
    """Leave the block where what it writes finds no place, being full or read-only; other errors pass."""
    try:
        yield
    except OSError as error:
        if error.errno not in _NO_PLACE:
            raise


def read_json(path: Path) -> Any:
    """The value in a JSON file; None where the file is absent, unreadable or no JSON."""
    try:
        return json.loads(read_regular(path))
    except (OSError, ValueError, RecursionError):
        return None


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file so that a reader finds the old content or the new, never a part of it."""
    write_whole(path, json.dumps(value, indent=1, sort_keys=True, allow_nan=False).encode())


def _sealed(body: bytes) -> bytes:
    return b'{"sha256":"%s","note":%s}\n' % (hashlib.sha256(body).hexdigest().encode(), body)


def _unsealed(text: bytes) -> tuple[str, Any]:
    body = text[len(_sealed(b"")) - 2 : -2]
    if text != _sealed(body):
        raise ValueError("damaged")
    question, value = json.loads(body)
    return question, value
