"""What stands in a folder of results, sorted for a page: a section for each data set and set of test images.

Records are read by `classify.measure.results`, what probes, comparisons and studies wrote by `documents`. Nothing is
computed but the order of things.
"""

from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from classify.measure.choice import best_of, by_rank
from classify.measure.outcome import Result
from classify.measure.record import RowConfig
from classify.measure.results import SavedResult, left_out, sorted_out
from classify.measure.soundness import SUPERSEDED
from classify.measure.wording import counted, one_line, settings
from classify.show.report.documents import Document, Study, read_documents, read_studies
from features.commands.speaking import tell
from features.errors import UserError

MOST_MODELS = 600  # on a page, besides those that documents name; each takes 4 kB
# Rows of a probe that are no candidates for the answer but what the others are held against.
CONTROLS = {
    "random": "random weights",
    "pixels": "raw pixels",
    "shuffled": "shuffled labels",
    "pca": "PCA to a common width",
    "projection": "random projection to a common width",
}
_Written = TypeVar("_Written", Document, Study)
# What is said once above all models where it is the same for them, and how it is spelled. Images are counted as they
# were used: a limit above what there is cuts nothing.
_SHARED: tuple[Callable[[Result], str], ...] = (
    lambda result: result.config.backbone or "",
    lambda result: f"weights {result.config.weights}" if result.config.weights else "",
    lambda result: f"{result.config.image_size} px" if result.config.image_size else "",
    lambda result: f"{result.config.pool} pooling" if result.config.pool else "",
    lambda result: counted(result.training_images, "training image") if result.training_images else "",
    lambda result: _chosen_on(result),
    lambda result: f"seed {result.config.seed}" if "seed" in result.config else "",
)
# Of a configuration, what a model's name says already or nobody asks for.
_NOT_TOLD = ("dataset", "dataset_sha256", "weights_sha256", "head", "layer", "refit", "limit_test", "row_seed")


def _chosen_on(result: Result) -> str:
    """What it was chosen on, and that it was fitted again after that."""
    if result.config.on_folds:
        return f"chosen out of folds ({result.config.validate})"
    return "refitted on training and validation images" if result.config.refit else ""


@dataclass(frozen=True, eq=False)
class Model:
    """A record as the page calls it. kind: 'comparison', 'layer', a control's name, 'study', or 'other' for plain runs.

    details: 'seed=1' and the like, in which it differs from others of its kind of model.
    """

    saved: SavedResult
    plain: str
    kind: str
    details: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """What it is called where it stands among all others."""
        return self.name_beside(())

    def name_beside(self, shared: Container[str]) -> str:
        """What it is called among models that share some details."""
        differing = ", ".join(detail for detail in self.details if detail not in shared)
        return f"{self.plain}, {differing[:80]}" if differing else self.plain

    @property
    def anchor(self) -> str:
        """The id of its place on the page."""
        return f"r-{self.saved.result.digest[:10]}"

    @property
    def group(self) -> str:
        """What it is listed under where models are chosen."""
        if self.kind in CONTROLS:
            return f"Control: {CONTROLS[self.kind]}"
        return {"comparison": "Comparison", "other": "Single runs", "study": "Studies"}.get(self.kind, "Probe")


@dataclass(frozen=True, eq=False)
class Section:
    """Everything about one data set and one number of test images.

    models: the best on validation first, then as `choice` ranks them, controls last. documents: of probes and
    comparisons, the one that names the best first, then the newest. studies: in the order of their names. left_out:
    results that are not among the models, since there are too many for a page.
    """

    title: str
    models: tuple[Model, ...]
    documents: tuple[Document, ...]
    studies: tuple[Study, ...] = ()
    left_out: int = 0

    @property
    def dataset(self) -> str:
        """The data set's name."""
        return one_line(self.models[0].saved.result.config.dataset or "data")

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the labels, fit to be shown."""
        return tuple(map(one_line, self.models[0].saved.result.metrics.classes))

    @property
    def candidates(self) -> tuple[Model, ...]:
        """The models that are no controls, and no conditions of a study unless there is nothing else."""
        models = tuple(model for model in self.models if model.kind not in CONTROLS)
        return tuple(model for model in models if model.kind != "study") or models

    @property
    def best(self) -> Model:
        """The one that was best on validation."""
        return self.models[0]

    @property
    def leading(self) -> Document | None:
        """The document that names the best model; None where that is a single run's."""
        first = self.documents[0] if self.documents else None
        return first if first and first.best[0] == self.best.saved.path.name else None

    @property
    def alone(self) -> tuple[Model, ...]:
        """The models that neither a probe nor a comparison names."""
        return tuple(model for model in self.models if model.kind == "other")

    def find(self, record: str) -> Model | None:
        """The model of a record's file name."""
        return next((model for model in self.models if model.saved.path.name == record), None)


def read_folder(folder: Path | str, *, empty: bool = False) -> tuple[Section, ...]:
    """The sections of a folder, the one with the most models first; UserError where it holds damaged results, or none
    though it may not be empty."""
    folder = Path(folder)
    saved, wrong = sorted_out(folder)
    if wrong and not saved:
        raise UserError(left_out(folder, wrong))
    if wrong:
        tell(left_out(folder, wrong))
    if not saved and empty:
        return ()
    if not saved:
        what = "holds no results" if folder.is_dir() else "is not there"
        raise UserError(
            f"{folder} {what}; make some with `python -m classify probe --quick`, or name another --results"
        )
    places = {record.path.name: _place(record) for record in saved}
    created = {record.path.name: record.result.created for record in saved}
    documents: dict[tuple, list[Document]] = {}
    for document in _sound(read_documents(folder), folder, wrong):
        # A document whose records have all gone says nothing that could be followed up.
        named = [name for row in document.records for name in row if name in places]
        if named:
            documents.setdefault(places[named[0]], []).append(document)
    studies: dict[tuple, list[Study]] = {}
    for study in _sound(read_studies(folder), folder, wrong):
        if named := [name for name in study.records if name in places]:
            studies.setdefault(places[named[0]], []).append(study)
    sections = []
    for place in dict.fromkeys(places.values()):
        here = [record for record in saved if places[record.path.name] == place]

        def newest(document: Document) -> str:
            return max(created.get(name, "") for row in document.records for name in row)

        mine = sorted(documents.get(place, ()), key=newest, reverse=True)
        models = _models(here, mine, studies.get(place, ()))
        mine.sort(key=lambda document: document.best[0] != models[0].saved.path.name)
        alike = {other[1] for other in places.values() if other[0] == place[0]}
        sections.append(Section(_title(here[0], len(alike) > 1), models, tuple(mine), tuple(studies.get(place, ()))))
    most = MOST_MODELS // len(sections)
    return tuple(_fitting(section, most) for section in sorted(sections, key=lambda section: -len(section.models)))


def _sound(documents: Sequence[_Written], folder: Path, wrong: Sequence[tuple[SavedResult, str]]) -> list[_Written]:
    """The documents that rest on no result that is, or was, known to be wrong; of the others a line is said."""
    names = {saved.path.name for saved, _ in wrong} | {path.name for path in (folder / SUPERSEDED).glob("*.json")}
    sound = [document for document in documents if names.isdisjoint(document.names)]
    for path in sorted({document.path for document in documents} - {document.path for document in sound}):
        tell(f"{path}: left out, since it shows results that are known to be wrong; run its command again or remove it")
    return sound


def _fitting(section: Section, most: int) -> Section:
    """The section with so many of the models that no document names, those best on validation."""
    others = set([model for model in section.models if model.kind == "other"][most:])
    models = tuple(model for model in section.models if model not in others)
    return replace(section, models=models, left_out=len(others))


def _place(saved: SavedResult) -> tuple:
    config = saved.result.config
    return config.dataset, config.dataset_sha256, saved.result.metrics.n, saved.result.metrics.classes


def _title(saved: SavedResult, of_several: bool) -> str:
    """of_several: other data sets have the same name, so that digits of the content have to tell them apart."""
    name = one_line(saved.result.config.dataset or "data")
    digits = f" ({(saved.result.config.dataset_sha256 or '')[:8]})" if of_several else ""
    return f"{name}{digits}, {counted(saved.result.metrics.n, 'test image')}"


def _models(saved: Sequence[SavedResult], documents: Sequence[Document], studies: Sequence[Study]) -> tuple[Model, ...]:
    kinds: dict[str, str] = {}
    for document in documents:
        rows = document.body["rows"]
        for row, names in zip(rows, document.records, strict=True):
            for name in names:
                kinds.setdefault(name, row["kind"] if document.is_probe else "comparison")
    studied = frozenset[str]().union(*(study.names for study in studies))
    for record in saved:
        # What a study found made already belongs to whoever made it; what it made is its own before it has ended, too.
        if "study" in record.command.split()[1:4] or (not record.command and record.path.name in studied):
            kinds.setdefault(record.path.name, "study")
    # What a head learnt from shuffled labels is a control wherever it came from.
    kinds |= {record.path.name: "shuffled" for record in saved if record.result.config.labels == "shuffled"}
    kinds = {record.path.name: kinds.get(record.path.name, "other") for record in saved}
    # Models to choose from are told apart from each other; controls from these, too.
    configs = [record.result.config for record in saved]
    candidates = [place for place, record in enumerate(saved) if kinds[record.path.name] not in CONTROLS]
    details = _details(configs)
    for place, differing in zip(candidates, _details([configs[place] for place in candidates]), strict=True):
        details[place] = differing
    models = [
        Model(record, name, kinds[record.path.name], differing)
        for record, name, differing in zip(saved, _names(configs), details, strict=True)
    ]

    # A comparison's row over several seeds counts by its mean.
    by_name = {record.path.name: record.result for record in saved}
    rows = {
        names: [by_name[name] for name in names] for document in documents for names in _candidates(document, by_name)
    }
    rows |= {(model.saved.path.name,): [model.saved.result] for model in models if model.kind == "other"}
    if not rows:
        of_studies = [model for model in models if model.kind == "study"]
        whole = [model for model in of_studies if not model.saved.result.config.training_set] or of_studies
        rows = {(model.saved.path.name,): [model.saved.result] for model in whole}
    best = best_of(list(rows), rows.__getitem__)[0] if rows else ""
    ranked = by_rank(models, lambda model: [model.saved.result])

    def order(model: Model) -> tuple[bool, ...]:
        return model.kind in CONTROLS, model.saved.path.name != best, model.kind == "study"

    return tuple(sorted(ranked, key=order))


def _candidates(document: Document, there: Container[str]) -> list[tuple[str, ...]]:
    """The records behind each row of a document that may be chosen, where they are all there."""
    rows = zip(document.body["rows"], document.records, strict=True)
    return [
        names
        for row, names in rows
        if names and all(name in there for name in names) and not (document.is_probe and row["kind"] in CONTROLS)
    ]


def plain_name(config: RowConfig) -> str:
    """A model in a few words, as `compare` calls it: 'svm on layer3', 'finetune layer4'."""
    network = config.is_network or config.reading
    return one_line(config.network_label if network else f"{config.head or 'model'} on {config.layer or 'features'}")


def _names(configs: Sequence[RowConfig]) -> list[str]:
    """What each is called: with '(refitted)' only where the same model is there without a refit as well."""
    names = [plain_name(config) for config in configs]
    once = {name for name, config in zip(names, configs, strict=True) if not config.refit}
    # On folds every row is fitted on all images in the end.
    both = [config.refit and not config.on_folds and name in once for name, config in zip(names, configs, strict=True)]
    return [f"{name} (refitted)" if refitted else name for name, refitted in zip(names, both, strict=True)]


def _details(configs: Sequence[RowConfig]) -> list[tuple[str, ...]]:
    """For each configuration what it differs in from those that have the same name."""
    names = _names(configs)
    details: list[tuple[str, ...]] = [()] * len(configs)
    for name in {name for name in names if names.count(name) > 1}:
        same = [place for place, other in enumerate(names) if other == name]
        fields_of = {place: _told(configs[place]) for place in same}
        fields = dict.fromkeys(field for place in same for field in fields_of[place])
        differing = [field for field in fields if len({str(fields_of[place].get(field)) for place in same}) > 1]
        for place in same:
            values = {field: fields_of[place][field] for field in differing if fields_of[place].get(field) is not None}
            details[place] = tuple(one_line(settings({field: value}))[:60] for field, value in values.items())
    return details


def _told(config: RowConfig) -> dict[str, Any]:
    """What may tell a configuration from others; of what has parts, such as the training, its parts."""
    fields: dict[str, Any] = {}
    for field, value in config.items():
        if field not in _NOT_TOLD:
            fields |= value if isinstance(value, dict) else {field: value}
    return fields


def shared_details(models: Sequence[Model]) -> tuple[str, ...]:
    """The details that all of these models have, which need not be said of each."""
    first = models[0].details if len(models) > 1 else ()
    return tuple(detail for detail in first if all(detail in model.details for model in models))


def shared_settings(section: Section) -> str:
    """What all models that may be chosen were made with, as far as it is the same for every one of them."""
    results = [model.saved.result for model in section.candidates or section.models]
    spelled = [{tell(result) for result in results} for tell in _SHARED]
    return one_line(", ".join(filter(None, (texts.pop() for texts in spelled if len(texts) == 1))))
