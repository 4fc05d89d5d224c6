"""`python -m classify report`: what the page holds, what it leaves out and says, and that nothing gets out of hand."""

import base64
import dataclasses
import io
import json
import re
import shutil
from html.parser import HTMLParser
from importlib import resources

import numpy as np
import pytest

from classify.__main__ import main
from classify.measure.choice import best_of
from classify.measure.metrics import measure
from classify.measure.record import RowConfig
from classify.measure.results import Predictions, Result, load_results, sealed
from classify.measure.saving import save_result
from classify.show.report import stages, write_report
from classify.show.report.folder import read_folder
from classify.show.report.images import TestImages, open_images, option
from classify.show.report.maps import sample_rows
from classify.show.report.page import script_json
from classify.show.report.tables import comparison_rows, record_rows
from classify.show.trade_off import trade_off
from features.backbones.torchvision import FAMILY as TORCHVISION
from features.commands.options import run_command
from features.datasets import open_dataset
from features.errors import UserError
from features.presets import preset_of_earlier

HOSTILE = (
    "</script><script>window.pwned = 1</script>",
    '" onmouseover="window.pwned = 1',
    "<img src=x onerror=window.pwned=1>",
    "line\u2028end ]]> --> {{ 7 * 7 }}",
)


class _Elements(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text += data

    def ids(self):
        return [attributes["id"] for _, attributes in self.found if "id" in attributes]


def _data(page: str, number: int = 0) -> dict:
    """What the page's script reads of a section."""
    return json.loads(re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', page, re.S)[number])


def _save(folder, *, classes=("a", "b"), dataset="somewhere", command="", seed=0, **config):
    """A record made by hand, of which nothing but itself exists: 40 test rows, three of them wrong."""
    random = np.random.default_rng(seed)
    labels = np.arange(40) % len(classes)
    predicted = labels.copy()
    predicted[random.choice(40, 3, replace=False)] += 1
    predicted %= len(classes)
    probabilities = np.full((40, len(classes)), 0.2 / len(classes))
    probabilities[np.arange(40), predicted] += 0.8
    fields = {"dataset": dataset, "dataset_sha256": "0" * 64, "layer": "layer2", "head": "ridge", "pool": "avg"}
    result = Result(
        config={**fields, "seed": seed, **config},
        metrics=measure(labels, predicted, probabilities, classes),
        validation_accuracy=0.9 - 0.1 * seed,
        rows={"train": 90, "validation": 10},
        seconds={"fit": 1.0},
        command=command,
    )
    return save_result(folder, result, Predictions(np.arange(40), labels, predicted, probabilities))


def test_the_page_has_every_part_and_is_small(report_folder):
    text = report_folder.page.read_text()
    elements = _Elements(text)
    ids = elements.ids()
    assert len(ids) == len(set(ids))
    for part in ("curve-0", "layers", "models", "time", "confusion", "errors", "map", "training", "stages", "sources"):
        assert any(each.endswith(part) for each in ids), part
    assert report_folder.page.stat().st_size < 1_500_000
    names = [saved.result.digest[:10] for saved in load_results(report_folder.results)]
    assert all(f"r-{name}" in ids for name in names)
    links = [a["href"][1:] for tag, a in elements.found if tag == "a" and a.get("href", "").startswith("#")]
    assert links and set(links) <= set(ids)


def test_the_page_asks_no_network_and_says_so(report_folder):
    text = report_folder.page.read_text()
    elements = _Elements(text)
    policy = next(a["content"] for tag, a in elements.found if a.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy
    for tag, attributes in elements.found:
        for name in ("src", "href", "action", "srcset", "data"):
            assert attributes.get(name, "#").startswith(("#", "data:")), (tag, attributes)
        assert not any(name.startswith("on") or name == "style" for name in attributes), (tag, attributes)
    assert set(re.findall(r"https?://[^\s\"'<)]+", text)) <= {"http://www.w3.org/2000/svg"}


def test_numbers_are_those_of_the_records(report_folder):
    section = read_folder(report_folder.results)[0]
    data = _data(report_folder.page.read_text())
    for model in section.models:
        metrics = model.saved.result.metrics
        assert data["confusion"][model.anchor]["counts"] == [list(row) for row in metrics.confusion]
    classes = section.classes
    for model in section.candidates:
        predictions = model.saved.predictions()
        shown = data["errors"].get(model.anchor, {"shown": []})["shown"]
        sureness = [sure for *_, sure in shown if sure is not None]
        assert sureness == sorted(sureness, reverse=True)
        wrong = set(predictions.rows[predictions.labels != predictions.predicted].tolist())
        for _, row, truth, said, sure in shown:
            place = int(np.flatnonzero(predictions.rows == row)[0])
            assert row in wrong
            assert (truth, said) == (classes[predictions.labels[place]], classes[predictions.predicted[place]])
            if sure is not None:
                assert sure == pytest.approx(predictions.probabilities[place].max())
    documents = {document.is_probe: document.body for document in section.documents}
    page = _Elements(report_folder.page.read_text()).text
    for body in documents.values():
        assert all(sentence in page for sentence in body["answer"])


def test_the_answer_is_of_the_model_best_on_validation_whoever_made_it(report_folder, tmp_path):
    results = tmp_path / "results"
    shutil.copytree(report_folder.results, results)

    def headline() -> str:
        page = write_report(results, tmp_path / "page.html", maps=False, images=False).read_text()
        assert "Which layer transfers best" in page and "Heads against networks" in page
        return re.search(r'<p class="headline">(.*?)</p>', page).group(1)

    (section,) = read_folder(results)
    best = section.best.saved.result
    assert best is best_of(section.candidates, lambda model: [model.saved.result]).saved.result
    assert f"is right on {100 * best.metrics.accuracy:.2f} %" in headline()
    assert [document.best[0] == section.best.saved.path.name for document in section.documents] == [True, False]
    # A single run that is better than what both of them found has the word.
    saved = section.models[-1].saved
    other = dataclasses.replace(saved.result, validation_accuracy=0.999, config={**best.config, "seed": 5})
    save_result(results, other, saved.predictions())
    assert re.match(rf"Best on validation of {len(section.candidates) + 1}: .*seed=5.* is right on", headline())


def test_every_row_leads_to_its_own_record(report_folder):
    text = report_folder.page.read_text()
    section = read_folder(report_folder.results)[0]
    accuracies = {model.anchor: f"{100 * model.saved.result.metrics.accuracy:.2f}" for model in section.models}
    blocks = re.findall(r'<div class="block" id="[^"]*-(layers|models)">(.*?)</table>', text, re.S)
    assert sorted({kind for kind, _ in blocks}) == ["layers", "models"]
    for _, block in blocks:
        rows = re.findall(r"<tr>\s*<th scope=row.*?</tr>", block, re.S)
        assert len(rows) >= 3
        for row in rows:
            (anchor,) = re.findall(r'href="#([^"]+)"', row)
            assert re.search(rf">{accuracies[anchor]} [±+-]", row)


def test_tests_and_the_frontier_are_those_of_the_comparison(report_folder):
    section = read_folder(report_folder.results)[0]
    document = next(document for document in section.documents if not document.is_probe)
    rows, best = comparison_rows(document, section)
    models = [section.find(names[0]) for names in document.records]
    own, own_best = record_rows(models)
    assert best == own_best
    assert [row["p_value"] for row in own] == pytest.approx([row["p_value"] for row in rows])
    ((joined,),) = (panel.frontier for panel in trade_off(rows))
    assert list(joined.names) == document.body["frontier"]
    assert joined.x == tuple(sorted(joined.x)) and joined.y == tuple(sorted(joined.y))


def test_tiles_are_the_images(report_folder, monkeypatch):
    from PIL import Image

    monkeypatch.setenv("LAYERPROBE_HOME", str(report_folder.home))
    images = open_dataset("digits").load("test").images
    data = _data(report_folder.page.read_text())
    sheet = data["sheet"]
    pixels = np.array(Image.open(io.BytesIO(base64.b64decode(sheet["address"].split(",")[1]))))
    for tile, row, *_ in [*data["maps"]["points"], *next(iter(data["errors"].values()))["shown"]]:
        down, across = divmod(tile, sheet["columns"])
        side = sheet["side"]
        found = pixels[down * side : (down + 1) * side, across * side : (across + 1) * side]
        assert np.array_equal(found, images[row])


def test_large_colour_images_keep_their_shape_and_their_room():
    images = np.zeros((50, 90, 120, 3), dtype=np.uint8)
    images[:, :, :60] = 255
    sheet = TestImages(images).sheet(range(50), most_bytes=200_000)
    assert sheet.side == 36 and len(sheet.places) == 50
    few = TestImages(images).sheet(range(50), most_bytes=20_000)
    assert few.side == 32 and list(few.places) == [0, 1, 2, 3, 4, 5]


def test_maps_have_each_layer_of_the_cache_and_repeat_themselves(report_folder, monkeypatch, tmp_path):
    monkeypatch.setenv("LAYERPROBE_HOME", str(report_folder.home))
    data = _data(report_folder.page.read_text())
    (group,) = data["maps"]["groups"]
    assert list(group) == ["layer1", "layer2", "avgpool"]
    for layer in group.values():
        for plane in layer["maps"].values():
            plane = np.array(plane)
            assert plane.shape == (60, 2) and plane.min() >= 0 and plane.max() <= 1000 and np.ptp(plane) >= 990
    labels = [point[2] for point in data["maps"]["points"]]
    assert max(map(labels.count, range(10))) - min(map(labels.count, range(10))) <= 1
    again = write_report(report_folder.results, tmp_path / "again.html", sample=60, stages=False)
    assert _data(again.read_text())["maps"] == data["maps"]


def test_what_is_missing_is_left_out_and_said(report_folder, monkeypatch, tmp_path, capsys):
    empty = tmp_path / "home"
    monkeypatch.setenv("LAYERPROBE_HOME", str(empty))
    results = tmp_path / "results"
    shutil.copytree(report_folder.results, results)
    monkeypatch.setattr("torch.hub.download_url_to_file", lambda *_, **__: pytest.fail("something is downloaded"))
    page = write_report(results, tmp_path / "page.html").read_text()
    elements = _Elements(page)
    assert not any(each.endswith("-map") for each in elements.ids())
    # Layers that different commands made first are told apart.
    left_out = re.findall(r"no map of ([^()]*) \(.*?make them with `python -m classify (\w+) ", elements.text)
    assert sorted(", ".join(layers for layers, _ in left_out).split(", ")) == ["avgpool", "layer1", "layer2"]
    assert {command for _, command in left_out} <= {"probe", "compare"}
    assert not list(empty.glob("features/*"))
    report_folder.weights.rename(tmp_path / "gone.pth")
    try:
        page = write_report(results, tmp_path / "page.html", maps=False).read_text()
    finally:
        (tmp_path / "gone.pth").rename(report_folder.weights)
    assert "feature maps are left out" in page and not any(i.endswith("-stages") for i in _Elements(page).ids())


def test_a_data_set_that_is_another_one_gives_no_images(tmp_path):
    _save(tmp_path, dataset="digits", classes=tuple("0123456789"))
    text = open_images(read_folder(tmp_path)[0])
    assert "no longer the one that these results were made from" in text


def test_one_record_alone_makes_a_page(tmp_path):
    saved = _save(tmp_path)
    page = write_report(tmp_path, tmp_path / "page.html").read_text()
    elements = _Elements(page)
    assert "ridge on layer2 is right on 92.50 % of 40 test images (95 % interval 80.14 to 97.42)" in elements.text
    assert "images are left out: there is no data set 'somewhere'" in elements.text
    ids = elements.ids()
    assert f"r-{saved.result.digest[:10]}" in ids and "s0-runs-models" in ids and "s0-confusion" in ids
    assert not any(part in "".join(ids) for part in ("curve", "time", "errors", "map", "training", "stages", "looked"))
    assert not re.search(r"\bnan\b|None", elements.text.split("(() =>")[0].replace("limit=None", ""))


def test_each_data_set_and_test_split_has_its_section(tmp_path):
    _save(tmp_path, dataset="one")
    _save(tmp_path, dataset="one", seed=1)
    _save(tmp_path, dataset="two", classes=("x", "y", "z"))
    sections = read_folder(tmp_path)
    assert [section.title for section in sections] == ["one, 40 test images", "two, 40 test images"]
    assert [model.name for model in sections[0].models] == ["ridge on layer2, seed=0", "ridge on layer2, seed=1"]
    page = _Elements(write_report(tmp_path, tmp_path / "page.html").read_text())
    assert {"s0", "s1"} <= set(page.ids()) and any(tag == "nav" for tag, _ in page.found)


def test_data_sets_of_one_name_are_told_apart_by_their_content(tmp_path):
    for digit in "ab":
        _save(tmp_path, dataset="pets", dataset_sha256=digit * 64)
    titles = [section.title for section in read_folder(tmp_path)]
    assert sorted(titles) == ["pets (aaaaaaaa), 40 test images", "pets (bbbbbbbb), 40 test images"]


def test_of_very_many_results_the_best_are_shown_and_the_rest_counted(tmp_path, monkeypatch):
    monkeypatch.setattr("classify.show.report.folder.MOST_MODELS", 3)
    names = [f"r-{_save(tmp_path, seed=seed).result.digest[:10]}" for seed in range(5)]
    page = _Elements(write_report(tmp_path, tmp_path / "page.html").read_text())
    assert [name in page.ids() for name in names] == [True, True, True, False, False]
    assert "2 further results, worse on validation, are not shown" in page.text


def test_many_classes_get_their_worst_pairs(tmp_path):
    _save(tmp_path, classes=tuple(f"class {number}" for number in range(30)))
    text = write_report(tmp_path, tmp_path / "page.html").read_text()
    elements = _Elements(text)
    assert "s0-pairs" in elements.ids() and "s0-confusion" not in elements.ids()
    assert _data(text)["confusion"] is None


def test_nothing_from_outside_is_markup(tmp_path):
    command = f"python -m classify --dataset {HOSTILE[0]!r}"
    _save(tmp_path, classes=HOSTILE, dataset=HOSTILE[2], layer=HOSTILE[1], command=command)
    text = write_report(tmp_path, tmp_path / "page.html", command=HOSTILE[0]).read_text()
    elements = _Elements(text)
    assert [a for tag, a in elements.found if tag == "script"] == [
        {"type": "application/json", "data-section": "s0"},
        {},
    ]
    assert not any(tag == "img" for tag, _ in elements.found)
    assert "\u2028" not in text and "49" not in re.findall(r"--> (.*?) }}", text)
    assert _data(text)["classes"][0] == HOSTILE[0]


def test_json_in_a_script_cannot_end_it():
    text = script_json({"name": "</script><!--\u2028&"})
    assert not set("<>&\u2028") & set(text) and json.loads(text) == {"name": "</script><!--\u2028&"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--results", "nowhere"], "nowhere is not there; make some with `python -m classify probe --quick`"),
        (["--results", "empty"], "empty holds no results"),
        (["--output", "no/such/page.html"], "there is no folder no/such"),
        (["--output", "empty"], "empty: a folder is there; name a file"),
        (["--sample", "0"], "give a whole number of 1 or more"),
        (["--seed", "-1"], "--seed -1: give a whole number from 0"),
    ],
)
def test_what_cannot_be_shown_is_told_in_a_line(tmp_path, monkeypatch, capsys, arguments, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    assert run_command(main, ["report", *arguments]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("change", [{"rows": [{}]}, {"version": "x"}, {"answer": None}, {"layers": [{"layer": 1}]}])
def test_a_damaged_answer_is_named(report_folder, tmp_path, change):
    shutil.copytree(report_folder.results, tmp_path / "results")
    path = next((tmp_path / "results").glob("probe-*.json"))
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(UserError, match=rf"{path.name}: this answer is damaged .*{next(iter(change))}"):
        read_folder(tmp_path / "results")


@pytest.mark.parametrize(
    "extra", [{"history": [{"epoch": "x"}]}, {"history": [{}]}, {"trained_parameters": "many"}, {"peak_host_bytes": []}]
)
def test_a_record_whose_figures_are_none_is_named(tmp_path, capsys, extra):
    path = _save(tmp_path).path
    body = json.loads(path.read_text())
    body["result"]["extra"] |= extra
    path.write_text(json.dumps(sealed(body)))
    assert run_command(main, ["report", "--results", str(tmp_path), "--output", str(tmp_path / "page.html")]) == 2
    said = capsys.readouterr().err
    assert f"{path.name}: this record of a result is damaged (its {next(iter(extra))} cannot be" in said
    assert len(said.splitlines()) == 1


def test_an_answer_of_another_version_is_named(report_folder, tmp_path):
    shutil.copytree(report_folder.results, tmp_path / "results")
    path = next((tmp_path / "results").glob("compare-*.json"))
    path.write_text(json.dumps({**json.loads(path.read_text()), "version": 9}))
    with pytest.raises(UserError, match=rf"{path.name}: written in version 9 .* reads 1; use the layerprobe"):
        read_folder(tmp_path / "results")


def test_without_jinja_the_pip_line_is_told(tmp_path, monkeypatch):
    _save(tmp_path)
    monkeypatch.setitem(__import__("sys").modules, "jinja2", None)
    with pytest.raises(UserError, match=r"pip install 'layerprobe\[report\]'"):
        write_report(tmp_path, tmp_path / "page.html", maps=False, images=False)


def test_the_packages_files_are_there():
    files = resources.files("classify.show.report")
    assert all(files.joinpath(name).is_file() for name in ("report.html.jinja", "report.css", "report.js"))


def test_a_sample_takes_the_classes_in_turn():
    labels = np.repeat([0, 1, 2], [100, 10, 3])
    predictions = Predictions(np.arange(113), labels, labels)
    chosen = labels[sample_rows(predictions, 30, seed=0)]
    assert np.bincount(chosen).tolist() == [17, 10, 3]
    assert len(sample_rows(predictions, 1000, seed=0)) == 113
    assert not np.array_equal(sample_rows(predictions, 30, 0), sample_rows(predictions, 30, 1))


def test_options_are_read_from_recorded_commands():
    assert option("python -m classify --dataset 'folder:/my photos' --seed 1", "--dataset") == "folder:/my photos"
    assert option("python -m classify --weights=a.pth", "--weights") == "a.pth"
    assert option("python -m classify --dataset", "--dataset") is None
    assert option("python 'unclosed", "--dataset") is None


def test_the_image_of_the_stages_is_prepared_as_the_rows_were():
    steps = TORCHVISION.preset("resnet18").at(32)
    plain = RowConfig({"backbone": "resnet18", "image_size": 32})
    assert stages._preprocessing(plain) == preset_of_earlier("resnet18").at(32)
    padded = dataclasses.replace(steps, crop_mode="pad", mean=(0.5, 0.5, 0.5))
    assert stages._preprocessing(RowConfig({**plain, "preprocessing": json.loads(padded.describe())})) == padded
    with pytest.raises(UserError, match="not prepared by"):
        stages._preprocessing(RowConfig({**plain, "preprocessing": {"crop": "32"}}))
