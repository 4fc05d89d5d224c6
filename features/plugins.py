"""Plug-ins: backbones, data sets, heads and scores that other installed packages bring, by their entry points.

A package names what it brings in the groups `layerprobe.backbones`, `.datasets`, `.heads` and `.scores`. Which there
are is read from the metadata of what is installed, so that `--help` lists them and nothing of them is imported; the
object itself is loaded when its name is asked for. What goes wrong in a plug-in is a UserError that names its package.
A name that is one of ours means ours.
"""

import contextlib
import functools
import importlib
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from features.errors import blaming

KINDS = ("backbones", "datasets", "heads", "scores")


@dataclass(frozen=True)
class Plugin:
    """One entry point. kind: of `KINDS`. value: 'module:attribute'. package, version: who brings it."""

    kind: str
    name: str
    value: str
    package: str
    version: str

    @property
    def origin(self) -> str:
        """'package 1.2', which is a part of the identity of what is made with it."""
        return f"{self.package} {self.version}"

    @property
    def summary(self) -> str:
        """What `--help` says of it."""
        return f"from the plug-in {self.origin}"

    def load(self) -> Any:
        """The object, imported now; UserError where that fails."""
        module, _, attribute = self.value.partition(":")
        with blamed(self.name, self.origin):
            loaded = importlib.import_module(module.strip())
            for part in filter(None, attribute.partition("[")[0].strip().split(".")):
                loaded = getattr(loaded, part)
        return loaded


def blamed(name: str, origin: str) -> contextlib.AbstractContextManager[None]:
    """What a plug-in's code raises in the block is a line that names it."""
    advice = f"update it, or remove it with `pip uninstall {origin.split()[0]}`"
    return blaming(f"the plug-in {name} of {origin}", advice)


def plugins(kind: str) -> dict[str, Plugin]:
    """The plug-ins of a kind by name, of those with one name the first that Python would import."""
    return {plugin.name: plugin for plugin in reversed(_installed(tuple(sys.path))) if plugin.kind == kind}


@functools.cache
def _installed(path: tuple[str, ...]) -> tuple[Plugin, ...]:
    # importlib.metadata is right for this too, and takes longer to import than all of `--help`.
    files: dict[str, Path] = {}
    for folder in map(Path, path):
        with contextlib.suppress(OSError):
            for file in folder.glob("*.dist-info/entry_points.txt"):
                files.setdefault(file.parent.name, file)
    return tuple(plugin for file in files.values() for plugin in _read(file))


def _read(file: Path) -> list[Plugin]:
    try:
        text = file.read_text(encoding="utf-8")
        if "layerprobe." not in text:
            return []
        import configparser

        parser = configparser.ConfigParser(delimiters=("=",), interpolation=None)
        parser.optionxform = str  # type: ignore[assignment,method-assign]  # names keep their letters
        parser.read_string(text)
        header = (file.parent / "METADATA").read_text(encoding="utf-8").partition("\n\n")[0]
    except (OSError, UnicodeError, configparser.Error):
        return []  # what is no metadata names no plug-in
    said = dict(line.split(": ", 1) for line in header.splitlines() if ": " in line)
    package, version = said.get("Name", file.parent.name), said.get("Version", "?")
    groups = {kind: f"layerprobe.{kind}" for kind in KINDS}
    return [
        Plugin(kind, name, value, package, version)
        for kind, group in groups.items()
        if parser.has_section(group)
        for name, value in parser[group].items()
    ]
