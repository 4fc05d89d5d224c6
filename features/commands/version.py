"""`--version`: the versions of this package, torch and Python, by their metadata, since importing torch is slow."""

import argparse
import platform
from typing import Any

from features.commands.speaking import put


def version_line() -> str:
    """'layerprobe 0.1.0, torch 2.15.0, Python 3.11.7'."""
    return f"{_version_of('layerprobe')}, {_version_of('torch')}, Python {platform.python_version()}"


def _version_of(package: str) -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        return f"{package} (not installed: used from a folder)"


class ShowVersion(argparse.Action):
    """Print the versions and stop; they are looked up only when asked for."""

    def __init__(self, option_strings: list[str], dest: str, **settings: Any) -> None:
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, help=settings.get("help"))

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        """Print and exit."""
        put(version_line())
        parser.exit()
