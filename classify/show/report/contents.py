"""What stands on the page, in its order, for the table of contents."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from classify.show.report.charts import Figure
from classify.show.report.checks import Check

# What the parts are called that every section may have, by the end of their id.
TITLES = {
    "pairs": "What is confused most",
    "confusion": "What is taken for what",
    "errors": "What it got wrong",
    "map": "How the layers arrange the images",
    "sources": "Where the numbers come from",
}


@dataclass(frozen=True)
class Entry:
    """A place on the page: its id, what it is called, and what stands below it."""

    anchor: str
    title: str
    parts: tuple["Entry", ...] = ()


def contents(sections: Sequence[Mapping[str, Any]], checks: Sequence[Check]) -> list[Entry]:
    """An entry for each section and each check. sections: as the template shows them."""
    of_sections = [Entry(section["id"], section["title"], _parts(section)) for section in sections]
    return of_sections + [Entry(check.id, check.title) for check in checks]


def _parts(section: Mapping[str, Any]) -> tuple[Entry, ...]:
    def own(name: str) -> Entry:
        return Entry(f"{section['id']}-{name}", TITLES[name])

    def figures(drawn: Sequence[Figure]) -> list[Entry]:
        return [Entry(figure.name, figure.title) for figure in drawn]

    tables = [*section["layer_tables"], *section["model_tables"]]
    return (
        *figures(section["curves"]),
        *(Entry(table.name, table.table.title) for table in tables),
        *figures(section["prices"]),
        own("pairs" if section["pairs"] is not None else "confusion"),
        *([own("errors")] if section["has_errors"] else []),
        *figures([section["looked"]] if section["looked"] else []),
        *([own("map")] if section["map_groups"] else []),
        *figures([section["training"]] if section["training"] else []),
        *(Entry(study["id"], study["entry"]) for study in section["studies"]),
        *figures([section["stages"]] if section["stages"] else []),
        own("sources"),
    )
