"""Figures of results, drawn with matplotlib (the extra `figures`) without a display. Results are read, never computed.

Colours are Okabe and Ito's, which people with any colour vision tell apart, and every line has a marker of its own.
"""

from pathlib import Path
from typing import Any

import numpy as np

from features.errors import UserError

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
GREY = "#666666"
# From here on, accuracies are drawn by their errors: 99 % is as far from 90 % as 99.9 % from 99 %.
MOSTLY_RIGHT = 0.9


def probe_figure(result: Any):
    """Accuracy on the test set by layer, one line for each head with 95 % intervals, controls dashed.

    result: a `ProbeResult`. A panel for each pooling. UserError where matplotlib is not installed.
    """
    rows = [row for row in result.rows if row.kind in ("layer", "selection", "head2toe")]
    pools = list(dict.fromkeys(row.pool for row in rows))
    layers = {pool: list(dict.fromkeys(_label(row) for row in rows if row.pool == pool)) for pool in pools}
    widths = [max(3, len(names)) for names in layers.values()]
    figure = figure_class()(figsize=(2.6 + 0.95 * sum(widths), 4.8), layout="constrained")
    axes = figure.subplots(1, len(pools), sharey=True, squeeze=False, width_ratios=widths)[0]
    heads = list(dict.fromkeys(row.head for row in rows))
    for panel, pool in zip(axes, pools, strict=True):
        _draw_panel(panel, result, [row for row in rows if row.pool == pool], layers[pool], heads)
        panel.set_xlabel(f"layer, {pool} pooling" if len(pools) > 1 else "layer, from the image to the classes")
    _scale(axes[0], result)
    axes[0].set_ylabel("accuracy on the test set, %")
    handles = {label: line for panel in axes for line, label in zip(*panel.get_legend_handles_labels(), strict=True)}
    order = [*heads, *(f"{head}, random weights" for head in heads)]
    labels = sorted(handles, key=lambda label: order.index(label) if label in order else len(order))
    shown = [handles[label] for label in labels]
    figure.legend(shown, labels, loc="outside right center", frameon=False, fontsize=9)
    config, best = result.best.result.config, result.best
    figure.suptitle(
        f"{config['dataset']}, {config['backbone']} ({config['weights']}), {config['image_size']} px\n"
        f"best on validation: {best.layer} with {best.head}",
        fontsize=10,
        x=0.01,
        ha="left",
    )
    return figure


def save_figure(figure: Any, path: Path | str) -> list[Path]:
    """Write a figure and say where; a path without .png, .svg or .pdf gets both a PNG and an SVG file beside it."""
    path = Path(path)
    known = path.suffix.lower() in (".png", ".svg", ".pdf")
    paths = [path] if known else [path.with_name(f"{path.name}{ending}") for ending in (".png", ".svg")]
    for each in paths:
        try:
            each.parent.mkdir(parents=True, exist_ok=True)
            # Without a date the same figure is the same file.
            metadata = {} if each.suffix.lower() == ".png" else {"Date": None} if each.suffix == ".svg" else None
            figure.savefig(each, dpi=160, metadata=metadata)
        except OSError as error:
            raise UserError(
                f"{each}: the figure cannot be written there ({error.strerror}); name another place"
            ) from error
    return paths


def figure_class():
    """matplotlib's `Figure`, which needs no display; UserError with the way out where it is not installed."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UserError("figures need one more package: pip install 'layerprobe[figures]'") from error
    return Figure


def _draw_panel(panel: Any, result: Any, rows: list, layers: list[str], heads: list[str]) -> None:
    for number, head in enumerate(heads):
        colour, marker = COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]
        # Heads that are equally good would lie on each other.
        shift = 0.07 * (number - (len(heads) - 1) / 2)
        mine = [row for row in rows if row.head == head]
        single = [row for row in mine if row.kind == "layer" and "+" not in row.layer]
        several = [row for row in mine if row not in single]
        style = {"color": colour, "marker": marker, "markersize": 5, "linewidth": 1.6, "capsize": 2}
        _points(panel, single, layers, shift, label=head, linestyle="-", **style)
        _points(panel, several, layers, shift, label=None if single else head, linestyle="none", **style)
        random = [found for row in single if (found := result.find("random", row))]
        faint = {**style, "linewidth": 1.2, "markersize": 4, "markerfacecolor": "white"}
        _points(panel, random, layers, shift, label=f"{head}, random weights", linestyle="--", **faint)
    _levels(panel, result)
    panel.set_xticks(range(len(layers)), layers, rotation=35, ha="right", fontsize=9)
    panel.set_xlim(-0.5, len(layers) - 0.5)
    panel.grid(axis="y", color="#dddddd", linewidth=0.6)
    panel.set_axisbelow(True)
    panel.spines[["top", "right"]].set_visible(False)


def _points(panel: Any, rows: list, layers: list[str], shift: float, *, label: str | None, **style: Any) -> None:
    if not rows:
        return
    places = [layers.index(_label(row)) + shift for row in rows]
    values = np.array([100 * row.accuracy for row in rows])
    ends = np.array([[100 * end for end in row.interval] for row in rows]).T
    errors = np.maximum(np.abs(ends - values), 0)
    panel.errorbar(places, _below_all(values), yerr=errors, label=label, **style)


def _levels(panel: Any, result: Any) -> None:
    """Controls that have no layer: the best head on pixels, and what shuffled labels leave."""
    pixels = [row for row in result.rows if row.kind == "pixels"]
    if pixels:
        best = max(pixels, key=lambda row: row.validation)
        panel.axhline(100 * best.accuracy, color=GREY, linestyle="--", linewidth=1.2, label=f"raw pixels, {best.head}")
    shuffled = [row.accuracy for row in result.rows if row.kind == "shuffled"]
    if shuffled:
        panel.axhline(
            100 * float(np.mean(shuffled)), color=GREY, linestyle=(0, (1.5, 2)), linewidth=1.2, label="shuffled labels"
        )


def _scale(panel: Any, result: Any) -> None:
    """Percent as they are, or spread towards 100 where the best is mostly right and differences are small."""
    shown = [
        row for row in result.rows if row.kind in ("layer", "selection", "head2toe", "random", "pixels", "shuffled")
    ]
    if max(row.accuracy for row in shown) < MOSTLY_RIGHT:
        panel.set_ylim(0, 100)
        return
    panel.set_yscale("function", functions=(_errors_apart, _percent_again))
    low = min(row.interval[0] for row in shown)
    high = max(row.interval[1] for row in shown)
    ticks = [0, 50, 80, 90, 95, 97, 98, 99, 99.5, 99.8, 99.9, 99.95, 99.99]
    bottom = next((tick for tick in reversed(ticks) if tick <= 100 * low), 0)
    top = next((tick for tick in ticks if tick >= 100 * high), 99.99)
    panel.set_yticks([tick for tick in ticks if bottom <= tick <= top])
    panel.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    panel.minorticks_off()
    panel.set_ylim(bottom, top)


def _errors_apart(percent: np.ndarray) -> np.ndarray:
    return -np.log10(1.0 - np.minimum(np.asarray(percent, dtype=float), 99.995) / 100)


def _percent_again(height: np.ndarray) -> np.ndarray:
    return 100 * (1 - 10.0 ** -np.asarray(height, dtype=float))


def _below_all(values: np.ndarray) -> np.ndarray:
    """No error at all has no place on a scale of errors."""
    return np.minimum(values, 99.99)


def _label(row: Any) -> str:
    if row.kind == "head2toe":
        return "Head2Toe"
    return f"selected:\n{row.layer}" if row.kind == "selection" else row.layer.replace("+", "+\n")
