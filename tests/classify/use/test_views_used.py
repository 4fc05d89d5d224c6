"""Models that learnt from several views of an image, from training to predictions and to other programs."""

import importlib.util
import json

import numpy as np
import pytest

from classify.__main__ import main
from classify.experiments.row import Row
from classify.heads.around import plain_head
from classify.measure.results import load_results
from classify.use.explaining import explain
from classify.use.exporting import export_model
from classify.use.saved import SavedModel
from features.commands.options import run_command
from features.datasets import open_dataset
from features.errors import UserError

DIGITS = ["--dataset", "digits", "--weights", "random", "--image-size", "32", "--limit", "80", "--limit-test", "40"]
DIGITS += ["--precision", "float32", "--device", "cpu", "--views", "4"]
JOINED = ["--layer", "layer1+layer2", "--pool", "grid:2"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A working folder with heads of several views, on real digits."""
    folder = tmp_path_factory.mktemp("views")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAYERPROBE_HOME", str(folder / "home"))
        patch.chdir(folder)
        several = [*DIGITS, *JOINED, "--test-views", "3"]
        assert run_command(main, [*several, "--model", "svm", "ridge", "--no-search"]) == 0
        assert run_command(main, [*several, "--model", "logistic", "--pca", "12", "--no-search"]) == 0
        assert run_command(main, [*DIGITS, "--model", "lda", "--no-search"]) == 0
        yield folder


def _record(head):
    (found,) = (saved for saved in load_results("results") if saved.result.config.head == head)
    return found


def _test_images(saved):
    return open_dataset("digits").load("test").images[saved.predictions().rows]


@pytest.mark.parametrize("head", ["svm", "ridge", "logistic", "lda"])
def test_new_images_are_seen_as_the_test_images_were(trained, monkeypatch, head):
    monkeypatch.chdir(trained)
    saved = _record(head)
    assert saved.result.config.views == "4 shift rotate scale"
    assert saved.result.config.test_views == (1 if head == "lda" else 3)
    how = "the image alone" if head == "lda" else "3 of them"
    told = f"learnt from 4 of each image (shift, rotate, scale), decided over {how}"
    assert ("views", told) in saved.result.summary()
    model, kept = SavedModel.open(saved), saved.predictions()
    images = _test_images(saved)
    said = [model.answers(model.prepare(some)) for some in (images[:8], images[8:])]
    assert np.array_equal(np.concatenate([part.predicted for part in said]), kept.predicted)
    probabilities = np.concatenate([part.probabilities for part in said])
    assert np.abs(probabilities - kept.probabilities).max() < 1e-4
    assert np.concatenate([part.distance for part in said]).shape == (40,)


def test_rows_of_views_are_made_again_and_are_no_other_rows(trained, monkeypatch, capsys):
    monkeypatch.chdir(trained)
    saved = _record("ridge")
    assert run_command(main, ["repeat", str(saved.path)]) == 0
    assert "the same: all 40 test predictions are what they were" in capsys.readouterr().out
    config = dict(saved.result.config)
    row = Row.from_config(config)
    assert row.digest == saved.result.digest and row.source.request.views == 4
    for changed in ({"test_views": 2}, {"views": "3 shift rotate scale"}, {"views": "4 shift"}):
        assert Row.from_config({**config, **changed}).digest != saved.result.digest


def test_what_stays_in_the_store_is_learnt_from_view_by_view(trained, monkeypatch):
    monkeypatch.chdir(trained)
    asked = [*DIGITS, "--layer", "layer1+maxpool", "--test-views", "3", "--model", "lda", "--no-search"]
    for blocks in ("on", "off"):
        assert run_command(main, [*asked, "--in-blocks", blocks, "--results", blocks]) == 0
    (read,), (whole,) = load_results("on"), load_results("off")
    assert read.result.extra["read"] == "in blocks" and "read" not in whole.result.extra
    by_blocks, at_once = (plain_head(saved.load_head()).coef_ for saved in (read, whole))
    assert np.allclose(by_blocks, at_once, atol=1e-4 * np.abs(at_once).max())
    assert np.array_equal(read.predictions().predicted, whole.predictions().predicted)


@pytest.mark.parametrize("head", ["svm", "logistic", "lda"])
def test_an_exported_network_makes_the_views_itself(trained, monkeypatch, tmp_path, head):
    pytest.importorskip("onnxruntime")
    if importlib.util.find_spec("onnxscript") is None:
        pytest.skip("needs onnxscript")
    monkeypatch.chdir(trained)
    exported = export_model(_record(head), "onnx", tmp_path / "digits.onnx")
    assert exported.agreement.difference < 1e-4


def test_a_head_over_several_views_is_no_layer_and_over_one_it_is(trained, monkeypatch, tmp_path):
    monkeypatch.chdir(trained)
    with pytest.raises(UserError, match="over 3 views cannot become one final layer.*--test-views 1"):
        export_model(_record("ridge"), "state-dict", tmp_path / "digits.pth")
    assert export_model(_record("lda"), "state-dict", tmp_path / "digits.pth").path.exists()


def test_where_it_looked_is_told_of_the_image_itself(trained, monkeypatch):
    monkeypatch.chdir(trained)
    for head in ("svm", "lda"):
        saved = _record(head)
        explanations = explain(SavedModel.open(saved), _test_images(saved)[:2])
        assert [explanation.pixels.shape for explanation in explanations] == [(32, 32, 3)] * 2


def test_options_that_nothing_would_read_are_refused(trained, monkeypatch, capsys):
    monkeypatch.chdir(trained)
    assert run_command(main, [*DIGITS, "--model", "convnet"]) == 2
    assert "--augment changes the images that networks train on" in capsys.readouterr().err
    assert run_command(main, [*DIGITS, "--test-views", "5", "--model", "ridge"]) == 2
    assert "--test-views 5: more than --views 4" in capsys.readouterr().err


def test_a_probe_compares_layers_by_their_views(trained, monkeypatch, capsys):
    monkeypatch.chdir(trained)
    asked = [*DIGITS, "--test-views", "2", "--layer", "layer1", "layer2", "--model", "ridge", "--select"]
    assert run_command(main, ["probe", *asked, "--results", "probe"]) == 0
    rows = [saved.result for saved in load_results("probe")]
    assert {row.config.test_views for row in rows if row.config.layer.startswith("layer")} == {2}
    assert {row.config.views for row in rows if row.config.layer == "pixels"} == {None}
    assert "scores of 2 layers" in capsys.readouterr().err
    (document,) = (trained / "probe").glob("probe-*.json")
    costs = {layer["layer"]: layer["bytes"] for layer in json.loads(document.read_text())["layers"]}
    assert costs == {"layer1": 4 * 64 * 4, "layer2": 4 * 128 * 4}, "four views take four times as much"
