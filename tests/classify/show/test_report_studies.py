"""Studies on the page: their answer, tables and panels, those of version 0.1.0 too; damaged ones are named."""

import json
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
