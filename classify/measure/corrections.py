"""Mathematics that was corrected: whose results of earlier versions are known to be wrong, and are never used again.

A correction raises a revision, which stands in the configuration of the rows that it concerns and of no others, so that
they are other rows than before and are made again.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from classify.measure.record import RowConfig


@dataclass(frozen=True)
class Correction:
    """revision: the one that is right. before: what was wrong with those before it, as the end of a sentence."""

    revision: int
    before: str


# By the names of regularisers.
CORRECTED = {
    "ewc": Correction(2, "its penalty lacked the half of the equation, and so was twice as strong"),
    "delta-attention": Correction(2, "its channel weights were all about 1"),
}


def revisions(names: Iterable[str]) -> dict[str, int] | None:
    """The revisions of those of the names that have been corrected; None where none has."""
    return {name: CORRECTED[name].revision for name in names if name in CORRECTED} or None


def superseded(config: RowConfig) -> str | None:
    """Why a result of this configuration is known to be wrong; None where it is not."""
    names = (text.partition("=")[0] for text in config.regularizers or ())
    for name, revision in (revisions(names) or {}).items():
        if (config.revisions or {}).get(name, 1) < revision:
            return f"{name} has been corrected since ({CORRECTED[name].before})"
    return None
