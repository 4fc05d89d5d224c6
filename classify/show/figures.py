"""Figures of results, drawn with matplotlib (the extra `figures`) without a display. Results are read, never computed.

Colours are Okabe and Ito's, which people with any colour vision tell apart, and every line has a marker of its own.
"""

from pathlib import Path
from typing import Any

from features.errors import UserError

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
GREY = "#666666"


def save_figure(figure: Any, path: Path | str) -> list[Path]:
    """Write a figure and say where; a path without .png, .svg or .pdf gets both a PNG and an SVG file beside it."""
    path = Path(path)
    known = path.suffix.lower() in (".png", ".svg", ".pdf")
    paths = [path] if known else [path.with_name(f"{path.name}{ending}") for ending in (".png", ".svg")]
    for target in paths:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            # Without a date the same figure is the same file.
            metadata = {} if target.suffix.lower() == ".png" else {"Date": None} if target.suffix == ".svg" else None
            figure.savefig(target, dpi=160, metadata=metadata)
        except OSError as error:
            raise UserError(
                f"{target}: the figure cannot be written there ({error.strerror}); name another place"
            ) from error
    return paths


def figure_class():
    """matplotlib's `Figure`, which needs no display; UserError with the way out where it is not installed."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UserError("figures need one more package: pip install 'layerprobe[figures]'") from error
    return Figure
