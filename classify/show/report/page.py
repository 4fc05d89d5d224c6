"""The page itself: one HTML file with everything in it, which no network is asked for.

Styles and the script are the package's own files, named by their SHA-256 in a Content-Security-Policy, so that nothing
else can run or be fetched. Whatever came from outside (class names, commands, file names) is escaped by the template;
data for the script stand in a block in which no '<' occurs.
"""

import base64
import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import resources
from typing import Any

import numpy as np

from classify.measure.environment import this_environment
from classify.measure.outcome import Result
from classify.measure.wording import count, one_line, percent, settings
from classify.show.layers import layer_panels
from classify.show.report.charts import Figure, chart_figure
from classify.show.report.documents import Answer, Study
from classify.show.report.errors import Error, Shown
from classify.show.report.folder import Model, Section
from classify.show.report.images import Sheet
from classify.show.report.maps import MapGroup
from classify.show.report.sentences import facts, headline, more_sentences, notes
from classify.show.report.stages import StageFigure
from classify.show.report.tables import (
    SortedTable,
    comparison_rows,
    model_table,
    record_rows,
    standings_table,
)
from classify.show.trade_off import trade_off
from classify.show.training import training_panels
from features.digests import sha256_json
from features.errors import UserError

MOST_CLASSES = 24  # in a confusion matrix; beyond, the pairs that are confused most
MOST_MATRICES = 200  # models to choose from, the best on validation first
MOST_PAIRS = 15
MOST_SHOWN = 360  # wrong images of all models of a section together
WHISKERS = "Whiskers are 95 % intervals over the test images. Dashed and dotted: controls that a layer has to beat."
JOINED = "The line joins the models that no other beats in both. Whiskers are 95 % intervals over the test images."
RINGED = "A ring marks the epoch whose weights were kept: the best on validation. The test set takes no part."


@dataclass(frozen=True, eq=False)
class Material:
    """What a section shows besides its results; each part may be missing.

    errors: record's file name -> the errors to show. sample: places of the mapped images in the best model's
    predictions. notes: what was left out and why.
    """

    errors: dict[str, list[Error]]
    sheet: Sheet | None = None
    sample: tuple[Shown, ...] = ()
    groups: tuple[MapGroup, ...] = ()
    stages: StageFigure | None = None
    notes: tuple[str, ...] = ()


def templates() -> Any:
    """The module jinja2; UserError where it is not installed."""
    try:
        import jinja2
    except ImportError as error:
        raise UserError("the report needs one more package: pip install 'layerprobe[report]'") from error
    return jinja2


def render(sections: list[tuple[Section, Material]], source: str, command: str) -> str:
    """The page as a text; UserError where jinja2 is not installed."""
    jinja2 = templates()
    files = resources.files(__package__)
    style, script = (files.joinpath(name).read_text("utf-8") for name in ("report.css", "report.js"))
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.from_string(files.joinpath("report.html.jinja").read_text("utf-8"))
    made = this_environment()
    return template.render(
        sections=[_context(number, *section) for number, section in enumerate(sections)],
        style=_trusted(style),
        script=_trusted(script),
        style_hash=_csp_hash(style),
        script_hash=_csp_hash(script),
        source=one_line(source),
        command=one_line(command),
        created=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        made=one_line(settings(made)),
    )


def _trusted(text: str) -> Any:
    """A text that stands in the page as it is."""
    from markupsafe import Markup

    return Markup(text)  # noqa: S704 - our own files and SVG whose every text is escaped where it is made


def _csp_hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def script_json(value: Any) -> str:
    """JSON that may stand inside a script element: ASCII, without '<', '>' and '&'."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _context(number: int, section: Section, material: Material) -> dict[str, Any]:
    """What the template shows of a section."""
    prefix = f"s{number}"
    shown_answers = _answers(prefix, section)
    trained = training_panels([(model.name, model.saved.result) for model in section.candidates])
    training = chart_figure(trained, f"{prefix}-training", "Training", RINGED)
    errors = {name: wrong for name, wrong in material.errors.items() if wrong}
    data = {
        "classes": list(section.classes) if len(section.classes) <= MOST_CLASSES else None,
        "confusion": _confusion(section),
        "errors": _errors_json(section, material, errors) if material.sheet and errors else None,
        "maps": _maps_json(section, material) if material.groups else None,
        "sheet": {
            "address": material.sheet.address,
            "side": material.sheet.side,
            "columns": material.sheet.columns,
        }
        if material.sheet
        else None,
    }
    return {
        "id": prefix,
        "title": section.title,
        "headline": headline(section),
        "more": more_sentences(section),
        "facts": facts(section),
        "notes": [*notes(section), *material.notes],
        "curves": [_figure(figure) for figure in shown_answers.curves],
        "layer_tables": shown_answers.layer_tables,
        "model_tables": shown_answers.model_tables,
        "prices": [_figure(figure) for figure in shown_answers.prices],
        "training": _figure(training) if training else None,
        "studies": [_study(study, f"{prefix}-study-{place}") for place, study in enumerate(section.studies)],
        "pairs": _pairs(section) if data["classes"] is None else None,
        "models": _choices(section.models[:MOST_MATRICES]),
        "wrong": _choices(tuple(model for model in section.models if model.saved.path.name in errors)),
        "map_groups": [
            {"name": group.name, "layers": [item.layer for item in group.layers], "first": _first_layer(section, group)}
            for group in material.groups
        ],
        "map_methods": list(dict.fromkeys(name for g in material.groups for item in g.layers for name in item.maps)),
        "map_size": len(material.sample),
        "map_model": section.best.name,
        "stages": material.stages,
        "stages_svg": [_trusted(item) for item in material.stages.drawings] if material.stages else [],
        "data": _trusted(script_json(data)),
        "sources": [_source(model) for model in section.models],
        "has_errors": data["errors"] is not None,
    }


@dataclass(frozen=True)
class _Answers:
    """The tables and figures of a section's comparisons, probes and single runs."""

    curves: list[Figure]
    layer_tables: list[SortedTable]
    model_tables: list[SortedTable]
    prices: list[Figure]


def _answers(prefix: str, section: Section) -> _Answers:
    made = _Answers([], [], [], [])
    for place, answer in enumerate(section.answers):
        name = f"{prefix}-{place}"
        if answer.is_probe:
            made.layer_tables.append(standings_table(answer, section, f"{name}-layers"))
            made.curves.extend(_curves(answer, name, section.dataset))
        else:
            rows, best = comparison_rows(answer, section)
            _add_models(made, rows, best, name, "Heads against networks")
    if section.alone:
        rows, best = record_rows(section.alone)
        caption = "Other results in this folder" if section.answers else "Heads and networks"
        _add_models(made, rows, best, f"{prefix}-runs", caption)
    return made


def _add_models(made: _Answers, rows: list[dict[str, Any]], best: int | None, name: str, caption: str) -> None:
    made.model_tables.append(model_table(rows, best, f"{name}-models", caption))
    figure = chart_figure(trade_off(rows), f"{name}-time", "Accuracy against time", JOINED)
    made.prices.extend([figure] if figure else [])


def _curves(answer: Answer, name: str, dataset: str) -> list[Figure]:
    config = answer.body["rows"][0].get("config") or {}
    about = [config.get("backbone"), config.get("weights"), config.get("image_size")]
    network = f"{about[0]}, {about[1]}, {about[2]} px" if None not in about else dataset
    panels = layer_panels([_Probed(row) for row in answer.body["rows"]])
    curves = []
    for place, panel in enumerate(panels):
        pooling = f", {panel.x.removeprefix('layer, ')}" if len(panels) > 1 else ""
        title = f"Accuracy by layer ({network}{pooling})"
        curves.append(chart_figure([panel], f"{name}-curve-{place}", title, WHISKERS))
    return [curve for curve in curves if curve]


class _Probed:
    """A row of a probe's document, as `layer_panels` takes it."""

    def __init__(self, row: dict[str, Any]) -> None:
        self.kind: str = row["kind"]
        self.layer: str = row["layer"]
        self.pool: str = row["pool"]
        self.head: str = row["head"]
        self.validation: float = row.get("validation") or 0.0
        self.estimate: tuple[float, float, float] = (row["accuracy"], row["accuracy_low"], row["accuracy_high"])


def _study(study: Study, name: str) -> dict[str, Any]:
    """What the template shows of a study."""
    figures = [
        chart_figure([panel], f"{name}-{place}", panel.title or study.body["study"])
        for place, panel in enumerate(study.panels)
    ]
    return {
        "id": name,
        "title": study.name,
        "answer": [one_line(line) for line in study.body["answer"]],
        "notes": [one_line(note) for note in study.body["notes"]],
        "tables": [
            (one_line(title), list(map(one_line, header)), [list(map(one_line, row)) for row in cells], notes)
            for title, header, cells, notes in study.tables
        ],
        "figures": [_figure(figure) for figure in figures if figure],
    }


def _first_layer(section: Section, group: MapGroup) -> str:
    """The layer whose map is shown first: the best model's, or the deepest."""
    layers = [layer.layer for layer in group.layers]
    best = one_line(section.best.saved.result.config.layer)
    return best if best in layers else layers[-1]


def _figure(figure: Figure) -> dict[str, Any]:
    return {
        "name": figure.name,
        "title": figure.title,
        "caption": figure.caption,
        "drawings": [_trusted(drawing) for drawing in figure.drawings],
        "table": figure.table,
    }


def _choices(models: tuple[Model, ...]) -> list[tuple[str, list[tuple[str, str]]]]:
    """(group, [(id, name with its accuracy)]) for a list to choose from, in the order of the models."""
    groups: dict[str, list[tuple[str, str]]] = {}
    for model in models:
        text = f"{model.name}: {percent(model.saved.result.metrics.accuracy)} %"
        groups.setdefault(model.group, []).append((model.anchor, text))
    return list(groups.items())


def _confusion(section: Section) -> dict[str, Any] | None:
    if len(section.classes) > MOST_CLASSES:
        return None
    return {
        model.anchor: {
            "counts": [list(row) for row in model.saved.result.metrics.confusion],
            "outside": model.saved.result.metrics.outside,
        }
        for model in section.models[:MOST_MATRICES]
    }


def _pairs(section: Section) -> list[tuple[str, str, str, str]]:
    """The pairs of classes that the best model confuses most, where a matrix would be too large to look at."""
    metrics = section.best.saved.result.metrics
    matrix = np.array(metrics.confusion)
    np.fill_diagonal(matrix, 0)
    order = np.argsort(-matrix, axis=None, kind="stable")[:MOST_PAIRS]
    pairs = []
    for truth, guess in zip(*np.unravel_index(order, matrix.shape), strict=True):
        if number := int(matrix[truth, guess]):
            share = percent(number / metrics.support[truth], 1)
            pairs.append((section.classes[truth], section.classes[guess], count(number), share))
    return pairs


def _errors_json(section: Section, material: Material, errors: dict[str, list[Error]]) -> dict[str, Any]:
    places = material.sheet.places if material.sheet else {}
    by_model = {}
    for model in section.models:
        wrong = errors.get(model.saved.path.name)
        if not wrong:
            continue
        metrics = model.saved.result.metrics
        by_model[model.anchor] = {
            "name": model.name,
            "all": metrics.n - metrics.correct,
            "sure": any(error.sure is not None for error in wrong),
            "shown": [[places[e.row], e.row, e.truth, e.said, e.sure] for e in wrong if e.row in places],
        }
    return by_model


def _maps_json(section: Section, material: Material) -> dict[str, Any]:
    places = material.sheet.places if material.sheet else {}
    points = [[places.get(e.row, -1), e.row, e.label, e.truth, e.said, e.sure, e.right] for e in material.sample]
    groups = [
        {layer.layer: {"maps": layer.maps, "note": layer.note} for layer in group.layers} for group in material.groups
    ]
    return {"points": points, "groups": groups, "model": section.best.name}


def _source(model: Model) -> dict[str, Any]:
    """Where a model's numbers come from."""
    result: Result = model.saved.result
    metrics = result.metrics
    low, high = metrics.accuracy_interval
    keys = [
        (one_line(what), sha256_json(key), one_line(settings({n: v for n, v in key.items() if n != "preprocessing"})))
        for what, key in result.keys.items()
    ]
    lines = [
        ("command", one_line(result.command) or "not recorded"),
        ("finished", one_line(result.created)),
        ("record", one_line(model.saved.path.name)),
        ("SHA-256 of its predictions", one_line(model.saved.files.get("predictions", "not recorded"))),
        ("accuracy", f"{metrics.accuracy!r} (95 % interval {low!r} to {high!r}), {metrics.correct} of {metrics.n}"),
        ("chosen on validation", one_line(settings(result.chosen))),
        ("rows", one_line(settings(result.rows))),
        ("seconds", one_line(settings(result.seconds))),
        ("configuration", one_line(settings(result.config))),
        ("versions", one_line(settings(result.environment))),
    ]
    return {"anchor": model.anchor, "name": model.name, "group": model.group, "lines": lines, "cache": keys}
