"""Which of the tensors in a file are an architecture's weights: found by the names that the architecture has itself.

Checkpoints put the network under a name of their own (`model.` in Lightning's, `backbone.`, `_orig_mod.` of
torch.compile, `module.` of DataParallel) or beside others (its moving average, a teacher). So no list of prefixes is
kept: a prefix is whatever stands before the architecture's own names, and it must stand before all of them.
"""

import contextlib
import itertools
import re
import warnings
from collections import Counter, OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torchvision import models

from features.architectures import outline
from features.backbones.family import Body, is_auxiliary
from features.errors import UserError
from features.families import family_of
from features.weights import Table

# What wrappers put into names in the middle of a network as well as before it.
_WRAPPERS = {"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
# Copies of a network that its training keeps for a purpose: not what is taken where the network itself stands beside.
_COPIES = {"ema", "swa", "avg", "averaged", "student", "target", "momentum", "k"}
_PLACES_OF_0_1_0 = (("state_dict", "model"), ("state_dict",), ("model",), ())
# DenseNet's files at torchvision's have these names, which its builder joins.
_OLD_DENSENET = re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.([12]\.)")


@dataclass(frozen=True, eq=False)
class Match:
    """A table's tensors that stand under one prefix, held against an architecture.

    tensors: by the names left of the prefix. missing, unknown and reshaped are names: what the architecture has
    besides, what it has not, what it has in another shape. classes: how many its classifier tells apart. options: what
    else its builder must be told. version: that of the layout, where it is an older one. own_head: the tensors of a
    classifier that is not the architecture's, where the rest is.
    """

    table: Table
    prefix: str
    tensors: Mapping[str, torch.Tensor]
    classes: int
    options: dict[str, Any]
    version: int | None
    missing: tuple[str, ...]
    unknown: tuple[str, ...]
    reshaped: tuple[str, ...]
    headless: bool
    own_head: tuple[str, ...]

    @property
    def fits(self) -> bool:
        """Whether these are weights of the architecture, with its classifier or without one."""
        return not (self.unknown or self.reshaped) and (self.headless or not self.missing)

    @property
    def place(self) -> str:
        """Where it stands in the file, for people; '' for all of a plain state dict."""
        keys, prefix = "/".join(self.table.place), self.prefix.rstrip(".")
        return " ".join(filter(None, (keys, f"with the prefix {prefix}." if prefix else "")))

    @property
    def is_copy(self) -> bool:
        """Whether its names say that it is a moving average or the like of another network."""
        words = re.split(r"[._]", ".".join((*self.table.place, self.prefix)).lower())
        return not _COPIES.isdisjoint(words)

    def state(self, model: nn.Module) -> "OrderedDict[str, torch.Tensor]":
        """The tensors as torch's loader takes them, with the file's note of versions, or the model's where it has none.

        Without such a note some loaders (MNASNet's) do not load at all.
        """
        versions = model.state_dict()._metadata  # type: ignore[attr-defined]  # torch keeps it there
        state: OrderedDict[str, torch.Tensor] = OrderedDict(self.tensors)
        root = self.prefix.rstrip(".")
        inner = {
            name.removeprefix(root).removeprefix("."): version
            for name, version in self.table.versions.items()
            if name == root or not root or name.startswith(f"{root}.")
        }
        if self.version is not None:
            inner[""] = {"version": self.version}
        state._metadata = {**versions, **inner}  # type: ignore[attr-defined]  # torch keeps it there
        return state


class Architecture:
    """The names and shapes that an architecture's tensors have, to hold files against; options: of its builder."""

    def __init__(self, name: str, **options: Any) -> None:
        self.name, self.options = name, options
        self.family = family_of(name)
        self.model: nn.Module = outline(name, **options)
        if self.family.is_headless(self.model):
            # It has a place for a classifier, which the file may have filled.
            self.model = outline(name, 1, **options)
        self.classifier = self.family.classifiers(self.model)[0]
        self._children = [child for child, _ in self.model.named_children()]
        state = self.model.state_dict()
        self.shapes = {key: tensor.shape for key, tensor in state.items() if not is_auxiliary(key)}
        heads = tuple(f"{name}." for name in self.family.classifiers(self.model))
        self.head = tuple(key for key in self.shapes if key.startswith(heads))

    @cached_property
    def required(self) -> tuple[str, ...]:
        """The names of what a network needs; batch norm's count of batches decides nothing, and some files lack it."""
        return tuple(key for key in self.shapes if not key.endswith("num_batches_tracked"))

    def matches(self, table: Table) -> list[Match]:
        """The table held against the architecture under every prefix that might be right, the likeliest first."""
        names = {key: _modern(key) for key in table.tensors}
        covered: Counter[str] = Counter()
        required = set(self.required)
        for name in names.values():
            for prefix in self._prefixes(name):
                covered[prefix] += self._own_name(name[len(prefix) :]) in required
        needed = len(required) - len(self.head)
        whole = sorted((prefix for prefix in covered if covered[prefix] >= needed), key=len, reverse=True)
        matches: list[Match] = []
        for prefix in whole or [prefix for prefix, _ in covered.most_common(1)]:
            # What stands under another network's prefix is that one's.
            others = tuple(match.prefix for match in matches if match.fits)
            tensors = {
                self._own_name(name[len(prefix) :]): table.tensors[key]
                for key, name in names.items()
                if name.startswith(prefix) and not name.startswith(others)
            }
            matches.append(self._match(table, prefix, tensors))
        return matches

    def _prefixes(self, name: str) -> Iterator[str]:
        """'', 'a.', 'a.b.' for 'a.b.c'; a body is no network of its own beside its classifier."""
        yield ""
        for dot in re.finditer(r"\.", name):
            prefix = name[: dot.end()]
            if not (isinstance(self.model, Body) and f".{prefix}".endswith(".body.")):
                yield prefix

    def _own_name(self, name: str) -> str:
        """What a name under a prefix is called here: without wrappers in its middle (one that it begins with is in the
        prefix), and where a Sequential was made of the network's children, with a child's name for its number."""
        first, *parts = name.split(".")
        if first.isdecimal() and int(first) < len(self._children):
            first = self._children[int(first)]
        own = ".".join([first, *(part for part in parts if part not in _WRAPPERS)])
        # Files of a network without a classifier know nothing of the place for one that it has here.
        return f"body.{own}" if isinstance(self.model, Body) and f"body.{own}" in self.shapes else own

    def _match(self, table: Table, prefix: str, tensors: Mapping[str, torch.Tensor]) -> Match:
        shapes = {key: tensor.shape for key, tensor in tensors.items()}
        options = {**self.options, **self.family.options_for(self.model, shapes)}
        wanted = dict(self.shapes)
        if options:
            # The head stays, where only a file brings one.
            wanted |= {key: tensor.shape for key, tensor in outline(self.name, **options).state_dict().items()}
        scores = f"{self.classifier}.weight"
        classes = shapes[scores][0] if shapes.get(scores) else wanted[scores][0]
        for key in self.head:
            wanted[key] = torch.Size((classes, *wanted[key][1:]))
        missing = tuple(key for key in self.required if key not in shapes)
        unknown = tuple(key for key in shapes if key not in wanted and not is_auxiliary(key))
        reshaped = tuple(key for key in shapes if key in self.shapes and shapes[key] != wanted[key])
        headless = bool(missing) and set(missing) <= set(self.head)
        # A classifier of several layers, or under another name in its place, leaves the network below it what it was.
        place = f"{self.classifier.partition('.')[0]}."
        own_head: tuple[str, ...] = ()
        if unknown and set(missing) <= set(self.head) and all(key.startswith(place) for key in unknown):
            own_head, unknown, headless = unknown, (), True
        if headless:
            drop = {*own_head, *self.head}
            tensors = {key: tensor for key, tensor in tensors.items() if key not in drop}
            reshaped = tuple(key for key in reshaped if key not in drop)
        version = self._older_version(tensors, classes, options) if reshaped and not (missing or unknown) else None
        return Match(
            table=table,
            prefix=prefix,
            tensors=tensors,
            classes=classes,
            options=options,
            version=version,
            missing=missing,
            unknown=unknown,
            reshaped=() if version else reshaped,
            headless=headless,
            own_head=own_head,
        )

    def _older_version(self, tensors: Mapping[str, torch.Tensor], classes: int, options: dict[str, Any]) -> int | None:
        """The older version of the layout that tensors are of, where its own loader (MNASNet's) knows one."""
        for version in range(self.model._version - 1, 0, -1):
            model = outline(self.name, classes, **options)
            state: OrderedDict[str, torch.Tensor] = OrderedDict(tensors)
            state._metadata = {"": {"version": version}}  # type: ignore[attr-defined]  # torch keeps it there
            with warnings.catch_warnings(), contextlib.suppress(RuntimeError):
                warnings.simplefilter("ignore")
                model.load_state_dict(state, strict=False)
                return version
        return None


def match_weights(name: str, tables: Sequence[Table], source: Path, **options: Any) -> tuple[Match, tuple[Match, ...]]:
    """The weights of an architecture among the tables of a file, and the others there that are some as well.

    options: what its builder is told, whatever the file.

    UserError where there are none: with what is missing, and the architecture that they are of where there is one.
    """
    architecture = Architecture(name, **options)
    matches = [match for table in tables for match in architecture.matches(table)]
    fitting = [match for match in matches if match.fits]
    if not fitting:
        raise _no_weights(name, matches, tables, source)
    first = min(fitting, key=_preference)
    return first, tuple(match for match in fitting if match is not first and not _equal(match, first))


def _preference(match: Match) -> tuple[int, bool, bool]:
    """What version 0.1.0 read, in its order, comes first, so that no file is another one today; then a network before
    copies of it, and one with its classifier."""
    place, plain = match.table.place, match.prefix in ("", "module.")
    rank = _PLACES_OF_0_1_0.index(place) if plain and place in _PLACES_OF_0_1_0 else len(_PLACES_OF_0_1_0)
    return rank, match.is_copy, match.headless


def _equal(match: Match, other: Match) -> bool:
    names = match.tensors.keys()
    return names == other.tensors.keys() and all(torch.equal(match.tensors[key], other.tensors[key]) for key in names)


def _no_weights(name: str, matches: Sequence[Match], tables: Sequence[Table], source: Path) -> UserError:
    """The error for a file without the architecture's weights, about what comes nearest to being them."""
    match = min(matches, key=lambda match: len(match.missing))
    if match.missing:
        complaint = f"it lacks {match.missing[0]}"
    elif match.unknown:
        complaint = f"it has {match.unknown[0]}"
    else:
        key = match.reshaped[0]
        wanted = dict(outline(name, match.classes, **match.options).state_dict())[key].shape
        complaint = f"{key} is {tuple(match.tensors[key].shape)}, not {tuple(wanted)}"
    place = f" ({match.place})" if match.place else ""
    if len(match.missing) == len(Architecture(name).required):
        largest = max(tables, key=lambda table: len(table.tensors))
        complaint, place = f"{complaint}, and its names are like {next(iter(largest.tensors))}", ""
    other = _architecture_of(tables)
    hint = (
        f"it holds those of {other}: give --backbone {other}" if other else "give the --backbone that it was made for"
    )
    return UserError(
        f"{source} does not hold weights of {name}: {complaint}{place} ({len(match.missing)} tensors missing, "
        f"{len(match.unknown)} unknown, {len(match.reshaped)} of another shape); {hint}"
    )


def _architecture_of(tables: Sequence[Table]) -> str | None:
    """torchvision's architecture whose weights are among tables; None where there is none."""
    names = [_modern(name) for table in tables for name in table.tensors]
    families = itertools.groupby(
        models.list_models(module=models), lambda name: models.get_model_builder(name).__module__
    )
    for _, members in families:
        family = list(members)
        # One member tells whether there is anything of a family's there: its first name.
        first = Architecture(family[0]).required[0]
        if any(name == first or name.endswith(f".{first}") for name in names):
            for name in family:
                architecture = Architecture(name)
                if any(match.fits for table in tables for match in architecture.matches(table)):
                    return name
    return None


def _modern(name: str) -> str:
    return _OLD_DENSENET.sub(r"\1\2", name)
