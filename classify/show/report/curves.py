"""The figures that hold many models of a section: accuracy by layer, and accuracy against time."""

from collections.abc import Iterable
from typing import Any

from classify.measure.wording import one_line
from classify.show.layers import SIZE, LayerRow, depth_order, layer_panels
from classify.show.report.charts import Figure, chart_figure
from classify.show.report.documents import Document
from classify.show.report.folder import Model, Section
from classify.show.report.tables import comparison_rows, record_row
from classify.show.trade_off import trade_off

MOST_CURVES = 6  # of single runs, those of the best models first
WHISKERS = "Whiskers are 95 % intervals over the test images."
CONTROLLED = f"{WHISKERS} Dashed and dotted: controls that a layer has to beat."
PRICED = "The line joins the models above the majority baseline that no other beats in both."
HOLLOW = "Hollow: controls and conditions of studies, which take no part in it; shuffled labels are left out."


def probe_curves(document: Document, name: str, section: Section) -> list[Figure]:
    """Accuracy by layer as a probe found it, one figure for each network and pooling."""
    rows = [_probed(row) for row in document.body["rows"]]
    config = document.body["rows"][0].get("config") or {}
    of_one = len(_networks(section)) > 1 and not any(row.network for row in rows)
    return _curves(rows, name, _network(config) if of_one else "", CONTROLLED)


def run_curves(models: Iterable[Model], name: str, section: Section) -> list[Figure]:
    """Accuracy by layer of heads that were run on several layers without a probe; one for each way they were made."""
    groups: dict[tuple[str, ...], list[Model]] = {}
    for model in models:
        config = model.saved.result.config
        if config.backbone and config.layer and not config.is_network and not config.reading and config.pool:
            made = (_network(config), *(detail for detail in model.details if not detail.startswith("pool=")))
            groups.setdefault(made, []).append(model)
    figures: list[Figure] = []
    for (network, *details), group in groups.items():
        if len({model.saved.result.config.layer for model in group}) < 2 or len(figures) >= MOST_CURVES:
            continue
        both = len({model.saved.result.refit for model in group}) > 1
        rows = [_single(model, both) for model in sorted(group, key=_depth)]
        about = ", ".join(filter(None, [network if len(_networks(section)) > 1 else "", *details]))
        figures += _curves(rows, f"{name}-{len(figures)}", about, WHISKERS)
    return figures


def time_figure(section: Section, name: str) -> Figure | None:
    """Test accuracy against the time until it can predict, of every model of a section that has both."""
    rows: list[dict[str, Any]] = []
    there: set[str] = set()
    for document in section.documents:
        if not document.is_probe:
            compared, _ = comparison_rows(document, section)
            for row, names in zip(compared, document.records, strict=True):
                # Of two comparisons with a row in common it is drawn once.
                rows += [] if there.issuperset(names) else [row]
                there.update(names)
    others = [model for model in section.models if model.saved.path.name not in there and model.kind != "shuffled"]
    rows += [{**record_row(model), "control": model not in section.candidates} for model in others]
    caption = f"{PRICED} {WHISKERS}" + (f" {HOLLOW}" if any(row.get("control") for row in rows) else "")
    return chart_figure(trade_off(rows), name, "Accuracy against time", caption)


def _curves(rows: list[LayerRow], name: str, about: str, caption: str) -> list[Figure]:
    panels = layer_panels(rows)
    curves = []
    for place, panel in enumerate(panels):
        pooling = panel.x.removeprefix("layer, ").removeprefix("layer of ") if len(panels) > 1 else ""
        by_size = panel.x.startswith(SIZE)
        details = one_line(", ".join(filter(None, [about, "" if by_size else pooling])))
        title = "Accuracy by image size" if by_size else "Accuracy by layer"
        title = f"{title} ({details})" if details else title
        curves.append(chart_figure([panel], f"{name}-curve-{place}", title, caption, beside=panels))
    return [curve for curve in curves if curve]


def _networks(section: Section) -> set[str]:
    """The networks whose layers the section's heads read, controls apart."""
    configs = [model.saved.result.config for model in section.candidates]
    return {_network(config) for config in configs if config.backbone and not config.is_network}


def _network(config: Any) -> str:
    parts = [config.get("backbone"), config.get("weights")]
    size = config.get("image_size")
    return ", ".join([str(part) for part in parts if part] + ([f"{size} px"] if size else []))


def _probed(row: dict[str, Any]) -> LayerRow:
    estimate = (row["accuracy"], row["accuracy_low"], row["accuracy_high"])
    named = (row["kind"], row["layer"], row["pool"], row["head"])
    return LayerRow(*named, row.get("validation") or 0.0, estimate, row.get("backbone") or "", _size(row))


def _size(row: dict[str, Any]) -> int:
    """The size that is told with the pooling; 0 where none is."""
    size = (row.get("config") or {}).get("image_size") or 0
    return size if size and (row.get("pool") or "").endswith(f" {size} px") else 0


def _single(model: Model, tell_refit: bool) -> LayerRow:
    result = model.saved.result
    config, metrics = result.config, result.metrics
    head = f"{config.head} (refitted)" if tell_refit and result.refit else config.head
    layer, pool, head = map(one_line, (config.layer, config.pool, head))
    estimate = (metrics.accuracy, *metrics.accuracy_interval)
    return LayerRow("layer", layer, pool, head, result.validation_accuracy or 0.0, estimate)


def _depth(model: Model) -> Any:
    return depth_order(model.saved.result.config.layer)
