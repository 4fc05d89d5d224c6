"""What stands in a folder of results, sorted for a page: a section for each data set and set of test images.

Records are read by `classify.measure.results`; the answers of `probe` and `compare` are read here from their JSON
files, which are checked before use. Nothing is computed but the order of things.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from classify.measure.results import SavedResult, load_results
from classify.measure.wording import count, one_line, settings
from classify.show.network_tables import network_label
from features.errors import UserError

MOST_MODELS = 600  # on a page, besides those that answers name; each takes 4 kB
PROBE, COMPARISON = "layerprobe probe", "layerprobe comparison"
VERSION = 1
# Rows of a probe that are no candidates for the answer but what the others are held against.
CONTROLS = {
    "random": "random weights",
    "pixels": "raw pixels",
    "shuffled": "shuffled labels",
    "pca": "PCA to a common width",
    "projection": "random projection to a common width",
}
# Of a configuration, what a model's name says already or nobody asks for.
_NOT_TOLD = ("dataset", "dataset_sha256", "weights_sha256", "head", "layer", "refit", "limit_test", "row_seed")


@dataclass(frozen=True, eq=False)
class Model:
    """A record as the page calls it. kind: 'comparison', 'layer', a control's name, or 'other' for plain runs."""

    saved: SavedResult
    name: str
    kind: str

    @property
    def anchor(self) -> str:
        """The id of its place on the page."""
        return f"r-{self.saved.result.digest[:10]}"

    @property
    def group(self) -> str:
        """What it is listed under where models are chosen."""
        if self.kind in CONTROLS:
            return f"Control: {CONTROLS[self.kind]}"
        return {"comparison": "Comparison", "other": "Single runs"}.get(self.kind, "Probe")


@dataclass(frozen=True, eq=False)
class Answer:
    """What a probe or a comparison wrote: the file, its JSON, and for each row the names of the records behind it."""

    path: Path
    body: dict[str, Any]
    records: tuple[tuple[str, ...], ...]

    @property
    def is_probe(self) -> bool:
        """Whether `probe` wrote it; else `compare` did."""
        return self.body["format"] == PROBE

    @property
    def best(self) -> tuple[str, float]:
        """The name of the record that was best on validation, and its accuracy there; no name where none is known."""
        rows = zip(self.body["rows"], self.records, strict=True)
        known = [(row["validation"], names) for row, names in rows if row.get("validation") is not None and names]
        if self.is_probe:
            known = [(value, names) for value, names in known if names[0] == self.body["best"]["result"]]
        value, names = max(known, key=lambda pair: pair[0], default=(0.0, ("",)))
        return names[0], value


@dataclass(frozen=True, eq=False)
class Section:
    """Everything about one data set and one number of test images.

    models: the best on validation first, then by validation accuracy, controls last. answers: of probes and
    comparisons, the one that names the best first, then the newest. left_out: results that are not among the models,
    since there are too many for a page.
    """

    title: str
    models: tuple[Model, ...]
    answers: tuple[Answer, ...]
    left_out: int = 0

    @property
    def dataset(self) -> str:
        """The data set's name."""
        return one_line(self.models[0].saved.result.config.get("dataset", "data"))

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the labels, fit to be shown."""
        return tuple(map(one_line, self.models[0].saved.result.metrics.classes))

    @property
    def candidates(self) -> tuple[Model, ...]:
        """The models that are no controls."""
        return tuple(model for model in self.models if model.kind not in CONTROLS)

    @property
    def best(self) -> Model:
        """The one that was best on validation."""
        return self.models[0]

    @property
    def leading(self) -> Answer | None:
        """The answer that found the best model; None where that is a single run's."""
        found = self.answers[0] if self.answers else None
        return found if found and found.best[0] == self.best.saved.path.name else None

    @property
    def alone(self) -> tuple[Model, ...]:
        """The models that neither a probe nor a comparison names."""
        return tuple(model for model in self.models if model.kind == "other")

    def find(self, record: str) -> Model | None:
        """The model of a record's file name."""
        return next((model for model in self.models if model.saved.path.name == record), None)


def read_folder(folder: Path | str) -> tuple[Section, ...]:
    """The sections of a folder, the one with the most models first; UserError where it holds no results, or damaged
    ones."""
    folder = Path(folder)
    saved = load_results(folder)
    for each in saved:
        for name, fits in _EXTRA.items():
            if not fits(value := each.result.extra.get(name)):
                raise UserError(
                    f"{each.path}: this record of a result is damaged (its {name} cannot be {str(value)[:40]!r}); "
                    "remove the file and run it again"
                )
    if not saved:
        what = "holds no results" if folder.is_dir() else "is not there"
        raise UserError(
            f"{folder} {what}; make some with `python -m classify probe --quick`, or name another --results"
        )
    places = {each.path.name: _place(each) for each in saved}
    created = {each.path.name: each.result.created for each in saved}
    answers: dict[tuple, list[Answer]] = {}
    for answer in _read_answers(folder):
        # An answer whose records have all gone says nothing that could be followed up.
        named = [name for row in answer.records for name in row if name in places]
        if named:
            answers.setdefault(places[named[0]], []).append(answer)
    sections = []
    for place in dict.fromkeys(places.values()):
        here = [each for each in saved if places[each.path.name] == place]

        def newest(answer: Answer) -> str:
            return max(created.get(name, "") for row in answer.records for name in row)

        found = sorted(answers.get(place, ()), key=newest, reverse=True)
        models = _models(here, found)
        found.sort(key=lambda answer: answer.best[0] != models[0].saved.path.name)
        sections.append(Section(_title(here[0]), models, tuple(found)))
    most = MOST_MODELS // len(sections)
    return tuple(_fitting(section, most) for section in sorted(sections, key=lambda section: -len(section.models)))


def _fitting(section: Section, most: int) -> Section:
    """The section with so many of the models that no answer names, those best on validation."""
    others = set([model for model in section.models if model.kind == "other"][most:])
    models = tuple(model for model in section.models if model not in others)
    return replace(section, models=models, left_out=len(others))


def _place(saved: SavedResult) -> tuple:
    config = saved.result.config
    return config.get("dataset"), config.get("dataset_sha256"), saved.result.metrics.n, saved.result.metrics.classes


def _title(saved: SavedResult) -> str:
    name = one_line(saved.result.config.get("dataset", "data"))
    return f"{name}, {count(saved.result.metrics.n)} test images"


def _models(saved: Sequence[SavedResult], answers: Sequence[Answer]) -> tuple[Model, ...]:
    kinds: dict[str, str] = {}
    for answer in answers:
        rows = answer.body["rows"]
        for row, names in zip(rows, answer.records, strict=True):
            for name in names:
                kinds.setdefault(name, row["kind"] if answer.is_probe else "comparison")
    # What a head learnt from shuffled labels is a control wherever it came from.
    kinds |= {each.path.name: "shuffled" for each in saved if each.result.config.get("labels") == "shuffled"}
    kinds = {each.path.name: kinds.get(each.path.name, "other") for each in saved}
    names = _names([each.result.config for each in saved])
    models = [Model(each, name, kinds[each.path.name]) for each, name in zip(saved, names, strict=True)]

    # A comparison's row over several seeds counts by its mean; of equals the newest answer's comes first.
    bests = [answer.best for answer in answers if answer.best[0] in kinds]
    bests += [(model.saved.path.name, _validated(model)) for model in models if model.kind == "other"]
    best = max(bests, key=lambda pair: pair[1], default=("", 0.0))[0]

    def order(model: Model) -> tuple:
        return model.kind in CONTROLS, model.saved.path.name != best, -_validated(model)

    return tuple(sorted(models, key=order))


def _validated(model: Model) -> float:
    return model.saved.result.validation_accuracy or 0.0


def plain_name(config: dict[str, Any]) -> str:
    """A model in a few words, as `compare` calls it: 'svm on layer3 (refitted)', 'finetune layer4'."""
    head = config.get("head", "model")
    network = "training" in config or config.get("reading")
    name = network_label(config) if network else f"{head} on {config.get('layer', 'features')}"
    return one_line(f"{name} (refitted)" if config.get("refit") else name)


def _names(configs: Sequence[dict[str, Any]]) -> list[str]:
    """A name for each configuration; where names are equal, with what the configurations differ in."""
    names = [plain_name(config) for config in configs]
    for name in {name for name in names if names.count(name) > 1}:
        same = [place for place, each in enumerate(names) if each == name]
        fields = dict.fromkeys(field for place in same for field in configs[place] if field not in _NOT_TOLD)
        told = [field for field in fields if len({str(configs[place].get(field)) for place in same}) > 1]
        for place in same:
            values = {field: configs[place][field] for field in told if configs[place].get(field) is not None}
            names[place] = f"{name}, {one_line(settings(values))[:80]}" if values else name
    return names


def _read_answers(folder: Path) -> list[Answer]:
    found = []
    for path in sorted(folder.glob("*.json")):
        if not path.name.startswith(("probe-", "compare-")) or not path.is_file():
            continue
        try:
            body = json.loads(path.read_bytes())
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror}); make it readable or move it away") from error
        except (ValueError, RecursionError) as error:
            raise _damaged(path, "not complete JSON") from error
        if isinstance(body, dict) and body.get("format") in (PROBE, COMPARISON):
            if type(body.get("version")) is int and body["version"] != VERSION:
                raise UserError(
                    f"{path}: written in version {body['version']} of the answer, and this layerprobe reads {VERSION}; "
                    "use the layerprobe that wrote it or move the file away"
                )
            if fault := _fault(body):
                raise _damaged(path, fault)
            names = "result" if body["format"] == PROBE else "results"
            records = tuple((row[names],) if names == "result" else tuple(row[names]) for row in body["rows"])
            found.append(Answer(path, body, records))
    return found


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


def _shape(fields: dict[str, Callable[[Any], bool]]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, dict) and all(fits(value.get(name)) for name, fits in fields.items())


# Of what a record adds to its result, the fields that are shown.
_EPOCH = {"epoch": lambda value: type(value) is int and value > 0}
_EPOCH |= dict.fromkeys(("loss", "validation_accuracy", "seconds"), _maybe(_number))
_EXTRA = {"history": _maybe(_list_of(_shape(_EPOCH)))}
_EXTRA |= dict.fromkeys(("trained_parameters", "predict_one_seconds", "peak_host_bytes"), _maybe(_number))
_ROW = {"layer": _text, "accuracy": _number, "accuracy_low": _number, "accuracy_high": _number, "macro_f1": _number}
_PROBED = {"kind": _text, "pool": _text, "head": _text, "result": _text, "validation": _maybe(_number)}
_COMMON = {"version": lambda value: value == VERSION, "answer": _list_of(_text), "notes": _list_of(_text)}
_STANDING = {
    "kind": _text,
    "layer": _text,
    "pool": _text,
    "head": _text,
    "accuracy": _number,
    "accuracy_interval": lambda value: _list_of(_number)(value) and len(value) == 2,
    "flops": _maybe(_number),
    "bytes": _maybe(_number),
    "p_value": _maybe(_number),
}
_FIELDS = {
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
                }
            )
        ),
    },
}


def _fault(body: dict[str, Any]) -> str:
    """The first thing that is not as `probe` and `compare` write it, or nothing."""
    for name, fits in _FIELDS[body["format"]].items():
        if not fits(body.get(name)):
            return f"its {name} cannot be {str(body.get(name))[:40]!r}"
    return ""
