"""The page itself: one HTML file with everything in it, which no network is asked for.

Styles and the script are the package's own files, named by their SHA-256 in a Content-Security-Policy, so that nothing
else can run or be fetched. Whatever came from outside (class names, commands, file names) is escaped by the template,
but for SVG, every text of which is escaped where it is made, and data for the script, in which no '<' occurs.
"""

import base64
import hashlib
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import resources
from typing import Any

from classify.measure.environment import this_environment
from classify.measure.outcome import Result
from classify.measure.wording import one_line, percent, settings
from classify.show.report.charts import Figure, chart_figure
from classify.show.report.checks import Check
from classify.show.report.contents import TITLES, contents
from classify.show.report.curves import probe_curves, run_curves, time_figure
from classify.show.report.documents import Study
from classify.show.report.downloads import csv_address, table_csv
from classify.show.report.errors import Shown
from classify.show.report.folder import Model, Section, shared_details, shared_settings
from classify.show.report.images import Sheet
from classify.show.report.maps import MapGroup
from classify.show.report.sentences import facts, headline, more_sentences, notes
from classify.show.report.tables import (
    comparison_rows,
    model_table,
    record_rows,
    standings_table,
)
from classify.show.tables import pairs_table
from classify.show.training import training_panels
from features.digests import sha256_json
from features.errors import UserError

MOST_CLASSES = 24  # in a confusion matrix; beyond, the pairs that are confused most
MOST_MATRICES = 200  # models to choose from, the best on validation first
MOST_PAIRS = 15
MOST_SHOWN = 360  # wrong images of all models of a section together
# A sign and its digits are read in one way only: texts come from strangers' documents too.
_NUMBER = re.compile(r"[-<\d]?\s?[\d.,]*(\s?(±|[-+/]|to|%|s|ms|min|h|GB)(\s?[\d.,]+)?)*$")
_SPOKEN = re.compile(r"""(>|aria-label="|data-tip=")([^<"]+)""")
RINGED = "A ring marks the epoch whose weights were saved: the best on validation. The test set takes no part."


@dataclass(frozen=True, eq=False)
class Material:
    """What a section shows besides its results; each part may be missing.

    errors: record's file name -> the errors to show. sample: places of the mapped images in the best model's
    predictions. notes: what was left out and why. looked: where the best model looked when it was wrong.
    """

    errors: dict[str, list[Shown]]
    sheet: Sheet | None = None
    sample: tuple[Shown, ...] = ()
    groups: tuple[MapGroup, ...] = ()
    stages: Figure | None = None
    notes: tuple[str, ...] = ()
    looked: Figure | None = None


def templates() -> Any:
    """The module jinja2; UserError where it is not installed."""
    try:
        import jinja2
    except ImportError as error:
        raise UserError("the report needs one more package: pip install 'layerprobe[report]'") from error
    return jinja2


def render(
    sections: list[tuple[Section, Material]],
    checks: Sequence[Check],
    source: str,
    command: str,
    hide: Callable[[str], str] = str,
) -> str:
    """The page as a text; UserError where jinja2 is not installed. hide: takes out of a text what is not to be told."""
    jinja2 = templates()
    files = resources.files(__package__)
    style, script = (files.joinpath(name).read_text("utf-8") for name in ("report.css", "report.js"))
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        # All that is written passes here, but for what is markup already: SVG, and data for the script.
        finalize=lambda value: _hidden(value, hide) if type(value) is str else value,
    )
    template = environment.from_string(files.joinpath("report.html.jinja").read_text("utf-8"))
    made = this_environment()
    shown = [_context(number, *section, hide) for number, section in enumerate(sections)]
    return template.render(
        sections=shown,
        checks=checks,
        contents=contents(shown, checks),
        titles=TITLES,
        numeric=numeric,
        csv=lambda header, rows: csv_address(header, rows, hide),
        table_csv=lambda table: table_csv(table, hide),
        painted=lambda drawings: painted(drawings, hide),
        style=style,
        script=script,
        style_hash=_csp_hash(style),
        script_hash=_csp_hash(script),
        source=one_line(source),
        command=one_line(command),
        created=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        made=one_line(settings(made)),
    )


def _csp_hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def numeric(header: Sequence[str], rows: Sequence[Sequence[str]]) -> frozenset[str]:
    """The columns of numbers, which stand below each other digit by digit."""
    cells = dict(zip(header, zip(*rows, strict=False), strict=False))
    return frozenset(name for name, texts in cells.items() if all(_NUMBER.match(text) for text in texts))


def painted(drawings: Sequence[str], hide: Callable[[str], str]) -> str:
    """SVG for the page: texts and labels pass `hide`, pictures stay."""
    return _SPOKEN.sub(lambda match: match[1] + hide(match[2]), "".join(drawings))


def _hidden(value: Any, hide: Callable[[str], str]) -> Any:
    """JSON values, of which texts pass `hide`; pictures and the names of values stay."""
    if isinstance(value, dict):
        return {name: _hidden(part, hide) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_hidden(part, hide) for part in value]
    return hide(value) if isinstance(value, str) and not value.startswith("data:") else value


def script_json(value: Any) -> str:
    """JSON that may stand inside a script element: ASCII, without '<', '>' and '&'."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _context(number: int, section: Section, material: Material, hide: Callable[[str], str]) -> dict[str, Any]:
    """What the template shows of a section."""
    prefix = f"s{number}"
    trained = training_panels([(model.name, model.saved.result) for model in section.candidates])
    training = chart_figure(trained, f"{prefix}-training", "Training", RINGED)
    errors = {name: wrong for name, wrong in material.errors.items() if wrong}
    data = {
        "classes": list(section.classes) if len(section.classes) <= MOST_CLASSES else None,
        "confusion": _confusion(section),
        "errors": _errors_json(section, material, errors) if material.sheet and errors else None,
        "maps": _maps_json(section, material) if material.groups else None,
        "sheet": material.sheet.about if material.sheet else None,
    }
    return {
        "id": prefix,
        "title": section.title,
        "headline": headline(section),
        "shared": shared_settings(section),
        "more": more_sentences(section),
        "facts": facts(section),
        "notes": [*notes(section), *material.notes],
        **_answered(prefix, section),
        "training": training,
        "studies": [_study(study, f"{prefix}-study-{place}") for place, study in enumerate(section.studies)],
        "pairs": pairs_table(section.best.saved.result, MOST_PAIRS) if data["classes"] is None else None,
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
        "looked": material.looked,
        "data": script_json(_hidden(data, hide)),
        "sources": [_source(model) for model in section.models],
        "has_errors": data["errors"] is not None,
    }


def _answered(prefix: str, section: Section) -> dict[str, list[Any]]:
    """The tables and figures of a section's comparisons, probes and single runs."""
    blocks: dict[str, list[Any]] = {"curves": [], "layer_tables": [], "model_tables": [], "prices": []}
    for place, document in enumerate(section.documents):
        name = f"{prefix}-{place}"
        if document.is_probe:
            blocks["layer_tables"].append(standings_table(document, section, f"{name}-layers"))
            blocks["curves"] += probe_curves(document, name, section)
        else:
            rows, best = comparison_rows(document, section)
            blocks["model_tables"].append(model_table(rows, best, f"{name}-models", "Heads against networks"))
    if section.alone:
        caption = "Other results in this folder" if section.documents else "Heads and networks"
        rows, best = record_rows(section.alone)
        table = model_table(rows, best, f"{prefix}-runs-models", caption, shared_details(section.alone))
        blocks["model_tables"].append(table)
        blocks["curves"] += run_curves(section.alone, f"{prefix}-runs", section)
    if figure := time_figure(section, f"{prefix}-time"):
        blocks["prices"].append(figure)
    return blocks


def _study(study: Study, name: str) -> dict[str, Any]:
    """What the template shows of a study."""
    figures = [
        chart_figure([panel], f"{name}-{place}", panel.title or study.body["study"], beside=study.panels)
        for place, panel in enumerate(study.panels)
    ]
    return {
        "id": name,
        "heading": study.heading,
        "entry": "Search" if study.is_search else f"Study of {study.body['study']}",
        "name": study.body["study"],
        "answer": [one_line(line) for line in study.body["answer"]],
        "notes": [one_line(note) for note in study.body["notes"]],
        "tables": [
            (
                one_line(title),
                list(map(one_line, header)),
                [list(map(one_line, row)) for row in cells],
                _unstarred(notes),
            )
            for title, header, cells, notes in study.tables
        ],
        "figures": list(filter(None, figures)),
    }


def _unstarred(notes: Sequence[str]) -> list[str]:
    """The notes of a study's table but for what a star means: which cells have one is in no document."""
    return [note for note in notes if not note.startswith("* ")]


def _first_layer(section: Section, group: MapGroup) -> str:
    """The layer whose map is shown first: the best model's, or the deepest."""
    layers = [layer.layer for layer in group.layers]
    best = one_line(section.best.saved.result.config.layer)
    return best if best in layers else layers[-1]


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


def _errors_json(section: Section, material: Material, errors: dict[str, list[Shown]]) -> dict[str, Any]:
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
