"""Heads on int8 features: what they said in their test they say of new images, wherever the record is taken."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from classify.__main__ import main
from classify.measure.results import load_results, sealed
from classify.use.saved import SavedModel
from features.commands.options import run_command
from features.datasets import open_dataset
from features.device import exact_levels
from features.errors import UserError

pytestmark = pytest.mark.skipif(not exact_levels(), reason="oneDNN does not add bytes exactly here")

DIGITS = ["--dataset", "digits", "--weights", "random", "--image-size", "32", "--limit", "100", "--limit-test", "40"]
INT8 = ["--precision", "int8", "--device", "cpu"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A working folder with a head and a network on int8 features, and the home that they were made in."""
    folder = tmp_path_factory.mktemp("int8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAYERPROBE_HOME", str(folder / "home"))
        patch.chdir(folder)
        joined = ["--layer", "layer1+layer2", "--pool", "grid:2", "--model", "logistic", "--no-search"]
        assert run_command(main, [*DIGITS, *INT8, *joined]) == 0
        short = ["--epochs", "1", "--train-precision", "float32", "--unfreeze", "layer4", "--model", "finetune"]
        assert run_command(main, [*DIGITS, *INT8, *short]) == 0
        yield folder


def test_every_test_image_gets_the_class_it_got_one_by_one_and_together(trained, monkeypatch):
    monkeypatch.chdir(trained)
    monkeypatch.setenv("LAYERPROBE_HOME", str(trained / "home"))
    data, heads = open_dataset("digits").load("test"), set()
    for saved in load_results("results"):
        kept, model = saved.predictions(), SavedModel.open(saved, device="cpu")
        assert all(key.precision.startswith("int8:") for key in model.reader.keys)
        images = data.images[kept.rows]
        for size in (40, 7, 1):
            found = [model.answers(model.prepare(images[at : at + size])) for at in range(0, len(images), size)]
            predicted = np.concatenate([answers.predicted for answers in found])
            assert np.array_equal(model.labels[predicted], kept.predicted), (saved.path, size)
        heads.add(saved.result.config["head"])
    assert heads == {"logistic", "finetune"}


def _of_logistic(folder):
    return next(saved for saved in load_results(folder) if saved.result.config["head"] == "logistic")


def test_a_record_brings_its_ranges_to_a_home_that_has_none(trained, tmp_path):
    saved = _of_logistic(trained / "results")
    data = open_dataset("digits").load("test")
    kept = saved.predictions()
    for place, row in enumerate(kept.rows[:6]):
        Image.fromarray(data.images[row]).save(tmp_path / f"{place}.png")
    environment = {**os.environ, "LAYERPROBE_HOME": str(tmp_path / "another")}
    command = [sys.executable, "-m", "classify", "predict", str(tmp_path), "--from", str(saved.path), "--json", "-"]
    done = subprocess.run([*command, "--device", "cpu"], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert [image["label"] for image in json.loads(done.stdout)["images"]] == kept.predicted[:6].tolist()


def test_ranges_that_are_not_those_of_the_keys_are_refused(trained, tmp_path):
    shutil.copytree(trained / "results", tmp_path / "results")
    saved = _of_logistic(tmp_path / "results")
    record = json.loads(saved.path.read_text())
    ((precision, ranges),) = record["result"]["extra"]["ranges"].items()
    ranges["x"][1] *= 2
    saved.path.write_text(json.dumps(sealed(record)))
    with pytest.raises(UserError, match=f"the ranges in it are not those of {precision[:24]}; run it again"):
        SavedModel.open(saved.path, device="cpu")


def test_a_processor_that_cannot_is_told_so_when_it_is_to_predict(trained, monkeypatch):
    monkeypatch.setenv("LAYERPROBE_HOME", str(trained / "home"))
    monkeypatch.setattr("features.device._adds_the_largest", lambda levels: False)
    with pytest.raises(UserError, match="--precision int8 needs a processor whose sums of bytes are exact"):
        SavedModel.open(_of_logistic(trained / "results"), device="cpu")


def test_a_row_is_made_again_from_its_record_with_the_ranges_in_it(trained, monkeypatch, capsys):
    monkeypatch.chdir(trained)
    monkeypatch.setenv("LAYERPROBE_HOME", str(trained / "home"))
    shutil.rmtree(trained / "home" / "ranges")
    record = _of_logistic("results").path
    assert run_command(main, ["repeat", "--afresh", str(record)]) == 0
    assert "the same: all 40 test predictions are what they were" in capsys.readouterr().out
