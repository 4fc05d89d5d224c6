"""Records of version 0.1.0 that are known to be wrong: no verb that reads a folder of results uses them."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from classify import load_model
from classify.__main__ import main
from classify.experiments.kinds.classical import Classical
from classify.experiments.making import make
from classify.experiments.row import Row
from classify.experiments.settings import How, Settings
from classify.experiments.sources import CachedLayer
from classify.heads import HEADS
from classify.measure import soundness
from classify.measure.outcome import Result
from classify.measure.record import Extra
from classify.measure.results import SavedResult, load_results, sorted_out
from classify.measure.saving import save_result
from classify.measure.soundness import OTHER_IMAGES, OTHER_READING, OTHER_ROWS, WRITTEN_OVER, fault_of
from extract.planning import plan
from features.commands.options import run_command
from features.datasets import open_dataset
from features.errors import UserError
from features.first_use import recognise
from features.request import Request

REQUEST = Request(
    dataset="digits", weights="random", image_size=32, limit=60, limit_test=30, precision="float32", device="cpu",
    layers=("bn1", "layer1"),
)  # fmt: skip
BN1 = "digits-resnet18-bn1-centroid-95ba6a4153.json"


@pytest.fixture(scope="module")
def rows(tmp_path_factory) -> dict[str, SavedResult]:
    """One row of each layer."""
    folder = tmp_path_factory.mktemp("rows")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAYERPROBE_HOME", str(folder / "home"))
        planned, made = plan(REQUEST), {}
        for layer in REQUEST.layers:
            source = CachedLayer(planned, layer, "avg")
            settings = Settings(calibrate=False)
            row = Row(source=source, head=Classical(head=HEADS["centroid"]), settings=settings)
            made[layer] = make(row, How(folder=folder / "results", command=f"python -m classify --layer {layer}"))
        return made


def _of_0_1_0(saved: SavedResult, **config) -> Result:
    """The result as version 0.1.0 had it: without revisions, and without all that it did not note."""
    result = saved.result
    kept = {name: value for name, value in {**result.config, **config}.items() if name != "revisions"}
    keys = {
        name: {field: value for field, value in key.items() if field != "revision"} for name, key in result.keys.items()
    }
    extra = Extra({name: value for name, value in result.extra.items() if name not in ("crop_mode", "white")})
    return dataclasses.replace(result, config=kept, keys=keys, extra=extra)


def _fault(result: Result, rows=(), **places) -> str | None:
    return fault_of(result, places, lambda: np.array(rows, dtype=np.int64))


@pytest.fixture
def folder(home, rows, tmp_path, monkeypatch) -> Path:
    """Results of version 0.1.0, of a layer that it read wrongly and of one that it did not."""
    monkeypatch.chdir(tmp_path)
    for saved in rows.values():
        save_result("results", _of_0_1_0(saved), saved.predictions(), saved.load_head())
    return Path("results")


def test_what_it_read_after_it_was_written_over_is_known_by_the_record(home, rows):
    assert _fault(rows["bn1"].result) is None
    assert _fault(_of_0_1_0(rows["bn1"]), rows["bn1"].predictions().rows) == WRITTEN_OVER
    assert _fault(_of_0_1_0(rows["layer1"]), rows["layer1"].predictions().rows) is None
    seen = _of_0_1_0(rows["layer1"], limit_test=None, regularizers=["delta=0.01@layer4+layer4.0.bn1"])
    assert _fault(seen) == WRITTEN_OVER
    assert _fault(_of_0_1_0(rows["layer1"], limit_test=None, regularizers=["delta=0.01@layer4+layer3"])) is None


def test_other_test_rows_than_the_keys_are_known(home, rows):
    assert _fault(_of_0_1_0(rows["layer1"]), rows["layer1"].predictions().rows + 1) == OTHER_ROWS


@pytest.mark.parametrize(
    ("backbone", "weights", "size", "wrong"),
    [
        ("resnet50", "IMAGENET1K_V1", 224, True),
        ("resnet50", "IMAGENET1K_V2", 224, False),
        ("resnet50", "resnet50-0676ba61.pth", 224, True),
        ("resnet50", "resnet50-11ad3fa6.pth", 224, False),
        ("resnet50", "IMAGENET1K_V1", 64, False),  # both are resized to 256/224 of it
        ("resnet50", "mine.pth", 224, False),
        ("resnet50", "random (seed 0)", 224, False),
        ("inception_v3", "IMAGENET1K_V1", 299, True),
        ("inception_v3", "random (seed 0)", 299, False),
        ("regnet_y_16gf", "IMAGENET1K_SWAG_E2E_V1", 224, True),
        ("efficientnet_lite0", "efficientnet-lite0.pth", 224, False),
        ("no-such-network", "IMAGENET1K_V1", 224, False),
    ],
)
def test_weights_that_want_their_images_otherwise_are_known_by_their_name(home, rows, backbone, weights, size, wrong):
    config = {"backbone": backbone, "weights": weights, "image_size": size, "limit_test": None}
    assert _fault(_of_0_1_0(rows["layer1"], **config)) == (OTHER_IMAGES if wrong else None)


def test_a_file_of_weights_that_still_stands_is_known_by_its_content(home, rows, tmp_path, monkeypatch):
    from torchvision import models

    digits = models.ResNet50_Weights.IMAGENET1K_V1.url.rpartition("-")[2].partition(".")[0]
    files = {"other.pth": "0" * 64, "v1.pth": digits + "0" * 56}
    monkeypatch.setattr("features.backbones.torchvision.sha256_file", lambda path: files[path.name])
    for name in files:
        (tmp_path / name).write_bytes(b"read by nothing here")
    config = {"backbone": "resnet50", "image_size": 224, "limit_test": None}
    for name, fault in (("other.pth", None), ("v1.pth", OTHER_IMAGES)):
        result = _of_0_1_0(rows["layer1"], **config, weights=name)
        assert _fault(result, weights=str(tmp_path / name)) == fault


@pytest.mark.parametrize("kind", ["12 bits", "@eaDir", "as ever"])
def test_a_data_set_that_is_read_by_another_rule_is_looked_at_where_it_stands(home, rows, tmp_path, monkeypatch, kind):
    random = np.random.default_rng(0)
    folder = tmp_path / kind  # of its own: what is known of a place is known for as long as the process lives
    for name in ("a", "b", *(["@eaDir"] if kind == "@eaDir" else [])):
        (folder / "images" / name).mkdir(parents=True)
        for number in range(10):
            pixels = random.integers(0, 4096 if kind == "12 bits" else 256, (16, 16))
            image = Image.fromarray(pixels.astype(np.uint16 if kind == "12 bits" else np.uint8))
            image.save(folder / "images" / name / f"{number}.png")
    place = f"folder:{folder / 'images'}"
    before = _of_0_1_0(rows["layer1"], limit_test=None, dataset_sha256="ab" * 32)
    now = _of_0_1_0(rows["layer1"], limit_test=None, dataset_sha256=open_dataset(place).fingerprint())
    with monkeypatch.context() as patch:
        # A record may come from anybody: what this home has not used is not opened on its word.
        patch.setattr(soundness, "open_dataset", lambda spec: pytest.fail("it was opened"))
        assert _fault(before, dataset=place) is None
    recognise(place, "ab" * 32)
    assert _fault(before, dataset=place) == (None if kind == "as ever" else OTHER_READING)
    assert _fault(now, dataset=place) is None
    assert _fault(before, dataset=f"folder:{folder / 'gone'}") is None


def test_a_folder_gives_the_sound_ones_and_says_what_it_leaves_out(folder, capsys):
    assert [saved.result.config.layer for saved in load_results(folder)] == ["layer1"]
    said = capsys.readouterr().err
    assert said == (
        f"results: 1 result is known to be wrong and not used ({BN1}: {WRITTEN_OVER}); make it again with the command "
        "in its record, `python -m classify --layer bn1`, or remove what you do not need\n"
    )
    assert load_model(folder).saved.result.config.layer == "layer1"
    assert BN1 in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["predict", "export", "repeat"])
def test_a_record_by_name_is_refused_in_a_line(folder, verb, capsys):
    source = [] if verb == "repeat" else ["--from"]
    command = [verb, *(["image.png"] if verb == "predict" else []), *source, f"results/{BN1}"]
    assert run_command(main, command) == 2
    assert capsys.readouterr().err == f"error: results/{BN1} is not used: {WRITTEN_OVER}; run it again\n"


def test_a_record_in_hand_is_refused_as_well(folder):
    _, ((wrong, _),) = sorted_out(folder)
    with pytest.raises(UserError, match=WRITTEN_OVER):
        load_model(wrong)


def test_a_folder_of_nothing_else_is_refused_in_a_line(folder, capsys):
    for path in folder.glob("*layer1*"):
        path.unlink()
    for command in (["predict", "image.png"], ["export"], ["report"]):
        assert run_command(main, command) == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1 and said.startswith("error: results: 1 result is known to be wrong and not used")
    with pytest.raises(UserError, match="known to be wrong"):
        load_model(folder)


def test_the_page_shows_neither_them_nor_what_rests_on_them(folder, capsys):
    pytest.importorskip("jinja2")
    document = {"format": "layerprobe study", "version": 1, "answer": ["bn1 is best"], "notes": [], "study": "depth"}
    document |= {"question": {}, "tables": [], "panels": [], "results": [BN1]}
    (folder / "study-depth.json").write_text(json.dumps(document))
    assert run_command(main, ["report", "--no-maps", "--no-stages", "--no-images"]) == 0
    page, said = Path("report.html").read_text(encoding="utf-8"), capsys.readouterr().err
    assert "centroid on layer1" in page and "bn1" not in page
    assert "results/study-depth.json: left out, since it shows results that are known to be wrong" in said
    # Made again, it moves away, and what rested on it is still wrong.
    (folder / "superseded").mkdir()
    for path in folder.glob("*bn1*"):
        path.rename(folder / "superseded" / path.name)
    assert run_command(main, ["report", "--no-maps", "--no-stages", "--no-images"]) == 0
    assert "bn1" not in Path("report.html").read_text(encoding="utf-8")
    said = capsys.readouterr().err
    assert "study-depth.json: left out" in said and "known to be wrong and not used" not in said
