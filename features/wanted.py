"""A file of the cache that answers a part of a request."""

from dataclasses import dataclass
from typing import Any

from features.key import About, CacheKey


@dataclass(frozen=True)
class Wanted:
    """One file that answers a part of a request.

    layer and pool are as people ask for them, node and key.pool what they come to. rows of `total` are wanted;
    shape is that of one row, (views, ...) where there are several. whole is the same file over all rows, which serves
    any subset.
    """

    split: str
    layer: str
    pool: str
    key: CacheKey
    about: About
    shape: tuple[int, ...]
    rows: int
    whole: CacheKey

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> "Wanted":
        """The file that `dataclasses.asdict` described; an error of some kind where it described none."""
        key, whole = (CacheKey.from_json(fields[name]) for name in ("key", "whole"))
        about, shape = About.from_json(fields["about"]), tuple(fields["shape"])
        return cls(**{**fields, "key": key, "whole": whole, "about": about, "shape": shape})
