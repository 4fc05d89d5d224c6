"""Which versions of packages are here, by their metadata: importing some of them takes seconds."""

import configparser
import functools
import importlib.metadata
from collections.abc import Iterable
from pathlib import Path


@functools.cache
def version_of(package: str) -> str | None:
    """The version of an installed package, or of a checkout of this one that was never installed; None without one."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return _checkout_version() if package == "layerprobe" else None


def made_with_others(versions: Iterable[tuple[str, object]], *, what: str, again: str) -> str:
    """A line on what other versions of packages made and is used all the same; '' where those are the ones here.

    versions: packages with the versions that made it. What names a build, as in 2.9.0+cpu, is nothing to it.
    """
    here = [(package, version, version_of(package)) for package, version in versions]
    differing = [(package, then, now) for package, then, now in here if _public(then) != _public(now)]
    if not differing:
        return ""
    then, now = (", ".join(f"{names[0]} {names[place]}" for names in differing) for place in (1, 2))
    return f"{what} made with {then} are used ({now} here); {again}"


def _public(version: object) -> str:
    return str(version).partition("+")[0]


def _checkout_version() -> str | None:
    parser = configparser.ConfigParser()
    parser.read(Path(__file__).parents[1] / "setup.cfg", encoding="utf-8")
    return parser.get("metadata", "version", fallback=None)
