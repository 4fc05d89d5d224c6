"""What a page shows besides the results themselves, collected from the data set, the cache and the backbone.

Every part may be missing: then the page does without it and says so. Nothing is downloaded, extracted or trained.
"""

from collections.abc import Callable
from dataclasses import dataclass

from classify.measure.wording import counted
from classify.show.report.errors import Shown, errors_of, shown
from classify.show.report.folder import CONTROLS, Section
from classify.show.report.images import TestImages, open_images
from classify.show.report.looked import Explain, see_where
from classify.show.report.maps import MapGroup, map_layers, sample_rows
from classify.show.report.page import MOST_SHOWN, Material
from classify.show.report.stages import see_stages

MOST_BYTES = 2_000_000  # of all the page's images, uncompressed


@dataclass(frozen=True)
class PageRequest:
    """What a page is to show besides results.

    sample: test images on the maps of the features; seed: of both. dataset: where the user says that the images are.
    explain: what says where a model looked; None leaves that out.
    """

    sample: int
    seed: int
    maps: bool
    images: bool
    stages: bool
    dataset: str | None = None
    explain: Explain | None = None


def gather(
    sections: tuple[Section, ...], request: PageRequest, say: Callable[[str], None] | None = None
) -> list[tuple[Section, Material]]:
    """Each section with its material; `say` is told what is worked on."""
    gathered = []
    for number, section in enumerate(sections):
        if say:
            say(f"{section.title}: {counted(len(section.models), 'result')}")
        gathered.append((section, _material(section, number, MOST_BYTES // len(sections), request)))
    return gathered


def _material(section: Section, number: int, room: int, request: PageRequest) -> Material:
    classes = section.classes
    notes: list[str] = []
    best = section.best.saved.predictions().of_test_split()
    chosen = sample_rows(best, request.sample, request.seed)
    groups: tuple[MapGroup, ...] = ()
    if request.maps:
        groups, left_out = map_layers(section, best.rows[chosen], request.seed)
        notes += left_out
    points: tuple[Shown, ...] = tuple(shown(best, int(place), classes) for place in chosen) if groups else ()
    opened = open_images(section, request.dataset) if request.images else ""
    if not isinstance(opened, TestImages):
        notes += [opened] if opened else []
        return Material({}, None, points, groups, None, tuple(notes))
    errors, rows = _errors(section)
    rows += [point.row for point in points if point.row not in rows]
    sheet = opened.sheet(rows, room) if rows else None
    figure, looked = None, None
    if request.explain:
        own = errors.get(section.best.saved.path.name, ())
        where = see_where(section, opened, own, f"s{number}-looked", request.explain)
        if isinstance(where, str):
            notes += [where] if where else []
        else:
            looked = where
    right = best.rows[best.labels == best.predicted]
    if request.stages and len(right):
        row = int(right[0])
        truth = classes[int(best.labels[best.rows == row][0])]
        seen = see_stages(section, opened, row, truth, f"s{number}-stages")
        if isinstance(seen, str):
            notes.append(seen)
        else:
            figure = seen
    return Material(errors, sheet, points, groups, figure, tuple(notes), looked)


def _errors(section: Section) -> tuple[dict[str, list[Shown]], list[int]]:
    """The errors of the models, best on validation first, until there are images enough; and their test rows."""
    errors: dict[str, list[Shown]] = {}
    rows: dict[int, None] = {}
    for model in section.models:
        if model.kind in CONTROLS:
            continue
        wrong = errors_of(model, section.classes)
        # A model whose images would go beyond the limit shows those that others brought already.
        if len(rows.keys() | {error.row for error in wrong}) > MOST_SHOWN:
            wrong = [error for error in wrong if error.row in rows]
        errors[model.saved.path.name] = wrong
        rows |= dict.fromkeys(error.row for error in wrong)
    return errors, list(rows)
