"""Studies on the page: their answer, tables and panels, those of version 0.1.0 too; damaged ones are named."""

import json
import re
import shutil
from pathlib import Path

import pytest

from classify.show.report import write_report
from classify.show.report.folder import read_folder
from features.errors import UserError

RAGGED = {"label": "a", "x": [1], "y": [], "low": [], "high": []}


@pytest.fixture
def with_a_study(tmp_path, monkeypatch) -> Path:
    """Results of version 0.1.0, a study among them."""
    made = Path(__file__).parents[1] / "experiments" / "made_by_0_1_0"
    shutil.copytree(made, tmp_path / "made")
    monkeypatch.setenv("LAYERPROBE_HOME", str(tmp_path / "made" / "home"))
    return tmp_path / "made" / "results"


def test_studies_are_shown_with_their_answer_tables_and_panels(with_a_study, tmp_path):
    page = write_report(with_a_study, tmp_path / "page.html", maps=False, stages=False).read_text()
    study = page[page.index("<h3>Study of data-size: digits, resnet18, random, 32 px") :]
    for words in (
        "centroid on layer1 leads finetune fc",
        '<td class="number">41.25</td>',
        "one seed: nothing is said about",
    ):
        assert words in study
    figure = study[: study.index("The numbers of this figure")]
    assert "training images per class" in figure and 'class="chart wide"' in figure and 'class="chart narrow"' in figure


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (
            "panels",
            [{"title": "", "x": "", "y": "", "lines": [{"label": "a", "x": [1], "y": [], "low": [], "high": []}]}],
        ),
        ("tables", [{"title": "t", "rows": [3], "notes": []}]),
        ("results", [3]),
        ("study", None),
    ],
)
def test_a_damaged_study_is_named(with_a_study, name, value):
    (path,) = with_a_study.glob("study-*.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), name: value}))
    with pytest.raises(UserError, match=rf"{path.name}: this answer is damaged \(its {name}"):
        read_folder(with_a_study)


def test_nothing_in_a_study_is_markup(with_a_study, tmp_path):
    (path,) = with_a_study.glob("study-*.json")
    hostile = "<script>alert(1)</script>"
    body = json.loads(path.read_text())
    body["answer"].append(hostile)
    body["tables"][0]["title"] = body["panels"][0]["title"] = body["panels"][0]["lines"][0]["label"] = hostile
    path.write_text(json.dumps(body))
    assert hostile not in write_report(with_a_study, tmp_path / "page.html", maps=False, stages=False).read_text()


def _only_the_study(folder: Path) -> Path:
    """The folder with the study and its records alone."""
    (path,) = folder.glob("study-*.json")
    names = {path.stem, *(Path(name).stem for name in json.loads(path.read_text())["results"])}
    for other in folder.iterdir():
        if other.is_file() and other.name.partition(".")[0] not in {name.partition(".")[0] for name in names}:
            other.unlink()
    return folder


def test_conditions_of_a_study_are_no_models_to_choose_from(with_a_study):
    section = next(section for section in read_folder(with_a_study) if section.studies)
    (study,) = section.studies
    conditions = {model.saved.path.name for model in section.models if model.kind == "study"}
    assert conditions and conditions <= study.names
    assert not conditions & {model.saved.path.name for model in (*section.candidates, *section.alone)}
    assert all("study" in model.saved.command for model in section.models if model.kind == "study")


def test_a_page_of_a_study_alone_opens_with_what_it_found(with_a_study, tmp_path):
    results = _only_the_study(with_a_study)
    (section,) = read_folder(results)
    assert section.candidates and not section.alone
    page = write_report(results, tmp_path / "page.html", maps=False, images=False).read_text()
    headline = re.search(r'<p class="headline">(.*?)</p>', page).group(1)
    assert headline.startswith("data-size: digits, resnet18, random, 32 px. ")
    assert section.studies[0].body["answer"][0] in headline
    assert '<a href="#s0-study-0">Study of data-size</a>' in page and "* " not in re.findall(r'note">(.{2})', page)


def test_rows_of_a_study_that_was_stopped_are_its_own_too(with_a_study, tmp_path):
    results = _only_the_study(with_a_study)
    for path in results.glob("study-*.json"):
        path.unlink()
    (section,) = read_folder(results)
    assert {model.kind for model in section.models} == {"study"} and not section.alone
    page = write_report(results, tmp_path / "page.html", maps=False, images=False).read_text()
    assert "Best on validation of" in page and "curve-0" not in page
