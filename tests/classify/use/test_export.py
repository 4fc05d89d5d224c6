"""Saved models as networks for other programs: the same answers as the model, or no file."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torchvision import models
from torchvision.transforms.functional import normalize, resize

from classify.__main__ import main
from classify.experiments.probe.entries import head2toe
from classify.heads import HEADS
from classify.heads.calibrated import Calibrated, calibrate
from classify.heads.familiar import Familiar, Guarded
from classify.heads.folds import class_scores
from classify.heads.network.untouched import UntouchedClassifier
from classify.heads.on_axes import OnAxes, Reduction
from classify.measure.results import load_results
from classify.use import exporting
from classify.use.exporting import export_model
from classify.use.modules import head_module
from classify.use.saved import SavedModel, head_answers
from features.commands.options import run_command
from features.datasets import open_dataset
from features.errors import UserError
from tests.conftest import REAL_HOME

STANDIN = "resnet18-imagenet-standin.pth"
FAST = {"linear": {"epochs": 2}, "mlp": {"epochs": 2, "hidden": 16}}
needs_onnx = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("onnx", "onnxscript", "onnxruntime")),
    reason="needs onnx, onnxscript and onnxruntime (extra `export`)",
)


# ---- heads as modules ----------------------------------------------------------------------------------------------


def _fitted(name, images, labels):
    if name == "axes":
        axes = Reduction("pca", 16).fit(images)
        return OnAxes(axes, HEADS["svm"].build().fit(axes.apply(images), labels))
    if name == "untouched":
        return UntouchedClassifier("matched").fit(images, labels)
    if name == "knn euclidean":
        return HEADS["knn"].build(metric="euclidean", k=3).fit(images, labels)
    head = head2toe((32, 32)) if name == "head2toe" else HEADS[name]
    return head.build(**FAST.get(name, {})).fit(images, labels)


@pytest.mark.parametrize("classes", [2, 10])
@pytest.mark.parametrize("name", [*HEADS, "axes", "head2toe", "untouched", "knn euclidean"])
def test_a_head_as_a_module_says_what_the_head_says(name, classes):
    images, labels = load_digits(return_X_y=True)
    images, labels = images[labels < classes].astype(np.float32)[:400], labels[labels < classes][:400]
    _says_the_same(_fitted(name, images[:200], labels[:200]), images[200:])


@pytest.mark.parametrize("classes", [2, 10])
@pytest.mark.parametrize("name", [*HEADS, "head2toe"])
def test_a_calibrated_head_that_knows_its_images_says_the_same_as_a_module(name, classes):
    images, labels = load_digits(return_X_y=True)
    images, labels = images[labels < classes].astype(np.float32)[:400], labels[labels < classes][:400]
    plain = _fitted(name, images[:150], labels[:150])
    head = calibrate(plain, class_scores(plain, images[150:200]), labels[150:200])
    assert isinstance(head, Calibrated)
    strange = np.concatenate([images[200:], 16 - images[200:210]])
    answers = _says_the_same(Guarded(head, Familiar.fit(images[:200], labels[:200])), strange)
    assert np.array_equal(answers.predicted, np.searchsorted(head.classes_, plain.predict(strange)))
    assert np.array_equal(answers.probabilities.argmax(axis=1), answers.predicted)
    assert (answers.distance[-10:] > 1).all() and (answers.distance[:-10] < 1).mean() > 0.9


def _says_the_same(head, images):
    expected = head_answers(head, images)
    with torch.no_grad():
        predicted, scores, probabilities, distance = head_module(head)(torch.from_numpy(images))
    assert np.array_equal(predicted.numpy(), expected.predicted)
    assert np.allclose(scores.numpy(), expected.scores, atol=2e-4 * np.abs(expected.scores).max())
    assert (probabilities is None) == (expected.probabilities is None)
    if probabilities is not None:
        assert np.abs(probabilities.numpy() - expected.probabilities).max() < 1e-4
    assert (distance is None) == (expected.distance is None)
    if distance is not None:
        assert np.abs(distance.numpy() ** 2 - expected.distance**2).max() < 1e-4
    return expected


def test_a_head_without_a_form_is_named():
    from sklearn.tree import DecisionTreeClassifier

    with pytest.raises(UserError, match="DecisionTreeClassifier cannot be exported"):
        head_module(DecisionTreeClassifier())


# ---- from training to other programs, on real MNIST ----------------------------------------------------------------


@pytest.fixture(scope="module")
def mnist(tmp_path_factory):
    """A working folder with an SVM, a logistic regression and a fine-tuned network, trained on a little of MNIST."""
    wanted = [REAL_HOME and REAL_HOME / name for name in ("datasets/MNIST", f"weights/{STANDIN}")]
    if not all(path and path.exists() for path in wanted):
        pytest.skip("needs $LAYERPROBE_HOME/datasets/MNIST and the stand-in weights")
    folder = tmp_path_factory.mktemp("export")
    with pytest.MonkeyPatch.context() as patch:
        for kind in ("datasets", "weights"):
            (folder / "home" / kind).mkdir(parents=True)
        (folder / "home/datasets/MNIST").symlink_to(wanted[0])
        (folder / "home/weights" / STANDIN).symlink_to(wanted[1])
        patch.setenv("LAYERPROBE_HOME", str(folder / "home"))
        patch.chdir(folder)
        tiny = ["--weights", str(folder / "home/weights" / STANDIN), "--image-size", "32", "--device", "cpu"]
        tiny += ["--limit", "200", "--limit-test", "60", "--precision", "float32", "--no-search"]
        assert run_command(main, [*tiny, "--layer", "layer2+layer3", "--pool", "grid:2", "--model", "svm"]) == 0
        assert run_command(main, [*tiny, "--model", "logistic"]) == 0
        short = ["--epochs", "1", "--train-precision", "float32", "--unfreeze", "layer4"]
        assert run_command(main, [*tiny[:-1], *short, "--model", "finetune"]) == 0
        yield folder


@pytest.fixture
def at_work(mnist, monkeypatch):
    """Inside that folder."""
    monkeypatch.chdir(mnist)
    return mnist


def _record(head, folder="results"):
    (found,) = (saved for saved in load_results(folder) if saved.result.config["head"] == head)
    return found


def _mnist_test(saved):
    """The test images of a result, (N, 28, 28), and what it predicted for them."""
    kept = saved.predictions()
    return open_dataset("mnist").load("test").images[kept.rows], kept


@needs_onnx
@pytest.mark.parametrize("head", ["svm", "finetune"])
def test_train_save_export_and_onnxruntime_give_one_answer(at_work, tmp_path, capsys, head):
    import onnx
    import onnxruntime

    saved, path = _record(head), tmp_path / "model.onnx"
    assert run_command(main, ["export", "--from", str(saved.path), "--output", str(path)]) == 0
    assert "same classes as the model on 48 images (test images of mnist)" in capsys.readouterr().out
    images, kept = _mnist_test(saved)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    crops = SavedModel.open(saved, device="cpu").cropped(images).contiguous().numpy()
    assert crops.shape == (60, 3, 32, 32)
    assert crops.dtype == np.uint8
    label, scores, probabilities, *more = session.run(None, {"images": crops})
    assert np.array_equal(label, kept.predicted)
    assert np.abs(probabilities - kept.probabilities).max() < 1e-4
    # A network keeps no features of its training images.
    assert len(more) == (head == "svm")
    for distance in more:
        assert np.mean(distance > 1) == saved.result.extra.unlike
    # One image is enough: the batch is free.
    assert session.run(None, {"images": crops[:1]})[0].tolist() == label[:1].tolist()
    sidecar = json.loads((tmp_path / "model.onnx.json").read_text())
    assert sidecar["classes"] == [str(digit) for digit in range(10)]
    assert sidecar["input"]["shape"] == ["N", 3, 32, 32]
    assert sidecar["checked"]["images"] == sidecar["checked"]["as_in_result"] == 48
    inside = {each.key: each.value for each in onnx.load(path).metadata_props}
    assert json.loads(inside["layerprobe"])["input"] == sidecar["input"]
    onnx.checker.check_model(str(path))


def test_an_exported_program_needs_torch_alone(at_work, tmp_path):
    saved = _record("logistic")
    done = export_model(saved, "torch", tmp_path / "model.pt2")
    assert done.agreement.difference < 1e-4
    images, kept = _mnist_test(saved)
    np.save(tmp_path / "crops.npy", SavedModel.open(saved, device="cpu").cropped(images).contiguous().numpy())
    script = (
        "import json, sys, numpy, torch; more = {'layerprobe.json': ''}\n"
        "program = torch.export.load('model.pt2', extra_files=more).module()\n"
        "label = program(torch.from_numpy(numpy.load('crops.npy')))[0]\n"
        "classes = json.loads(more['layerprobe.json'])['classes']\n"
        "print(json.dumps([classes[each] for each in label])); assert 'classify' not in sys.modules"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout) == [str(label) for label in kept.predicted]


@pytest.mark.parametrize(("head", "name"), [("logistic", "plain.pth"), ("finetune", "plain.safetensors")])
def test_a_linear_head_becomes_the_fc_of_an_ordinary_resnet18(at_work, tmp_path, head, name):
    saved, path = _record(head), tmp_path / name
    arguments = ["export", "--from", str(saved.path), "--format", "state-dict", "--output", str(path)]
    assert run_command(main, arguments) == 0
    if path.suffix == ".pth":
        state = torch.load(path, weights_only=True)
    else:
        from safetensors.torch import load_file

        state = load_file(path)
    network = models.resnet18(num_classes=10)
    network.load_state_dict(state, strict=True)
    about = json.loads(path.with_name(f"{name}.json").read_text())["input"]
    assert about["type"] == "float32"
    images, kept = _mnist_test(saved)
    # By torchvision's own transforms, as somebody would who has only the file and what stands beside it.
    resized = resize(torch.from_numpy(images)[:, None], [32, 32], antialias=True).float() / 255
    entry = models.ResNet18_Weights.DEFAULT.transforms()
    assert str(entry.mean) in about["values"]
    ready = normalize(resized.expand(-1, 3, -1, -1), entry.mean, entry.std)
    with torch.no_grad():
        probabilities = network.eval()(ready).softmax(1).numpy()
    assert np.array_equal(probabilities.argmax(1), kept.predicted)
    assert np.abs(probabilities - kept.probabilities).max() < 1e-4


def test_a_network_that_does_otherwise_is_not_kept(at_work, tmp_path, monkeypatch):
    true = exporting.whole_network

    def off(model):
        made = true(model)
        with torch.no_grad():
            made.decide.head.layer.weight.mul_(1.1)
        return made

    monkeypatch.setattr(exporting, "whole_network", off)
    with pytest.raises(UserError, match="was not saved"):
        export_model(_record("logistic"), "torch", tmp_path / "off.pt2")
    assert list(tmp_path.iterdir()) == []


def _fails(capsys, *arguments):
    assert run_command(main, ["export", *map(str, arguments)]) == 2
    told = capsys.readouterr().err.strip()
    assert told.startswith("error: ")
    assert "\n" not in told
    return told


def test_what_cannot_be_said_is_refused_in_a_line_before_the_work(at_work, tmp_path, capsys, monkeypatch):
    svm, logistic = _record("svm").path, _record("logistic").path
    state = ["--format", "state-dict", "--output", tmp_path / "x.pth"]
    assert "not linear" in _fails(capsys, "--from", svm, *state)
    assert "ends in .pt2" in _fails(capsys, "--from", svm, "--format", "torch", "--output", "x.onnx")
    assert "no folder" in _fails(capsys, "--from", svm, "--output", tmp_path / "no" / "x.onnx")
    absent = ["--from", logistic, "--format", "torch", "--output", tmp_path / "x.pt2", "--check", "absent.png"]
    assert "absent.png" in _fails(capsys, *absent)
    real = exporting.importlib.util.find_spec
    monkeypatch.setattr(
        exporting.importlib.util, "find_spec", lambda name, *more: None if name == "onnxruntime" else real(name, *more)
    )
    assert "pip install 'layerprobe[export]'" in _fails(capsys, "--from", svm, "--output", tmp_path / "x.onnx")
    assert list(tmp_path.iterdir()) == []


# ---- other architectures, other data -------------------------------------------------------------------------------

DIGITS = ["--dataset", "digits", "--weights", "random", "--image-size", "32", "--limit", "100", "--limit-test", "20"]
DIGITS += ["--precision", "float32", "--device", "cpu", "--no-search"]


def test_the_final_layer_of_another_architecture_is_found_from_its_graph(home, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = [*DIGITS, "--backbone", "mobilenet_v2", "--model", "ridge", "--layer"]
    assert run_command(main, [*arguments, "avgpool", "--results", "pooled"]) == 0
    done = export_model(_record("ridge", "pooled"), "state-dict", "mobile.pth")
    assert done.agreement.images == done.agreement.as_in_result == 20
    models.mobilenet_v2(num_classes=10).load_state_dict(torch.load("mobile.pth", weights_only=True), strict=True)
    # A head on the classifier's own output: two linear layers in a row are one.
    assert run_command(main, [*arguments, "fc", "--results", "outputs"]) == 0
    assert export_model(_record("ridge", "outputs"), "state-dict", "outputs.pth").agreement.as_in_result == 20
    assert run_command(main, [*arguments, "features.3", "--results", "inner"]) == 0
    with pytest.raises(UserError, match="not what classifier.1 reads"):
        export_model(_record("ridge", "inner"), "state-dict", "inner.pth")
    assert not Path("inner.pth").exists()


def test_without_the_data_set_scikit_learns_digits_check_the_file(home, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    labels = np.repeat([0, 1], 40)
    images = random.integers(0, 100, (80, 9, 9)).astype(np.uint8) + 100 * labels[:, None, None].astype(np.uint8)
    np.savez("two.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    arguments = [*DIGITS, "--model", "logistic", "--layer", "layer1"]
    arguments[1] = "npz:two.npz"
    assert run_command(main, arguments) == 0
    Path("two.npz").unlink()
    done = export_model(_record("logistic"), "torch", "two.pt2")
    assert "scikit-learn's digits" in str(done.agreement)
    assert done.agreement.as_in_result is None
    assert json.loads(done.sidecar.read_text())["classes"] == ["0", "1"]


def test_help_imports_nothing_heavy():
    script = (
        "import sys\nfrom classify.__main__ import main\n"
        "try: main(['export', '--help'])\n"
        "except SystemExit: pass\n"
        "assert not {'numpy', 'torch', 'sklearn', 'rich', 'PIL'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "state-dict" in done.stdout
