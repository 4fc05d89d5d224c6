"""The version of this package: that of its installed metadata, or of the checkout that is used without installing."""

import importlib.metadata
from pathlib import Path


def layerprobe_version() -> str | None:
    """'0.1.0'; None where neither is to be had."""
    try:
        return importlib.metadata.version("layerprobe")
    except importlib.metadata.PackageNotFoundError:
        import configparser

        parser = configparser.ConfigParser()
        parser.read(Path(__file__).parents[1] / "setup.cfg", encoding="utf-8")
        return parser.get("metadata", "version", fallback=None)
