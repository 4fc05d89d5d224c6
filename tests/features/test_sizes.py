"""What a data set's images measure, and what that makes of its keys."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

import features.sizes
from extract.__main__ import main as extract
from features.commands.options import run_command
from features.datasets import ImageFiles, open_dataset
from features.request import Request, plan
from features.sizes import shortest_oblong, sizes_of

RANDOM = {"weights": "random", "precision": "float32", "device": "cpu"}


def _folder(place, *sizes):
    """A data set of files, its images of these sizes (width, height) in turn."""
    for label in ("a", "b"):
        (place / label).mkdir(parents=True)
        for number in range(8):
            width, height = sizes[number % len(sizes)]
            pixels = np.random.default_rng([number, ord(label)]).integers(0, 256, (height, width, 3), np.uint8)
            Image.fromarray(pixels).save(place / label / f"{number}.png")
    return f"folder:{place}"


@pytest.mark.parametrize(
    ("sizes", "shortest"),
    [([(40, 40)], None), ([(40, 40), (300, 300)], None), ([(40, 40), (40, 50)], 40), ([(300, 500), (700, 280)], 280)],
)
def test_the_shortest_side_of_an_image_that_is_no_square(home, tmp_path, sizes, shortest):
    dataset = open_dataset(_folder(tmp_path / "images", *sizes))
    assert shortest_oblong(dataset) == shortest


def test_headers_are_read_once_for_a_content(home, tmp_path, monkeypatch):
    dataset = open_dataset(_folder(tmp_path / "images", (40, 50)))
    assert shortest_oblong(dataset) == 40
    monkeypatch.setattr(features.sizes, "sizes_of", None)
    assert shortest_oblong(dataset) == 40


@pytest.mark.parametrize(("shape", "shortest"), [((28, 28), None), ((28, 30), 28), ((30, 20, 3), 20)])
def test_arrays_are_of_one_size(home, tmp_path, shape, shortest):
    images, labels = np.zeros((20, *shape), np.uint8), np.arange(20) % 2
    np.savez(tmp_path / "arrays.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    assert shortest_oblong(open_dataset(f"npz:{tmp_path / 'arrays.npz'}")) == shortest
    assert shortest_oblong(open_dataset("digits")) is None


def test_a_file_without_a_header_is_of_no_known_shape(tmp_path):
    (tmp_path / "broken.png").write_bytes(b"broken")
    assert list(sizes_of(ImageFiles((tmp_path / "broken.png",)))) == [(0, 0)]


@pytest.mark.parametrize(
    ("sizes", "named"), [([(40, 40), (80, 80)], False), ([(64, 70), (90, 80)], False), ([(63, 70), (90, 80)], True)]
)
def test_keys_change_where_the_rule_for_sizes_changed_pixels_and_nowhere_else(home, tmp_path, sizes, named):
    spec = _folder(tmp_path / "images", *sizes)
    files = plan(Request(dataset=spec, image_size=64, **RANDOM)).wanted
    assert {"crop_mode" in json.loads(file.key.preprocessing) for file in files} == {named}
    padded = plan(Request(dataset=spec, image_size=64, crop_mode="pad", **RANDOM)).wanted
    assert {json.loads(file.key.preprocessing)["crop_mode"] for file in padded} == {"pad"}


def test_features_by_the_older_rule_are_made_again_and_that_is_said(home, tmp_path, capsys, monkeypatch):
    spec = _folder(tmp_path / "images", (40, 50))
    words = ["--dataset", spec, "--weights", "random", "--image-size", "64", "--device", "cpu"]
    with monkeypatch.context() as earlier:
        earlier.setattr("features.request.shortest_oblong", lambda dataset: None)
        assert run_command(extract, words) == 0
    assert "made again" not in capsys.readouterr().out
    shutil.rmtree(home / "notes" / "plans")
    assert run_command(extract, words) == 0
    said = capsys.readouterr().out
    assert said.count("made again") == 1
    assert "avgpool" in said
    assert run_command(extract, words) == 0
    assert "made again" not in capsys.readouterr().out
    assert run_command(extract, [*words, "--crop-mode", "pad"]) == 0
    assert "made again" not in capsys.readouterr().out
