"""Mathematics that was corrected: whose results of earlier versions are known to be wrong, and are never used again.

A correction has a name, which stands in the configuration of the rows that it concerns and of no others, so that they
are other rows than before and are made again.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from classify.measure.record import RowConfig


@dataclass(frozen=True)
class Correction:
    """name: as configurations have it. before: what was wrong without it, as the end of a sentence."""

    name: str
    before: str


# By the names of regularisers.
CORRECTED = {
    "ewc": Correction(
        "ewc with half of the penalty", "its penalty lacked the half of the equation, and so was twice as strong"
    ),
    "delta-attention": Correction(
        "delta-attention with standardised rises in loss", "its channel weights were all about 1"
    ),
}
# Version 0.1.0 gave regularisers what later in-place operations had left of the layers named to them.
SEEN_BEFORE = "layers seen before in-place operations"


def corrections(names: Iterable[str]) -> list[str]:
    """The names of the corrections of those regularisers that have been corrected."""
    return [CORRECTED[name].name for name in names if name in CORRECTED]


def superseded(config: RowConfig) -> str | None:
    """Why a result of this configuration is known to be wrong; None where it is not."""
    for text in config.regularizers or ():
        name = text.partition("=")[0]
        if name in CORRECTED and CORRECTED[name].name not in (config.corrections or ()):
            return f"{name} has been corrected since ({CORRECTED[name].before})"
    return None
