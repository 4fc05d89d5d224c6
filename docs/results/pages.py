"""Writes the committed records of measurements into the pages that state them: tables, sentences, where they are from.

    python docs/results/pages.py            # after a record in docs/results/records/ has changed
    python docs/results/pages.py --check    # status 1, and the pages' names, where a page and its record differ

A page has the place between two comments for a record, which names a file of that folder; with `table` after the name
the table alone stands there. What is between them is written here and nowhere else; a test holds both to each other.

    <!-- record: compare -->
    <!-- end of record -->

A record says what it is about, the commands that made it, since when its figures are stated, by which versions and on
what machine as far as that was written down (null where not), a table of strings, and what is said of it in sentences.
"""

import json
import re
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RECORDS = Path(__file__).with_name("records")
PLACE = re.compile(r"(<!-- record: ([a-z0-9-]+)( table)? -->\n).*?(<!-- end of record -->)", re.DOTALL)


def pages() -> list[Path]:
    """All pages that may have places for records: those of the documentation, and the READMEs."""
    documentation = (page for page in (ROOT / "docs").rglob("*.md") if "_build" not in page.parts)
    return sorted([*documentation, *ROOT.glob("README*.md")])


def read_record(name: str) -> dict:
    """The record of that name; KeyError where a key is missing, so that a page never states less than it should."""
    record = json.loads((RECORDS / f"{name}.json").read_text(encoding="utf-8"))
    for key in ("about", "commands", "measured", "said"):
        record[key]
    return record


def written(page: str) -> str:
    """The text of a page with every place for a record as the record has it."""

    def fill(place: re.Match) -> str:
        record = read_record(place[2])
        blocks = [_table(record["table"])] if place[3] else _whole(record)
        return "\n".join([place[1], "\n\n".join(blocks), "", place[4]])

    return PLACE.sub(fill, page)


def _whole(record: dict) -> list[str]:
    blocks = [_wrapped(record["about"])]
    if record["commands"]:
        blocks.append("\n".join(["```bash", *map(_continued, record["commands"]), "```"]))
    if "table" in record:
        blocks.append(_table(record["table"]))
    blocks += map(_wrapped, record["said"])
    measured = record["measured"]
    made = "; ".join(filter(None, (f"layerprobe {measured['layerprobe']}", measured["machine"])))
    return [*blocks, _wrapped(f"*Stated since {measured['stated']}: {made}.*")]


def _table(table: dict) -> str:
    lines = [table["columns"], ["---:" if side == "r" else "---" for side in table["align"]], *table["rows"]]
    return "\n".join(f"|{'|'.join(f' {cell} ' if cell else ' ' for cell in cells)}|" for cells in lines)


def _wrapped(paragraph: str) -> str:
    """In lines of at most 120 characters; those of a quotation or of a list's item as Markdown wants them."""
    mark = "".join(re.findall(r"\A(?:- |> |\d+\. )", paragraph))
    later = mark if mark == "> " else " " * len(mark)
    # A line that begins with % is a comment to MyST.
    joined = paragraph.replace(" %", "\0%")
    lines = textwrap.fill(joined, 120, subsequent_indent=later, break_long_words=False, break_on_hyphens=False)
    return lines.replace("\0", " ")


def _continued(command: str) -> str:
    """A command in lines that a page shows whole, as a shell takes them."""
    lines = textwrap.wrap(command, 78, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False)
    return " \\\n".join(lines)


def main(arguments: list[str]) -> int:
    """Write the pages, or with --check tell which would change."""
    changed = []
    for page in pages():
        text = page.read_text(encoding="utf-8")
        if (new := written(text)) != text:
            changed.append(page)
            if "--check" not in arguments:
                page.write_text(new, encoding="utf-8")
    for page in changed:
        print(page.relative_to(ROOT))
    return int("--check" in arguments and bool(changed))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
