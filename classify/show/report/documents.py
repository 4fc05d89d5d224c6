"""What probes, comparisons and studies wrote into a folder of results: JSON documents, checked before use.

Those of version 0.1.0 are of the same format.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from classify.measure.wording import one_line, percent_interval
from classify.show.panels import Level, Line, Panel
from classify.show.table import spelled
from features.errors import UserError
from features.regular import read_regular

PROBE, COMPARISON, STUDY = "layerprobe probe", "layerprobe comparison", "layerprobe study"
CHECK, SEARCH = "layerprobe check", "layerprobe search"
VERSION = 1


@dataclass(frozen=True, eq=False)
class Document:
    """What a probe or a comparison wrote: the file, its JSON, and for each row the names of the records behind it."""

    path: Path
    body: dict[str, Any]
    records: tuple[tuple[str, ...], ...]

    @property
    def names(self) -> frozenset[str]:
        """The names of all records behind it."""
        return frozenset(name for row in self.records for name in row)

    @property
    def is_probe(self) -> bool:
        """Whether `probe` wrote it; else `compare` did."""
        return self.body["format"] == PROBE

    @property
    def best(self) -> tuple[str, float]:
        """The name of the record that was best on validation, and its accuracy there; no name where none is known."""
        rows = zip(self.body["rows"], self.records, strict=True)
        validated = [(row["validation"], names) for row, names in rows if row.get("validation") is not None and names]
        named = self.body["best"]["result"] if self.is_probe else self.body.get("best_result")
        if named is not None:  # Comparisons of version 0.1.0 do not say it.
            validated = [(value, names) for value, names in validated if names[0] == named]
        value, names = max(validated, key=lambda pair: pair[0], default=(0.0, ("",)))
        return names[0], value


@dataclass(frozen=True, eq=False)
class Study:
    """What a study, or a search, wrote: the file and its JSON."""

    path: Path
    body: dict[str, Any]

    @property
    def name(self) -> str:
        """Which study it is, and what was asked of which network."""
        asked = self.body["question"]
        asked = asked["request"] if self.is_search else asked
        about = [asked.get("dataset"), asked.get("backbone"), PurePath(str(asked.get("weights") or "")).name]
        size = f"{asked['image_size']} px" if asked.get("image_size") else None
        return one_line(f"{self.body['study']}: {', '.join(str(part) for part in (*about, size) if part)}")

    @property
    def is_search(self) -> bool:
        """Whether `probe --search` wrote it."""
        return self.body["format"] == SEARCH

    @property
    def heading(self) -> str:
        """What stands above it."""
        return f"{self.name[:1].upper()}{self.name[1:]}" if self.is_search else f"Study of {self.name}"

    @property
    def records(self) -> tuple[str, ...]:
        """The names of the records behind it."""
        return tuple(self.body["results"])

    @property
    def names(self) -> frozenset[str]:
        """The same without order."""
        return frozenset(self.records)

    @property
    def panels(self) -> tuple[Panel, ...]:
        """What it drew."""
        return tuple(map(_panel, self.body["panels"]))

    @property
    def tables(self) -> list[tuple[str, list[str], list[list[str]], list[str]]]:
        """(title, header, cells, notes) of each table, as people read it."""
        shown = []
        for table in self.body["tables"]:
            header, cells = table.get("header"), table.get("cells")
            if header is None or cells is None:
                header, cells = _from_numbers(table["rows"])
            shown.append((table["title"], header, cells, table["notes"]))
        return shown


def _from_numbers(rows: list[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Header and cells of a table of 0.1.0, which kept the numbers alone, in the order of their names: words first, and
    an accuracy with the ends of its interval as one."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    estimates = [name for name in names if {f"{name}_low", f"{name}_high"} <= set(names)]
    ends = {f"{name}_{end}" for name in estimates for end in ("low", "high")}
    words = [name for name in names if any(isinstance(row.get(name), str) for row in rows)]
    header = [*words, *(name for name in names if name not in words and name not in ends)]

    def cell(row: dict[str, Any], name: str) -> str:
        parts = [row.get(part) for part in (name, f"{name}_low", f"{name}_high")]
        numbers = [float(part) for part in parts if part is not None and _number(part)]
        if name in estimates and len(numbers) == 3:
            return percent_interval((numbers[0], numbers[1], numbers[2]))
        return spelled(row.get(name))

    return header, [[cell(row, name) for name in header] for row in rows]


def _panel(fields: dict[str, Any]) -> Panel:
    lines = tuple(
        Line(
            line["label"],
            tuple(line["x"]),
            tuple(line["y"]),
            tuple(line["low"]),
            tuple(line["high"]),
            dashed=line.get("dashed") is True,
            connected=line.get("connected") is not False,
        )
        for line in fields["lines"]
    )
    levels = tuple(
        Level(level["label"], level["y"], level.get("dashed") is True) if isinstance(level, dict) else level
        for level in fields["levels"]
    )
    ticks = tuple((place, str(text)) for place, text in fields["ticks"])
    log = fields.get("log") is True and all(x > 0 for line in lines for x in line.x)
    return Panel(fields["title"], fields["x"], fields["y"], lines, log, ticks, levels, fields.get("errors") is True)


def read_documents(folder: Path) -> list[Document]:
    """What probes and comparisons wrote into a folder; UserError naming a file that is damaged."""
    documents = []
    for path, body in _read(folder, {"probe-": PROBE, "compare-": COMPARISON}):
        names = "result" if body["format"] == PROBE else "results"
        records = tuple((row[names],) if names == "result" else tuple(row[names]) for row in body["rows"])
        documents.append(Document(path, body, records))
    return documents


@dataclass(frozen=True, eq=False)
class CheckDocument:
    """What a check of a data set wrote: the file and its JSON."""

    path: Path
    body: dict[str, Any]


def read_checks(folder: Path) -> list[CheckDocument]:
    """What checks wrote into a folder, the oldest first; UserError naming a file that is damaged."""
    checks = [CheckDocument(path, body) for path, body in _read(folder, {"check-": CHECK})]
    return sorted(checks, key=lambda check: check.path.stat().st_mtime_ns)


def read_studies(folder: Path) -> list[Study]:
    """What studies and searches wrote into a folder; UserError naming a file that is damaged."""
    return [Study(path, body) for path, body in _read(folder, {"study-": STUDY, "search-": SEARCH})]


def _read(folder: Path, formats: dict[str, str]) -> Iterator[tuple[Path, dict[str, Any]]]:
    """The documents in files whose names begin so, each of the format that goes with it."""
    for path in sorted(folder.glob("*.json")):
        beginning = next(filter(path.name.startswith, formats), None)
        if beginning is None or not path.is_file():
            continue
        try:
            body = json.loads(read_regular(path))
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror}); make it readable or move it away") from error
        except (ValueError, RecursionError) as error:
            raise _damaged(path, "not complete JSON") from error
        if isinstance(body, dict) and body.get("format") == formats[beginning]:
            if type(body.get("version")) is int and body["version"] != VERSION:
                raise UserError(
                    f"{path}: written in version {body['version']} of the answer, and this layerprobe reads {VERSION}; "
                    "use the layerprobe that wrote it or move the file away"
                )
            if fault := _fault(body):
                raise _damaged(path, fault)
            yield path, body


def _damaged(path: Path, reason: str) -> UserError:
    return UserError(f"{path}: this answer is damaged ({reason}); remove the file and run the command again")


def _number(value: Any) -> bool:
    return type(value) in (int, float) and -1e300 < value < 1e300


def _maybe(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or fits(value)


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _list_of(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and all(map(fits, value))


def _shape(fields: Mapping[str, Callable[[Any], bool]]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, dict) and all(fits(value.get(name)) for name, fits in fields.items())


_ROW = {"layer": _text, "accuracy": _number, "accuracy_low": _number, "accuracy_high": _number, "macro_f1": _number}
_PROBED = {"kind": _text, "pool": _text, "head": _text, "result": _text, "validation": _maybe(_number)}
_PROBED["backbone"] = _maybe(_text)  # where several are probed
_COMMON = {"version": lambda value: value == VERSION, "answer": _list_of(_text), "notes": _list_of(_text)}
_STANDING = {
    "kind": _text,
    "backbone": _maybe(_text),
    "layer": _text,
    "pool": _text,
    "head": _text,
    "accuracy": _number,
    "accuracy_interval": lambda value: _list_of(_number)(value) and len(value) == 2,
    "flops": _maybe(_number),
    "bytes": _maybe(_number),
    "p_value": _maybe(_number),
}
_NUMBERS = _list_of(_number)
_LINE = {"label": _text, "x": _NUMBERS, "y": _NUMBERS, "low": _NUMBERS, "high": _NUMBERS}
_PANEL = {
    "title": _text,
    "x": _text,
    "y": _text,
    "lines": _list_of(lambda value: _shape(_LINE)(value) and _as_long(value)),
    "ticks": _list_of(lambda value: isinstance(value, list) and len(value) == 2 and _number(value[0])),
    "levels": _list_of(lambda value: _number(value) or _shape({"label": _text, "y": _number})(value)),
}
_TABLE = {"title": _text, "rows": _list_of(lambda value: isinstance(value, dict)), "notes": _list_of(_text)}
_TABLE |= {"header": _maybe(_list_of(_text)), "cells": _maybe(_list_of(_list_of(_text)))}
_ITEM = {"path": _text, "says": _maybe(_text), "split": _maybe(_text), "label": _maybe(_text)}
_SPLIT = {**dict.fromkeys(("split", "largest", "smallest"), _text)}
_SPLIT |= dict.fromkeys(("images", "classes", "most", "least", "share"), _number)
_FIELDS = {
    CHECK: {
        **_COMMON,
        "dataset": _text,
        "question": _shape({"request": _shape({"dataset": _text}), "dataset_sha256": _text}),
        "splits": _list_of(_shape(_SPLIT)),
        "findings": _list_of(_shape({"kind": _text, "line": _text, "items": _list_of(_shape(_ITEM))})),
    },
    STUDY: {
        **_COMMON,
        "study": _text,
        "question": lambda value: isinstance(value, dict),
        "tables": _list_of(_shape(_TABLE)),
        "panels": _list_of(_shape(_PANEL)),
        "results": _list_of(_text),
    },
    SEARCH: {
        **_COMMON,
        "study": _text,
        "question": lambda value: isinstance(value, dict) and _shape({})(value.get("request")),
        "tables": _list_of(_shape(_TABLE)),
        "panels": _list_of(_shape(_PANEL)),
        "results": _list_of(_text),
    },
    PROBE: {
        **_COMMON,
        "rows": _list_of(_shape({**_ROW, **_PROBED})),
        "layers": _list_of(_shape(_STANDING)),
        "best": _shape({"result": _text}),
    },
    COMPARISON: {
        **_COMMON,
        "rows": _list_of(
            _shape(
                {
                    **_ROW,
                    "model": _text,
                    "fitted_on": _text,
                    "accuracies": _list_of(_number),
                    "cost_seconds": _number,
                    "results": _list_of(_text),
                    **dict.fromkeys(
                        ("validation", "log_loss", "ece", "trained_parameters", "p_value", "one_seconds"),
                        _maybe(_number),
                    ),
                    **dict.fromkeys(("extract_seconds", "train_seconds", "peak_memory"), _maybe(_number)),
                    **dict.fromkeys(("peak_gpu_memory", "seeds_mean", "seeds_sd"), _maybe(_number)),
                }
            )
        ),
    },
}


def _as_long(line: dict[str, Any]) -> bool:
    """Whether a line has as many heights as places, and ends of intervals for all of them or for none."""
    ends = {len(line["low"]), len(line["high"])}
    return len(line["x"]) == len(line["y"]) and ends in ({0}, {len(line["x"])})


def _fault(body: dict[str, Any]) -> str:
    """The first thing that is not as `probe`, `compare` and `study` write it, or nothing."""
    for name, fits in _FIELDS[body["format"]].items():
        if not fits(body.get(name)):
            return f"its {name} cannot be {str(body.get(name))[:40]!r}"
    return ""
