"""Code that a name means, `python:MODULE:CALLABLE?NAME=VALUE&NAME=VALUE`: found, run, known again, and trusted or not.

Whoever names code has it run. So such a name is taken from the command line and from Python; in what may come from
somebody else, a configuration or a record, it means nothing until the user says `--trust`. The module is one that is
installed, or a file in the working folder. Values are Python's (50, 0.1, None, True, 'text', (100, 50)); what is none
is text as it stands.

What the code is, is part of the identity of what is made with it: of what is installed the package's version, of one's
own the SHA-256 of its file and of those of one's own that this imports.
"""

import contextlib
import functools
import importlib
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from features.errors import UserError, blaming

PREFIX = "python:"
_FORM = "python:MODULE:CALLABLE, as in python:sklearn.svm:SVC?C=10"
_HERE = Path(__file__).parents[1]
# Names whose code has run in this process: it may run again whoever names it.
_run: set[str] = set()
_trusted: ContextVar[bool] = ContextVar("trusted", default=False)
# The digest that a module's file had when it was first looked at, with the spec that it was loaded by.
_as_loaded: dict[str, tuple[Any, str]] = {}


@dataclass(frozen=True)
class NamedCode:
    """A name taken apart. text: the whole of it. options: what the callable is called with."""

    text: str
    module: str
    attribute: str
    options: Mapping[str, Any] = field(default_factory=dict, compare=False)

    @classmethod
    def parse(cls, name: str) -> "NamedCode":
        """UserError for what has not the form of such a name."""
        import urllib.parse

        text = name.strip()
        place, _, query = text.removeprefix(PREFIX).partition("?")
        module, _, attribute = (part.strip() for part in place.partition(":"))
        if not all(re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)*", part) for part in (module, attribute)):
            raise UserError(f"'{name}' names no code; write {_FORM}")
        try:
            pairs = urllib.parse.parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
        except ValueError:
            pairs = [("", "")]
        if strange := [key for key, _ in pairs if not key.isidentifier()]:
            raise UserError(f"'{name}': {strange[0]!r} is no NAME=VALUE behind the question mark; write {_FORM}")
        return cls(text, module, attribute, {key: _value(text) for key, text in pairs})

    @property
    def plain(self) -> str:
        """The name without options."""
        return f"{PREFIX}{self.module}:{self.attribute}"

    def load(self) -> Any:
        """What stands there, imported now; UserError where that fails."""
        _run.add(self.text)
        look_here()
        with running(self.plain):
            try:
                loaded: Any = importlib.import_module(self.module)
            except ModuleNotFoundError as error:
                if error.name is None or not f"{self.module}.".startswith(f"{error.name}."):
                    raise
                raise UserError(
                    f"{self.plain}: there is no module {error.name} in {Path.cwd()} or among what is installed; "
                    "correct the name, or install its package"
                ) from error
            for part in self.attribute.split("."):
                if not hasattr(loaded, part):
                    raise UserError(f"{self.plain}: {getattr(loaded, '__name__', loaded)} has no {part}")
                loaded = getattr(loaded, part)
        return loaded

    def call(self, **more: Any) -> Any:
        """What the callable gives with its options and more; UserError where it fails."""
        loaded = self.load()
        with running(self.plain):
            return loaded(**{**more, **self.options})


def look_here() -> None:
    """Have modules of the working folder found from now on, also by processes that are started, behind all others."""
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.append(here)


def names_code(name: object) -> bool:
    """Whether a name means code that is run for it."""
    return isinstance(name, str) and name.strip().startswith(PREFIX)


@contextlib.contextmanager
def trusting(trust: bool) -> Iterator[None]:
    """In the block code may be run that is named by what may come from anybody, where the user said so."""
    token = _trusted.set(trust or _trusted.get())
    try:
        yield
    finally:
        _trusted.reset(token)


def require_trust(name: object, where: object) -> None:
    """UserError where a name that stands in `where`, which may be from anybody, means code that did not run here yet,
    and is not trusted."""
    if names_code(name) and not _trusted.get() and str(name).strip() not in _run:
        raise UserError(
            f"{where} names code to be run, {str(name)[:80]}, and may come from anybody; give --trust if you know who "
            "wrote it (trust=True in Python)"
        )


def running(name: str) -> contextlib.AbstractContextManager[None]:
    """What code that a name means raises in the block is a line that names it."""
    return blaming(name, "correct it, or what it was given")


def origins_of(modules: Iterable[str]) -> tuple[str, ...]:
    """What the code in imported modules is, sorted: 'mine SHA-256 0123456789abcdef', 'scikit-learn 1.7.2'.

    Nothing is said of Python's own modules and of ours. UserError for code that stands in no file, and for a file that
    was changed since it was imported.
    """
    import sysconfig

    pythons = [Path(sysconfig.get_path(kind)).resolve() for kind in ("stdlib", "platstdlib")]
    origins, seen, todo = set(), set(), list(modules)
    while todo:
        if (name := todo.pop()) in seen:
            continue
        seen.add(name)
        path = _file_of(name)
        if path is None and name != "__main__":
            continue
        if path is None:
            raise UserError(
                "what was defined here, and not in a file, cannot be known again; put it into a module and import it"
            )
        if path.is_relative_to(_HERE) and path.relative_to(_HERE).parts[0] in ("features", "extract", "classify"):
            continue
        if "site-packages" in path.parts or "dist-packages" in path.parts:
            origins.add(_package_of(name))
        elif not any(path.is_relative_to(folder) for folder in pythons):
            origins.add(f"{name} SHA-256 {_digest_as_loaded(name, path)[:16]}")
            if path.suffix == ".py":
                todo += _imported_by(path, name)
    return tuple(sorted(origins))


def _value(text: str) -> Any:
    import ast

    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text


def _file_of(name: str) -> Path | None:
    """The source file of a module that is imported, or could be; None where it has none."""
    module: ModuleType | None = sys.modules.get(name)
    if module is not None:
        file = getattr(module, "__file__", None)
        return Path(file).resolve() if file else None
    import importlib.util

    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError, AttributeError):
        return None
    return Path(spec.origin).resolve() if spec and spec.has_location and spec.origin else None


def _digest_as_loaded(name: str, path: Path) -> str:
    from features.digests import sha256_file

    digest, spec = sha256_file(path), getattr(sys.modules.get(name), "__spec__", None)
    known = _as_loaded.setdefault(name, (spec, digest))
    if known[0] is not spec:  # it was imported anew
        known = _as_loaded[name] = (spec, digest)
    if known[1] != digest:
        raise UserError(f"{path} was changed since it was imported; start anew, or importlib.reload({name})")
    return digest


def _imported_by(path: Path, name: str) -> list[str]:
    """The names of modules that a file imports, and of what may be modules."""
    import ast
    import importlib.util

    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    names = []
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            with contextlib.suppress(ImportError):
                base = importlib.util.resolve_name(base, package)
                names += [base, *(f"{base}.{alias.name}" for alias in node.names)]
    # Finding a module imports the packages that it stands in: those that nobody imported stay unread.
    return [name for name in names if name.rpartition(".")[0] in {"", *sys.modules}]


@functools.cache
def _packages() -> Mapping[str, list[str]]:
    import importlib.metadata

    return importlib.metadata.packages_distributions()


def _package_of(name: str) -> str:
    from features.versions import version_of

    top = name.partition(".")[0]
    package = sorted(_packages().get(top, [top]))[0]
    return " ".join(filter(None, (package, version_of(package))))
