"""Pages with measured figures say what the committed records say, to the letter, and leave out no record."""

import importlib.util
import json
import re

import pytest

from tests.readme_commands import ROOT

RECORDS = sorted((ROOT / "docs" / "results" / "records").glob("*.json"))


def _writer():
    spec = importlib.util.spec_from_file_location("results_pages", ROOT / "docs" / "results" / "pages.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


WRITER = _writer()
PAGES = {page.relative_to(ROOT).as_posix(): page for page in WRITER.pages()}
HELD = {name: page for name, page in PAGES.items() if "<!-- record: " in page.read_text(encoding="utf-8")}


@pytest.mark.parametrize("name", HELD)
def test_a_page_says_what_its_records_say(name):
    text = HELD[name].read_text(encoding="utf-8")
    assert WRITER.written(text) == text, "run: python docs/results/pages.py"
    assert text.count("<!-- record: ") == text.count("<!-- end of record -->") == len(WRITER.PLACE.findall(text))


def test_every_record_stands_on_a_page_of_results_once():
    text = "".join(page.read_text(encoding="utf-8") for name, page in HELD.items() if name.startswith("docs/results/"))
    assert sorted(re.findall(r"<!-- record: (\S+)", text)) == sorted(path.stem for path in RECORDS)


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.stem)
def test_a_record_says_where_its_figures_are_from(path):
    record = json.loads(path.read_text(encoding="utf-8"))
    assert set(record) <= {"about", "commands", "measured", "table", "said"}
    assert re.match(r"\d{4}-\d{2}-\d{2}\b", record["measured"]["stated"]) and record["measured"]["layerprobe"]
    assert record["said"] and all(isinstance(line, str) for line in (record["about"], *record["said"]))
    if table := record.get("table"):
        assert {len(row) for row in [table["columns"], table["align"], *table["rows"]]} == {len(table["columns"])}
        assert all(isinstance(cell, str) for row in table["rows"] for cell in row)


def test_a_changed_figure_on_a_page_is_noticed_and_written_again():
    text = HELD["docs/results/mnist.md"].read_text(encoding="utf-8")
    wrong = text.replace("99.31 ±0.16", "99.41 ±0.16")
    assert wrong != text and WRITER.written(wrong) == text


def _decimals(text: str) -> set[str]:
    """Figures with two decimals and times in seconds, in Portuguese with a comma, that stand in tables or in bold."""
    told = "\n".join([*re.findall(r"^\|.*\|$", text, re.M), *re.findall(r"\*\*.+?\*\*", text)])
    return {figure.replace(",", ".") for figure in re.findall(r"(?<![\d.,])\d{1,2}[.,]\d{1,2}(?![\d.,])", told)}


@pytest.mark.parametrize("name", ["four-exercises", "exercicios"])
def test_the_exercises_state_figures_of_the_records(name):
    records = [WRITER.read_record(record) for record in ("compare", "compare-untouched")]
    known = set(re.findall(r"\d+\.\d+", json.dumps(records, ensure_ascii=False)))
    stated = _decimals((ROOT / "docs" / "tutorials" / f"{name}.md").read_text(encoding="utf-8"))
    assert len(stated) > 40 and stated <= known


def test_no_line_of_a_page_is_taken_for_a_comment():
    lines = [(name, line) for name, page in PAGES.items() for line in page.read_text(encoding="utf-8").splitlines()]
    assert not [(name, line) for name, line in lines if re.match(r"\s*(> )?%", line)]
