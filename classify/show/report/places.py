"""Where things stand on this machine or on another, kept off a page that may be sent to anyone.

Of an absolute path its last name stays: 'folder:…/photos'. Commands are read as a shell reads them, so that a path with
spaces in it goes as a whole; in other texts a path ends at a space, but for those that are known beforehand.
"""

import re
import shlex
from collections.abc import Iterable
from pathlib import Path

from classify.show.report.folder import Section

GONE = "…/"
# A path after a beginning, a space, a quote, a bracket or what precedes it in an option: `folder:/a/b`, `--weights=/a`.
_BEFORE = r"(?<![\w./…<>\-])"
_ROOT = r"(?:~[\w.-]*/|/(?!/)|[A-Za-z]:[\\/]|\\\\(?=\w))"
_NAMES = r"[^\s'\"`,;()<>|*?:]+"
_PATH = re.compile(_BEFORE + _ROOT + _NAMES)
_WORD = re.compile(rf"{_BEFORE}{_ROOT}.*?(?=->|$)")
_COMMAND = re.compile(r"`([^`]+)`|^((?:python\S* -m |layerprobe ).+)$", re.S)
_ADDRESS = re.compile(r"\w+://")


def without_places(text: str, known: Iterable[str] = ()) -> str:
    """A text with no absolute path, and no home folder of anyone, in it. known: paths that may hold spaces."""
    if not any(sign in text for sign in "/\\"):
        return text
    for path in sorted({path for path in known if _is_place(path)}, key=len, reverse=True):
        text = re.sub(re.escape(path) + rf"(?![\w.-])(?:[\\/]{_NAMES})?", lambda match: _last(match[0]), text)
    text = _COMMAND.sub(lambda match: match[0].replace(match[1] or match[2], _command(match[1] or match[2])), text)
    return _PATH.sub(lambda match: _last(match[0]), text)


def _command(text: str) -> str:
    """A command line, whose words may be paths with spaces."""
    try:
        words = shlex.split(text)
    except ValueError:
        return text
    hidden = [word if _ADDRESS.match(word) else _WORD.sub(lambda match: _last(match[0]), word) for word in words]
    if hidden == words:
        return text
    return " ".join(word if re.fullmatch(r"[\w@%+=:,./…>-]+", word) else shlex.quote(word) for word in hidden)


def _is_place(path: str) -> bool:
    return re.match(_ROOT, path) is not None and len(path) > 3


def _last(path: str) -> str:
    """The last name of a path, unless that is somebody's home folder."""
    names = [name for name in re.split(r"[\\/]+", path) if name]
    above = "/".join(names[:-1]).lower()
    is_home = above in ("home", "users", "c:/users") or (not above and names[0].startswith(("~", "root")))
    return GONE + ("" if is_home else names[-1])


def known_places(paths: Iterable[Path | str | None]) -> frozenset[str]:
    """Paths as they may stand in texts: as they were given, made absolute, and without links; and the user's home."""
    places = {str(Path.home())}
    for path in paths:
        text = str(path or "")
        # A data set names its files after a colon: folder:PATH, readable:folder:PATH.
        for part in re.split(r"->|(?<=\w\w):", text):
            if part and _is_place(part):
                places |= {part, str(Path(part).resolve())}
    return frozenset(places)


def places_of(sections: Iterable[Section]) -> list[str]:
    """Where data and weights stood when the records of a page were made."""
    models = [model for section in sections for model in section.models]
    return [place for model in models for place in (model.saved.result.extra.places or {}).values()]
