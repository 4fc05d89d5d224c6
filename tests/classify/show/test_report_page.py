"""What a reader finds on the page: contents, curves, tables as files, names that fit, and nobody's paths."""

import base64
import csv
import dataclasses
import io
import re
import shutil
import socket
from importlib import resources
from pathlib import Path

import numpy as np
import pytest

from classify.measure.results import load_results
from classify.measure.saving import save_result
from classify.show.layers import depth_order
from classify.show.report import write_report
from classify.show.report.downloads import csv_address
from classify.show.report.folder import read_folder, shared_settings
from classify.show.report.places import known_places, without_places
from classify.show.report.sentences import notes
from tests.classify.show.test_report import _data, _Elements, _save


def _figure(page: str, ending: str) -> str:
    """The figure or block whose id ends so."""
    return re.search(rf'<(figure|div)[^>]* id="[^"]*{ending}">.*?</\1>', page, re.S).group(0)


def _csv(page: str, name: str) -> list[list[str]]:
    (address,) = re.findall(rf'href="data:text/csv;charset=utf-8;base64,([^"]*)" download="{name}\.csv"', page)
    return list(csv.reader(io.StringIO(base64.b64decode(address).decode())))


def _kept(tmp_path, **settings) -> str:
    return write_report(tmp_path, tmp_path / "page.html", maps=False, images=False, **settings).read_text()


def test_the_map_opens_on_the_network_of_the_headline(report_folder, tmp_path, monkeypatch):
    results = tmp_path / "results"
    shutil.copytree(report_folder.results, results)
    saved = next(saved for saved in load_results(results) if "test layer2" in saved.result.keys)
    keys = {what: {**key, "weights": "f" * 64} for what, key in saved.result.keys.items()}
    # By name it would come first.
    config = {**saved.result.config, "weights": "a random one", "weights_sha256": "f" * 64}
    other = dataclasses.replace(saved.result, config=config, keys=keys, validation_accuracy=0.0)
    save_result(results, other, saved.predictions())
    random = np.random.default_rng(0)
    monkeypatch.setattr("classify.show.report.maps._read", lambda key, rows, cached: random.random((len(rows), 8)))
    page = write_report(results, tmp_path / "page.html", sample=12, images=False).read_text()
    networks = re.findall(r'<option value="\d+">(.*?)</option>', _figure(page, "-map"))
    assert networks == ["resnet18, drawn.pth, 32 px", "resnet18, a random one, 32 px"]
    assert list(_data(page)["maps"]["groups"][0]) == ["layer1", "layer2", "avgpool"]


def test_accuracy_against_time_holds_every_model_of_the_page(report_folder):
    (section,) = read_folder(report_folder.results)
    shown = [model for model in section.models if model.kind != "shuffled"]
    drawn = _csv(report_folder.page.read_text(), "s0-time")[1:]
    accuracies = sorted(f"{100 * model.saved.result.metrics.accuracy:.2f}" for model in shown)
    assert sorted(row[2] for row in drawn) == accuracies
    controls = [row for row in drawn if row[1] == "control"]
    assert len(controls) == sum(model not in section.candidates for model in shown) > 0
    assert not any(row[-1] for row in controls) and any(row[-1] for row in drawn)


def test_the_contents_lead_to_every_part_and_stay_in_view(report_folder):
    page = report_folder.page.read_text()
    nav = re.search(r'<nav class="toc".*?</nav>', page, re.S).group(0)
    links = dict(re.findall(r'<a href="#([^"]+)">(.*?)</a>', nav))
    parts = dict(re.findall(r'<(?:figure|div) class="(?:figure|block)[^>]* id="([^"]+)">\s*<h3>(.*?)</h3>', page))
    assert len(parts) > 8 and parts.items() <= links.items() and set(links) - set(parts) == {"s0"}
    assert "<details>" in nav, "folded until the script finds room beside the page"
    style = resources.files("classify.show.report").joinpath("report.css").read_text()
    assert re.search(r"\.toc \{[^}]*position: sticky", style)


def test_single_runs_on_several_layers_have_their_curve(tmp_path):
    for place, layer in enumerate(("fc", "layer10", "layer2", "maxpool")):
        _save(tmp_path, layer=layer, backbone="resnet18", weights="w.pth", image_size=32, seed=3)
        _save(
            tmp_path, layer=layer, backbone="resnet18", weights="w.pth", image_size=32, seed=3, head=f"svm{place % 2}"
        )
    page = _kept(tmp_path)
    rows = _csv(page, "s0-runs-0-curve-0")[1:]
    assert [row[0] for row in rows if row[1] == "ridge"] == ["maxpool", "layer2", "layer10", "fc"]
    assert {row[1] for row in rows} == {"ridge", "svm0", "svm1"}
    # What they share stands above them, once.
    assert "Made with resnet18, weights w.pth, 32 px, avg pooling, 100 training images, seed 3." in _Elements(page).text


def test_what_all_models_share_is_true_of_every_one_and_counts_what_was_used(tmp_path):
    # The records learnt from 100 images: a limit above that cut nothing.
    for layer in ("layer2", "layer3"):
        _save(tmp_path, layer=layer, backbone="resnet18", limit=10_000)
    (section,) = read_folder(tmp_path)
    assert shared_settings(section) == "resnet18, avg pooling, 100 training images, seed 0"
    _save(tmp_path, head="convnet", layer="input", pool=None, training={"epochs": 2})
    (section,) = read_folder(tmp_path)
    assert shared_settings(section) == "100 training images, seed 0"


@pytest.mark.parametrize(
    ("config", "told", "beside"),
    [
        ({"refit": True}, "refitted on training and validation images", "ridge on layer3 (refitted)"),
        ({"refit": True, "validate": "cv:5x3"}, "chosen out of folds (cv:5x3)", "ridge on layer3, validate=cv:5x3"),
    ],
)
def test_a_refit_is_told_once_above_and_of_a_model_only_where_it_is_there_without(tmp_path, config, told, beside):
    for layer in ("layer2", "layer3"):
        _save(tmp_path, layer=layer, **config)
    (section,) = read_folder(tmp_path)
    assert sorted(model.name for model in section.models) == ["ridge on layer2", "ridge on layer3"]
    assert told in shared_settings(section)
    assert "(refitted)" not in _kept(tmp_path)
    _save(tmp_path, layer="layer3")
    (section,) = read_folder(tmp_path)
    assert sorted(model.name for model in section.models) == [
        "ridge on layer2",
        "ridge on layer3",
        beside,
    ]
    assert told not in shared_settings(section)


def test_captions_end_in_one_full_stop_with_and_without_the_note_of_the_script(report_folder):
    page = report_folder.page.read_text()
    captions = [
        re.sub("<[^>]*>", "", text).strip() for text in re.findall("<figcaption>(.*?)</figcaption>", page, re.S)
    ]
    notes = [layer["note"] for group in _data(page)["maps"]["groups"] for layer in group.values()]
    assert len(captions) > 4 and all(notes)
    assert all(text.endswith(".") and not re.search(r"[.,:;]\s*[.,:;]|\s[.,:;]", text) for text in captions)
    assert not any(note.startswith(" ") or note.endswith(".") for note in notes), "the script adds both"


def test_layers_are_sorted_from_the_image_to_the_classes():
    layers = ["maxpool", "layer2", "layer2.1", "layer3", "layer1+layer3", "layer10", "avgpool", "avgpool+layer1", "fc"]
    assert sorted(sorted(layers, key=len), key=depth_order) == layers


def test_names_leave_out_what_all_rows_of_a_table_share(tmp_path):
    _save(tmp_path, seed=0)
    for seed in (1, 2):
        _save(tmp_path, seed=seed, layer="layer3", limit=100)
    page = _kept(tmp_path)
    assert [row[0] for row in _csv(page, "s0-runs-models")[1:]] == [
        "ridge on layer2",
        "ridge on layer3, seed=1",
        "ridge on layer3, seed=2",
    ]
    style = resources.files("classify.show.report").joinpath("report.css").read_text()
    assert re.search(r"\.name \{[^}]*-webkit-line-clamp: 2", style)


def test_of_training_settings_those_are_told_that_differ(tmp_path):
    for epochs in (2, 10):
        training = {"epochs": epochs, "augment": [], "learning_rate": 0.1}
        _save(tmp_path, head="scratch", layer="input", pool=None, training=training)
    names = [model.name for model in read_folder(tmp_path)[0].models]
    assert sorted(names) == ["scratch, epochs=10", "scratch, epochs=2"]


def test_tables_are_files_with_the_full_numbers(report_folder):
    page = report_folder.page.read_text()
    (section,) = read_folder(report_folder.results)
    document = next(document for document in section.documents if not document.is_probe)
    header, *rows = _csv(page, r"s0-\d-models")
    at = header.index("accuracy")
    assert [float(row[at]) for row in rows] == [row["accuracy"] for row in document.body["rows"]]
    assert header[at : at + 3] == ["accuracy", "accuracy_low", "accuracy_high"]
    names = re.findall(r'download="([^"]+)\.csv"', page)
    tables = re.findall(r"<table", page)
    assert len(names) == len(set(names)) == len(tables)


@pytest.mark.parametrize("word", ["=1+1", "+1+1", "-2+3", "@SUM(A1)", "=HYPERLINK(1)"])
def test_words_that_a_spreadsheet_would_run_are_made_harmless(word):
    address = csv_address((word,), [(word,), ("-0.5",), (-0.5,), ("-",), (None,)])
    text = base64.b64decode(address.partition(",")[2]).decode()
    assert list(csv.reader(io.StringIO(text))) == [[f"'{word}"], [f"'{word}"], ["-0.5"], ["-0.5"], [""], [""]]


def test_a_page_tells_nobody_where_things_stand_unless_asked(report_folder, monkeypatch, tmp_path):
    monkeypatch.setenv("LAYERPROBE_HOME", str(report_folder.home))
    page = report_folder.page.read_text()
    text = re.sub(r'base64,[^"]*"', "", page)
    for place in (report_folder.weights.parent, report_folder.home, Path.home(), Path.cwd()):
        assert str(place) not in text, place
    assert not re.search(r"""(?<![\w./<>:])/(tmp|home|root|work|opt|usr|var)/""", text)
    assert socket.gethostname() not in _Elements(page).text.split("(() =>")[0].split()
    # What is needed to make it again is there, but for the folders.
    assert re.search(r"--weights …/drawn\.pth --results …/results", text)
    for _, attributes in _Elements(page).found:
        if attributes.get("href", "").startswith("data:text/csv"):
            told = base64.b64decode(attributes["href"].partition("base64,")[2]).decode()
            assert str(report_folder.weights.parent) not in told
    page = write_report(report_folder.results, tmp_path / "with.html", maps=False, stages=False, paths=True).read_text()
    assert f"--weights {report_folder.weights}" in page


def test_paths_of_errors_and_of_other_machines_go_too(tmp_path):
    folder = tmp_path / "my photos"
    command = f"python -m classify --dataset 'folder:{folder}' --results '/home/Jo Doe/all results'"
    _save(tmp_path, dataset="photos", command=command)
    page = write_report(tmp_path, tmp_path / "page.html", dataset=f"folder:{folder}", command=command).read_text()
    text = _Elements(page).text
    assert str(tmp_path) not in page and "Jo Doe" not in page and "my photos" in text
    assert "--dataset 'folder:…/my photos' --results '…/all results'" in text


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("`python -m classify --weights=/a/b/w.pth -q`", "`python -m classify --weights=…/w.pth -q`"),
        ("python -m extract 'folder:/a b/c->folder:/d/e f' -q", "python -m extract 'folder:…/c->folder:…/e f' -q"),
        ("C:\\Users\\Jo\\photos is not there", "…/photos is not there"),
        ("~jo/data and ~/data; /home/jo is a home", "…/data and …/data; …/ is a home"),
        ("/srv/a.csv: row 3 names /srv/x/y.png", "…/a.csv: row 3 names …/y.png"),
        ("1.2 GFLOP/s, and/or, 3/4, http://www.w3.org/2000/svg, a / b", None),
        ("/one dir/photos: the images", "…/photos: the images"),
        ("put it into /one dir/photos/cat/1.png", "put it into …/1.png"),
    ],
)
def test_of_a_path_its_last_name_stays(text, told):
    assert without_places(text, known_places(["folder:/one dir/photos"])) == (told or text)


def _colours(scheme: int) -> dict[str, str]:
    style = resources.files("classify.show.report").joinpath("report.css").read_text()
    pairs = re.findall(r"--([\w-]+): light-dark\((#\w{6}), (#\w{6})\)", style)
    return {name: colours[scheme] for name, *colours in pairs}


def _luminance(colour: str) -> float:
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_words_and_marks_stand_out_from_what_is_behind_them(scheme):
    """WCAG 2.1: 4.5 to 1 for words (1.4.3), 3 to 1 for what a figure is read by (1.4.11)."""
    colours = _colours(scheme)

    def contrast(one: str, other: str) -> float:
        light, dark = sorted((_luminance(colours[one]), _luminance(colours[other])), reverse=True)
        return (light + 0.05) / (dark + 0.05)

    for behind in ("page", "surface"):
        assert min(contrast(name, behind) for name in ("ink", "muted", "accent")) >= 4.5
        assert min(contrast(name, behind) for name in (*(f"s{n}" for n in range(7)), "grey", "wrong-edge")) >= 3


def test_it_can_be_read_without_seeing_it(report_folder):
    page = report_folder.page.read_text()
    for table in re.findall(r"<table.*?</table>", page, re.S):
        assert re.search(r"<caption[^>]*>[^<]+</caption>", table)
        assert all('scope="col"' in cell for cell in re.findall(r"<th(?!ead)[^>]*>", table.partition("<tbody>")[0]))
        assert all("<th scope=" in row for row in re.findall(r"<tr>.*?</tr>", table.partition("<tbody>")[2], re.S))
    elements = _Elements(page).found
    for tag, attributes in elements:
        if tag == "svg":
            assert attributes["role"] == "img" and attributes["aria-label"] and attributes["tabindex"] == "0"
        assert tag != "img" or attributes["alt"]
    headings = [int(tag[1]) for tag, _ in elements if re.fullmatch(r"h\d", tag)]
    assert headings[:2] == [1, 2] and headings.count(1) == 1 and set(headings) == {1, 2, 3}


@pytest.mark.parametrize(
    ("left_out", "said"),
    [(1, "1 further result, worse on validation, is not"), (2, "2 further results, worse on validation, are not")],
)
def test_what_is_one_is_said_of_one(tmp_path, left_out, said):
    _save(tmp_path)
    (section,) = read_folder(tmp_path)
    assert notes(dataclasses.replace(section, left_out=left_out)) == [f"{said} shown, to keep the page small"]
    assert "A record for the result: the command" in _kept(tmp_path)
