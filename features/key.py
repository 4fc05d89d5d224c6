"""The identity of a cache file: everything that determines the numbers in it; and what people are told about it.

Two runs share a file exactly when their keys are equal. A cache keyed on less returns another layer's, another
model's or another image size's features without a word.
"""

import dataclasses
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from features.digests import sha256_json

FORMAT = 1
DTYPES = ("float32", "float16")  # of the stored numbers
# Of a layer whose output is read and written over by a later operation: version 0.1.0 may have taken it afterwards.
TAKEN_BEFORE = 1


@dataclass(frozen=True, kw_only=True)
class CacheKey:
    """What one file of features holds; every field is a string or a number, so that it can be compared and printed.

    dataset: SHA-256 of the data set's content. split: 'train', 'validation' or 'test'. rows: SHA-256 of the rows'
    numbers. backbone: the architecture's name. weights: SHA-256 of its tensors. layer: the node of the traced graph.
    pool: 'avg', 'max', 'grid:N' or 'none'. preprocessing: canonical JSON of what happens to an image before the
    network. precision: the resolved one, of the computation; int8 with the digits of its ranges, `int8:...` (see
    `features.ranges`). dtype: of the stored numbers. revision: of how this layer is computed; 0 where version 0.1.0 was
    right. architecture: the package that defines it and its version; '' for torchvision's, whose networks stay what
    they are, and for what version 0.1.0 had. views: as `features.views.Views` writes them; '' for the images alone.
    These three are not written down where they mean what version 0.1.0 did.
    """

    dataset: str
    split: str
    rows: str
    backbone: str
    weights: str
    layer: str
    pool: str
    image_size: int
    preprocessing: str
    precision: str
    dtype: str = "float32"
    format: int = FORMAT
    revision: int = 0
    architecture: str = ""
    views: str = ""

    @cached_property
    def digest(self) -> str:
        """64 hex digits that name the file."""
        return sha256_json(self.to_json())

    def to_json(self) -> dict[str, str | int]:
        """The fields as a dictionary, without those that came after version 0.1.0 and mean what it did."""
        fields = dataclasses.asdict(self)
        return {name: value for name, value in fields.items() if name not in _LATER or value != _LATER[name]}

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> "CacheKey":
        """The key that `to_json` described; ValueError if a field is missing, unknown or of the wrong type."""
        expected = {field.name: int if field.type is int else str for field in dataclasses.fields(cls)}
        fields = {**_LATER, **fields}
        if set(fields) != set(expected):
            raise ValueError(f"a cache key has the fields {sorted(expected)}, not {sorted(fields)}")
        for name, kind in expected.items():
            if type(fields[name]) is not kind:
                raise ValueError(f"the cache key's {name} is {fields[name]!r}, which is not of type {kind.__name__}")
        return cls(**fields)

    def differences(self, other: "CacheKey") -> dict[str, tuple[str | int, str | int]]:
        """The fields in which two keys differ: name -> (this one's value, the other's)."""
        fields, others = dataclasses.asdict(self), dataclasses.asdict(other)
        return {name: (fields[name], others[name]) for name in fields if fields[name] != others[name]}


# Fields that came after version 0.1.0, with what they are where it knew nothing of them.
_LATER: dict[str, str | int] = {"revision": 0, "architecture": "", "views": ""}


def short_digest(key: CacheKey) -> str:
    """The 16 hex digits by which a key's files are found."""
    return key.digest[:16]


@dataclass(frozen=True)
class About:
    """What people are told about a file; no part of its identity."""

    dataset_name: str
    layer_name: str
    classes: tuple[str, ...]
    weights_name: str

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> "About":
        """The names as `dataclasses.asdict` gave them; ValueError or TypeError where they are not those."""
        about = cls(**{**fields, "classes": tuple(fields["classes"])})
        names = (about.dataset_name, about.layer_name, about.weights_name, *about.classes)
        if not all(isinstance(name, str) for name in names):
            raise ValueError("names that are no text")
        return about
