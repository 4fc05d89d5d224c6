"""Images are prepared for a saved model as those that it was trained on were, wherever the model runs."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from classify.__main__ import main
from classify.heads.network.classifier import NetworkClassifier
from classify.heads.network.settings import TrainingSettings
from classify.measure.results import load_results
from classify.use.saved import SavedModel
from features.commands.options import run_command
from features.datasets import open_dataset
from features.preprocessing import EARLIER, Preparation, Preprocessing

MADE = Path(__file__).parents[1] / "experiments" / "made_by_0_1_0"
OF_RESNET = Preprocessing((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), resize=256, crop=224)


@pytest.fixture
def photographs(home, tmp_path, monkeypatch) -> str:
    """A data set of files that are wider than high."""
    monkeypatch.chdir(tmp_path)
    draw = np.random.default_rng(0)
    for label in ("dark", "light"):
        (tmp_path / "images" / label).mkdir(parents=True)
        for number in range(12):
            pixels = draw.integers(0, 120, (30, 50, 3), np.uint8) + (120 if label == "light" else 0)
            Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "images" / label / f"{number}.png")
    return f"folder:{tmp_path / 'images'}"


ASKED = ["--crop-mode", "pad", "--mean", "0.5", "--std", "0.25", "0.25", "0.3", "--interpolation", "bicubic"]


@pytest.mark.parametrize("model", [["ridge"], ["finetune", "--unfreeze", "fc"], ["finetune", "--unfreeze", "all"]])
def test_what_was_asked_for_in_training_is_done_in_prediction_and_export(photographs, model, capsys):
    words = ["--dataset", photographs, "--weights", "random", "--image-size", "32", "--precision", "float32"]
    trains = ["--epochs", "1", "--batch-size", "8", "--train-precision", "float32"] if model != ["ridge"] else []
    words += ["--test", "split"] if model == ["ridge"] else []
    assert run_command(main, [*words, *ASKED, *trains, "--model", *model, "--device", "cpu"]) == 0
    (saved,) = load_results("results")
    asked = Preparation(32, "pad", None, "bicubic", (0.5,), (0.25, 0.25, 0.3)).of(OF_RESNET)
    opened = SavedModel.open(saved, device="cpu")
    assert opened.preprocessing == asked
    kept, data = saved.predictions(), open_dataset(photographs).load("test")
    answers = opened.answers(opened.prepare([data.images.read(int(row)) for row in kept.rows]))
    if kept.probabilities is not None:
        assert np.allclose(answers.probabilities, kept.probabilities, atol=1e-5)
    assert np.array_equal(opened.labels[answers.predicted], kept.predicted)
    capsys.readouterr()
    assert run_command(main, ["repeat", str(saved.path), "--dataset", photographs]) == 0
    assert "the same: all" in capsys.readouterr().out
    assert (
        run_command(main, ["export", "--from", str(saved.path), "--format", "state-dict", "--output", "model.pth"]) == 0
    )
    before = json.loads(Path("model.pth.json").read_bytes())["input"]["before"]
    assert before.startswith("an image has its long side resized to 32 and is filled up to 32 x 32")
    assert "bicubic" in before


def test_a_model_of_long_images_is_asked_about_new_ones_in_the_way_it_was_tested(photographs):
    words = ["--dataset", photographs, "--weights", "random", "--image-size", "64", "--precision", "float32"]
    assert run_command(main, [*words, "--model", "logistic", "--no-search", "--device", "cpu"]) == 0
    (saved,) = load_results("results")
    assert saved.result.extra.crop_mode == "center"
    opened = SavedModel.open(saved, device="cpu")
    assert opened.preprocessing == OF_RESNET.at(64)
    assert '"crop_mode":"center"' in opened.reader.keys[0].preprocessing


def test_models_of_version_0_1_0_go_on_being_given_what_they_were(tmp_path, monkeypatch):
    shutil.copytree(MADE, tmp_path / "made")
    monkeypatch.setenv("LAYERPROBE_HOME", str(tmp_path / "made" / "home"))
    heads = [saved for saved in load_results(tmp_path / "made" / "results") if saved.head_path is not None]
    assert len(heads) > 10
    for saved in heads[::4]:
        steps = SavedModel.open(saved, device="cpu").preprocessing
        assert steps == dataclasses.replace(OF_RESNET.at(saved.result.config.image_size), crop_mode=EARLIER)


def test_a_network_saved_without_a_word_is_one_of_version_0_1_0(home, tmp_path):
    images, labels = np.random.default_rng(0).integers(0, 256, (16, 20, 40), np.uint8), np.arange(16) % 2
    network = NetworkClassifier(
        "resnet18",
        weights="random",
        unfreeze="fc",
        image_size=32,
        preparation=Preparation(32, "squash"),
        settings=TrainingSettings(epochs=1, batch_size=8),
        device="cpu",
    ).fit(images, labels)
    network.save(tmp_path / "network")
    again = NetworkClassifier.load(tmp_path / "network", device="cpu")
    assert again.preprocessing == network.preprocessing
    assert again.preprocessing.crop_mode == "squash"
    assert np.allclose(again.predict_proba(images), network.predict_proba(images), atol=1e-6)
    path = tmp_path / "network" / "network.json"
    fields = json.loads(path.read_bytes())
    path.write_text(json.dumps({name: fields[name] for name in fields if name not in ("preprocessing", "digest")}))
    earlier = NetworkClassifier.load(tmp_path / "network", device="cpu")
    assert earlier.preprocessing == dataclasses.replace(OF_RESNET.at(32), crop_mode=EARLIER)
