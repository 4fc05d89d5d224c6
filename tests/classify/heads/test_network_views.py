"""Networks that decide over several views of an image: the mean of what they say of each, wherever they are asked."""

import dataclasses
import importlib.util

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from classify.__main__ import main
from classify.experiments.row import Row
from classify.heads.network.classifier import NetworkClassifier
from classify.heads.network.convnet import ConvNetClassifier
from classify.heads.network.settings import TrainingSettings
from classify.measure.results import load_results
from classify.use.exporting import export_model
from classify.use.saved import SavedModel
from extract.views import seen
from features.backbones import load_backbone
from features.commands.options import run_command
from features.datasets import open_dataset
from features.errors import UserError
from features.preprocessing import Preparation
from features.views import Views

MOVED = TrainingSettings(epochs=1, batch_size=16, precision="float32", augment=("shift", "flip"))
DIGITS = ["--dataset", "digits", "--weights", "random", "--image-size", "32", "--limit", "80", "--limit-test", "40"]
DIGITS += ["--precision", "float32", "--train-precision", "float32", "--device", "cpu", "--epochs", "1"]
MODELS = ["--model", "scratch", "convnet", "finetune", "spottune", "--unfreeze", "layer4"]


@pytest.fixture(scope="module")
def digits():
    images, labels = load_digits(return_X_y=True)
    return np.round(images * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8)[:96], labels[:96]


def _of(images, views, number):
    """A view of grey or colour images, as a data set would give it."""
    pixels = torch.from_numpy(images)
    pixels = pixels[:, None].expand(-1, 3, -1, -1) if pixels.ndim == 3 else pixels.permute(0, 3, 1, 2)
    return seen(pixels.contiguous(), views, number).permute(0, 2, 3, 1).contiguous().numpy()


@pytest.mark.parametrize("unfreeze", ["all", "layer4"])
def test_a_network_says_the_mean_of_what_it_says_of_each_view(digits, unfreeze):
    images, labels = digits
    images = images.repeat(4, 1).repeat(4, 2)  # 32 pixels, at which nothing is resized
    backbone = load_backbone("resnet18", "random", prepared=Preparation(image_size=32, resize=32))
    network = NetworkClassifier(
        backbone, unfreeze=unfreeze, image_size=32, settings=MOVED, test_views=4, device="cpu"
    ).fit(images, labels)
    decided = network.decision_function(images[:20])
    network.test_views = 1
    each = [network.decision_function(_of(images[:20], Views(4, ("shift", "flip")), view)) for view in range(4)]
    assert np.abs(each[1] - each[0]).max() > 0.01
    assert np.allclose(decided, np.mean(each, axis=0), atol=1e-4)


def test_images_that_are_no_squares_are_moved_and_turned_too(digits):
    images, labels = digits
    images = np.repeat(images, 3, axis=1)[:, :20]  # 20 high and 8 wide
    turned = dataclasses.replace(MOVED, augment=("rotate", "shift"))
    network = ConvNetClassifier(settings=turned, test_views=3, device="cpu").fit(images, labels)
    decided = network.decision_function(images[:10])
    network.test_views = 1
    views = Views(3, ("rotate", "shift"))
    each = [network.decision_function(_of(images[:10], views, view)) for view in range(3)]
    assert np.allclose(decided, np.mean(each, axis=0), atol=1e-4)


def test_a_turn_keeps_lengths_in_images_that_are_no_squares():
    image = np.zeros((1, 40, 80, 3), np.uint8)
    image[0, 18:22, 10:70] = 255  # a bar of 60 pixels, about the middle
    for view in range(1, 9):
        bar = _of(image, Views(9, ("rotate",)), view)[0, :, :, 0] > 127
        rows, columns = np.nonzero(bar)
        length = np.hypot(np.ptp(rows), np.ptp(columns))
        assert 56 < length < 64 and 200 < bar.sum() < 280, view


def test_cached_maps_have_one_view(digits):
    images, labels = digits
    network = NetworkClassifier("resnet18", weights="random", unfreeze="layer4", image_size=32, settings=MOVED)
    network.fit(images, labels)
    network.test_views = 2
    with pytest.raises(UserError, match="several views are made of images"):
        network.decision_function(np.zeros((2, 256, 2, 2), np.float32))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A working folder with networks that decide over three views, on real digits, and one that decides over one."""
    folder = tmp_path_factory.mktemp("network-views")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAYERPROBE_HOME", str(folder / "home"))
        patch.chdir(folder)
        assert run_command(main, [*DIGITS, *MODELS, "--test-views", "3"]) == 0
        assert run_command(main, [*DIGITS, "--model", "scratch", "--results", "one"]) == 0
        yield folder


def _record(head, folder="results"):
    (found,) = (saved for saved in load_results(folder) if saved.result.config.head == head)
    return found


@pytest.mark.parametrize("head", ["scratch", "convnet", "finetune", "spottune"])
def test_new_images_are_seen_as_the_test_images_were(trained, monkeypatch, head):
    monkeypatch.chdir(trained)
    saved = _record(head)
    assert saved.result.config.test_views == 3
    assert ("views", "decided over 3 of each image") in saved.result.summary()
    model, kept = SavedModel.open(saved), saved.predictions()
    images = open_dataset("digits").load("test").images[kept.rows]
    assert np.abs(model.predict_proba(images) - kept.probabilities).max() < 1e-4
    said = np.concatenate([model.answers(model.prepare(some)).predicted for some in (images[:8], images[8:])])
    assert np.array_equal(said, kept.predicted)


def test_a_row_says_over_how_many_views_and_is_made_again(trained, monkeypatch, capsys):
    monkeypatch.chdir(trained)
    several, one = _record("scratch"), _record("scratch", "one")
    assert several.result.digest != one.result.digest and "test_views" not in dict(one.result.config)
    assert _record("finetune").result.config.maps == "in the loop"
    row = Row.from_config(dict(several.result.config))
    assert row.digest == several.result.digest and row.head.test_views == 3
    # Trained alike, and so the epochs are the same; asked otherwise.
    told = [[epoch["loss"] for epoch in saved.result.extra.history] for saved in (several, one)]
    assert told[0] == told[1]
    assert not np.array_equal(several.predictions().probabilities, one.predictions().probabilities)
    assert run_command(main, ["repeat", str(several.path)]) == 0
    assert "the same: all 40 test predictions are what they were" in capsys.readouterr().out


@pytest.mark.parametrize("head", ["scratch", "convnet", "finetune"])
def test_an_exported_network_makes_the_views_itself(trained, monkeypatch, tmp_path, head):
    pytest.importorskip("onnxruntime")
    if importlib.util.find_spec("onnxscript") is None:
        pytest.skip("needs onnxscript")
    monkeypatch.chdir(trained)
    exported = export_model(_record(head), "onnx", tmp_path / "digits.onnx")
    assert exported.agreement.difference < 1e-4 and exported.agreement.as_in_result == 40


def test_plain_weights_see_an_image_once(trained, monkeypatch, tmp_path):
    monkeypatch.chdir(trained)
    with pytest.raises(UserError, match="decides over 3 views is more than its weights.*--test-views 1"):
        export_model(_record("scratch"), "state-dict", tmp_path / "digits.pth")


def test_who_reads_the_option_is_told_apart(trained, monkeypatch, capsys):
    monkeypatch.chdir(trained)
    for models, told in (
        (["untouched"], "--test-views is about what learns"),
        (["ridge", "untouched"], "--test-views 3: more than --views 1"),
    ):
        assert run_command(main, ["--dataset", "digits", "--test-views", "3", "--model", *models]) == 2
        assert told in capsys.readouterr().err


def test_compare_without_models_has_heads_that_read_views_and_asks_untouched_alone_for_none(capsys):
    asked = ["compare", "--dataset", "digits", "--test-views", "3"]
    # None of what it compares by itself, some of it heads, is a reason to refuse `--views`.
    assert run_command(main, [*asked, "--views", "2"]) == 2
    assert "--test-views 3: more than --views 2" in capsys.readouterr().err
    assert run_command(main, [*asked, "--model", "untouched"]) == 2
    assert "--test-views is about what learns, and untouched does not" in capsys.readouterr().err
