"""New images are read as those that a model was trained on: by what is white in its data set, as its record has it."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from classify import load_model
from classify.__main__ import main
from classify.measure.results import load_results
from features.commands.options import run_command
from features.datasets import open_dataset
from features.datasets.white import White
from features.errors import UserError

NETWORK = ["--weights", "random", "--image-size", "32", "--precision", "float32", "--device", "cpu", "--no-search"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Digits of 12 bits in files of 16, as arrays of 0 and 1, and as they are; a model of each."""
    folder = tmp_path_factory.mktemp("white")
    digits = open_dataset("digits").load("train")
    images, labels = digits.images[:120], digits.labels[:120]
    keep = labels < 2
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAYERPROBE_HOME", str(folder / "home"))
        patch.chdir(folder)
        for row in np.flatnonzero(keep):
            place = Path("twelve", str(labels[row]))
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(images[row].astype(np.uint16) * 16).save(place / f"{row}.png")
        np.savez("binary.npz", images=(images[keep] > 127).astype(np.uint8), labels=labels[keep])
        np.savez("eight.npz", images=images[keep], labels=labels[keep])
        for name, dataset in (("twelve", "folder:twelve"), ("binary", "npz:binary.npz"), ("eight", "npz:eight.npz")):
            command = ["--model", "knn", "--dataset", dataset, *NETWORK, "--results", f"results-{name}"]
            assert run_command(main, command) == 0
        yield folder


@pytest.fixture(autouse=True)
def working_folder(trained, monkeypatch):
    monkeypatch.chdir(trained)
    monkeypatch.setenv("LAYERPROBE_HOME", str(trained / "home"))


def _features(model, image):
    """What a model computes from an image in a file, as it computed it in training."""
    return model.reader.features(model.prepare([image]))


def test_a_record_keeps_what_is_white(trained):
    kept = {name: load_results(f"results-{name}")[0].result.extra.white for name in ("twelve", "binary", "eight")}
    assert kept == {"twelve": {"deep": 4095}, "binary": {"shallow": 1}, "eight": {}}
    assert load_model("results-twelve").white == White(deep=4095)


def test_a_single_dark_image_is_read_as_in_training(trained, capsys):
    data = open_dataset("folder:twelve").load("train")
    dark = (np.asarray(Image.open(data.images.paths[0])) // 8).astype(np.uint16)
    Image.fromarray(dark).save("dark.png")
    model = load_model("results-twelve")
    assert np.array_equal(model.predict(["dark.png"]), model.predict([np.round(dark / (4095 / 255)).astype(np.uint8)]))
    Image.fromarray((dark.astype(np.uint32) * 16).clip(0, 65535).astype(np.uint16)).save("bright.png")
    assert run_command(main, ["predict", "dark.png", "bright.png", "--from", "results-twelve"]) == 1
    said = capsys.readouterr()
    assert "where 0 is black and 4095 white" in said.err and "dark.png" in said.out


def test_what_the_model_leaves_open_all_images_named_say(trained, capsys):
    files = [str(path) for path in sorted(Path("twelve").glob("*/*.png"))[:5]]
    Image.fromarray((np.asarray(Image.open(files[0])) // 40).astype(np.uint16)).save("dim.png")
    assert run_command(main, ["predict", "dim.png", *files, "--from", "results-eight", "--json", "all.json"]) == 0
    assert capsys.readouterr().err.count("no image of more than 8 bits holds numbers beyond 4,095") == 1
    model = load_model("results-eight")
    eight = [np.round(np.asarray(Image.open(file)) / (4095 / 255)).astype(np.uint8) for file in ("dim.png", *files)]
    expected = model.predict(eight).tolist()
    assert [image["class"] for image in json.loads(Path("all.json").read_text())["images"]] == expected
    assert model.predict(["dim.png", *files]).tolist() == expected


def test_arrays_are_read_as_those_of_the_data_set(trained):
    model, arrays = load_model("results-binary"), np.load("binary.npz")["images"][:6]
    assert np.array_equal(model.predict(arrays), model.predict([image.astype(bool) for image in arrays]))
    with pytest.raises(UserError, match="values reach from 0 to 255, where 0 is black and 1 white"):
        model.predict(arrays * 255)
    with pytest.raises(UserError, match="float64: its values reach from 0 to 255"):
        load_model("results-eight").predict(arrays * 255.0)


def test_what_0_1_0_kept_is_read_as_it_did_or_refused(trained, monkeypatch, capsys):
    saved = load_results("results-eight")[0]
    model = load_model(saved)
    monkeypatch.setattr(type(model), "white", White.from_json(None))
    file = str(next(Path("twelve").glob("*/*.png")))
    with pytest.raises(UserError, match="the model was trained by version 0.1.0"):
        model.predict([file])


def test_files_that_are_skipped_are_counted_and_warnings_carry_the_name(trained, capsys):
    Path("mixed").mkdir()
    Image.fromarray(np.zeros((8, 8), np.uint8)).save("mixed/a.png")
    Path("mixed/b.mp4").write_bytes(b"any")
    Path("mixed/c.jpg").write_bytes(b"<html>")
    assert run_command(main, ["predict", "mixed", "--from", "results-eight"]) == 1
    said = capsys.readouterr().err
    assert "mixed: 1 file is no image and skipped (1 .mp4)" in said
    assert "error: cannot read the image mixed/c.jpg (it is a web page (HTML) and no image)" in said
