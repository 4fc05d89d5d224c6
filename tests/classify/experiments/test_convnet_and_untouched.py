"""The ConvNet at the image's own size, and the readings of a network that nobody trained."""

import dataclasses
import tracemalloc

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.special import softmax
from sklearn.datasets import load_digits

from classify.__main__ import main
from classify.experiments.compare import _models
from classify.heads.network.convnet import SIDE, ConvNet, ConvNetClassifier, pixel_moments
from classify.heads.network.settings import TrainingSettings
from classify.heads.network.untouched import (
    UntouchedClassifier,
    best_map,
    published_accuracy,
    require_source_head,
    seen_as,
    top_k_accuracy,
)
from classify.measure.results import load_results
from features.architectures import build_model
from features.backbones import load_backbone
from features.commands.options import run_command
from features.datasets import ImageFiles
from features.errors import UserError
from features.preprocessing import Preparation
from features.request import Request

SETTINGS = TrainingSettings(epochs=8, batch_size=32, precision="float32", learning_rate=3e-3)


@pytest.fixture(scope="module")
def digits():
    images, labels = load_digits(return_X_y=True)
    return np.round(images * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8), labels


def test_the_convnet_has_two_blocks_and_two_linear_layers():
    kinds = [type(module).__name__ for module in ConvNet(1, 28, 28, 10).modules()]
    assert (kinds.count("Conv2d"), kinds.count("Linear")) == (2, 2)
    assert ConvNet(3, 224, 200, 5)(torch.zeros(2, 3, 224, 200)).shape == (2, 5)


def test_mean_and_deviation_of_pixels_take_little_memory():
    images = np.random.default_rng(0).integers(0, 200, (1000, 32, 32, 3), dtype=np.uint8)
    assert pixel_moments(images) == pytest.approx((images.mean(), images.std()), rel=1e-12)
    tracemalloc.start()
    pixel_moments(images)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # One float64 for each pixel would be 25 MB.
    assert peak < images.nbytes


def test_the_convnet_learns_digits_at_their_own_size_and_is_saved(digits, tmp_path):
    images, labels = digits
    network = ConvNetClassifier(settings=SETTINGS, device="cpu").fit(
        images[:1000], labels[:1000], (images[1000:1300], labels[1000:1300])
    )
    assert network.score(images[1300:], labels[1300:]) > 0.9
    network.save(tmp_path)
    loaded = ConvNetClassifier.load(tmp_path, device="cpu")
    np.testing.assert_allclose(loaded.predict_proba(images[:50]), network.predict_proba(images[:50]), atol=1e-6)
    assert loaded.best_epoch_ == network.best_epoch_


def test_the_convnet_reads_files_of_one_size_at_it_and_resizes_a_mixture(tmp_path):
    draw = np.random.default_rng(0)
    for number in range(8):
        Image.fromarray(draw.integers(0, 255, (12, 12, 3), dtype=np.uint8)).save(tmp_path / f"{number}.png")
    files = ImageFiles(tuple(sorted(tmp_path.glob("*.png"))))
    settings = dataclasses.replace(SETTINGS, epochs=1, batch_size=4)
    network = ConvNetClassifier(settings=settings, device="cpu").fit(files, np.arange(8) % 2)
    assert network.predict_proba(files).shape == (8, 2)
    assert network.image_shape_ == (3, 12, 12)
    # Those asked about later are brought to what it was trained on, grey ones too.
    Image.fromarray(draw.integers(0, 255, (90, 30), dtype=np.uint8)).save(tmp_path / "7.png")
    assert network.prepare([files.read(7)]).shape == (1, 3, 12, 12)
    mixed = ConvNetClassifier(settings=settings, device="cpu").fit(files, np.arange(8) % 2)
    assert mixed.image_shape_ == (3, SIDE, SIDE)
    assert mixed.predict_proba(files).shape == (8, 2)
    (whole,) = mixed.cropped([files.read(7)])
    expected = Image.open(tmp_path / "7.png").convert("RGB").resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    assert np.array_equal(whole.permute(1, 2, 0).numpy(), np.asarray(expected))
    mixed.save(tmp_path / "saved")
    loaded = ConvNetClassifier.load(tmp_path / "saved", device="cpu")
    np.testing.assert_allclose(loaded.predict_proba(files), mixed.predict_proba(files), atol=1e-6)


def test_arrays_of_another_size_than_the_convnet_was_trained_on_are_resized(digits):
    images, labels = digits
    settings = dataclasses.replace(SETTINGS, epochs=1)
    network = ConvNetClassifier(settings=settings, device="cpu").fit(images[:200], labels[:200])
    larger = np.repeat(np.repeat(images[:5], 3, 1), 3, 2)
    assert network.prepare(larger).shape == network.prepare(images[:5]).shape
    colour = np.stack([images[:5]] * 3, -1)
    assert torch.equal(network.prepare(colour), network.prepare(images[:5]))


@pytest.mark.parametrize("kind", ["npz", "folder"])
def test_images_too_small_for_the_convnet_are_refused_before_anything_is_extracted(home, tmp_path, capsys, kind):
    images, labels = np.zeros((40, 3, 9), np.uint8) + np.arange(40, dtype=np.uint8)[:, None, None], np.arange(40) % 2
    spec = f"npz:{tmp_path / 'small.npz'}"
    np.savez(tmp_path / "small.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    if kind == "folder":
        spec = f"folder:{tmp_path / 'small'}"
        for row, label in enumerate(labels):
            (tmp_path / "small" / str(label)).mkdir(parents=True, exist_ok=True)
            Image.fromarray(images[row]).save(tmp_path / "small" / str(label) / f"{row}.png")
    words = [
        "compare",
        "--dataset",
        spec,
        "--weights",
        "random",
        "--image-size",
        "32",
        "--models",
        "svm@layer1",
        "convnet",
    ]
    assert run_command(main, [*words, "--results", str(tmp_path / "results")]) == 2
    told = capsys.readouterr()
    assert "too small for the two poolings of the convnet" in told.err
    assert "to extract" not in told.out
    assert not list(home.rglob("*.h5"))


def test_a_network_of_too_few_classes_is_refused_before_anything_is_extracted(home, tmp_path, capsys):
    torch.save(build_model("squeezenet1_1", classes=3).state_dict(), tmp_path / "three.pth")
    words = ["--dataset", "digits", "--backbone", "squeezenet1_1", "--image-size", "32", "--device", "cpu"]
    words += ["--weights", str(tmp_path / "three.pth"), "--results", str(tmp_path / "results")]
    assert run_command(main, [*words, "--model", "untouched"]) == 2
    told = capsys.readouterr()
    assert "10 labels cannot be told apart by 3 source classes" in told.err
    assert "to extract" not in told.out
    request = Request("digits", "squeezenet1_1", str(tmp_path / "three.pth"), image_size=32)
    notes: list[str] = []
    models = _models(request, None, (), notes)
    assert "untouched" not in {model.name for model in models}
    assert notes == ["no untouched network: three.pth tells 3 classes apart, not 10"]


def test_photographs_of_different_sizes_are_compared_with_the_convnet_among_the_models(home, tmp_path):
    draw = np.random.default_rng(0)
    for label in ("dark", "light"):
        (tmp_path / "images" / label).mkdir(parents=True)
        for number in range(16):
            shape = (int(draw.integers(20, 60)), int(draw.integers(20, 60)), 3)[: 2 if number == 3 else 3]
            pixels = draw.integers(0, 100, shape, np.uint8) + np.uint8(120 if label == "light" else 0)
            Image.fromarray(pixels).save(tmp_path / "images" / label / f"{number}.png")
    words = ["compare", "--dataset", f"folder:{tmp_path / 'images'}", "--weights", "random", "--image-size", "32"]
    words += ["--models", "convnet", "untouched", "centroid@layer1", "--epochs", "2", "--batch-size", "8"]
    assert run_command(main, [*words, "--results", str(tmp_path / "results"), "--device", "cpu"]) == 0
    heads = {saved.result.config.head for saved in load_results(tmp_path / "results")}
    assert heads == {"convnet", "untouched", "centroid"}


def test_what_needs_pre_trained_weights_is_refused_by_the_convnet(digits):
    images, labels = digits
    for change in ({"batch_norm": "freeze"}, {"init_head": "probe"}):
        with pytest.raises(UserError, match="from scratch"):
            ConvNetClassifier(settings=dataclasses.replace(SETTINGS, **change)).fit(images[:50], labels[:50])
    with pytest.raises(UserError, match="uint8 images"):
        ConvNetClassifier(settings=SETTINGS).fit(images[:50].astype(np.float32), labels[:50])


@pytest.fixture
def logits():
    """Four source classes; label 0 looks like class 2, label 1 like class 0, half of label 2 like class 2 too."""
    taken_for = np.array([2, 2, 2, 0, 0, 1, 2, 2, 3, 3])
    labels = np.array([0, 0, 0, 1, 1, 1, 2, 2, 2, 2])
    return 4.0 * np.eye(4)[taken_for] + 0.1 * np.arange(4), labels


def test_the_network_as_it_is_gives_its_own_class_numbers(logits):
    X, y = logits
    own = UntouchedClassifier("own").fit(X, y)
    np.testing.assert_array_equal(own.predict(X), [2, 2, 2, 0, 0, 1, 2, 2, 3, 3])
    assert own.score(X, y) == pytest.approx(3 / 10)
    np.testing.assert_allclose(own.predict_proba(X), softmax(X, axis=1))


def test_the_first_classes_are_as_many_as_the_labels(logits):
    X, y = logits
    first = UntouchedClassifier("first").fit(X, y)
    np.testing.assert_array_equal(first.predict(X), X[:, :3].argmax(1))
    assert first.predict_proba(X).shape == (10, 3)


def test_the_best_map_is_one_to_one_and_beats_any_other(logits):
    from itertools import permutations

    X, y = logits
    names, chosen = best_map(X.argmax(1), y, 4)
    np.testing.assert_array_equal(names, [0, 1, 2])
    assert len(set(chosen)) == 3
    hits = (X.argmax(1) == chosen[y]).sum()
    assert hits == max((X.argmax(1) == np.array(other)[y]).sum() for other in permutations(range(4), 3))
    matched = UntouchedClassifier("matched").fit(X, y)
    np.testing.assert_array_equal(matched.source_classes_, [2, 0, 3])
    assert matched.score(X, y) >= hits / 10


def test_which_classes_a_label_is_seen_as(logits):
    X, y = logits
    seen = seen_as(X, y, ["ant", "bee", "cat", "dog"], top=2)
    assert seen[0] == (("cat", 1.0),)
    assert seen[1][0] == ("ant", pytest.approx(2 / 3))
    assert seen[2] == (("cat", 0.5), ("dog", 0.5))


def test_top_k_counts_the_likeliest_and_no_ties(logits):
    X, _ = logits
    assert top_k_accuracy(X, X.argmax(1), 1) == 1
    assert top_k_accuracy(X, X.argmin(1), 3) == 0
    assert top_k_accuracy(X, X.argmin(1), 4) == 1
    assert top_k_accuracy(np.zeros((5, 10)), np.arange(5), 1) == 0


def test_real_imagenet_images_are_recognised(real_imagenet, standin):
    from extract.preprocess import Preprocessor
    from features.datasets import open_dataset

    backbone = load_backbone("resnet18", str(standin))
    split = open_dataset("imagenet").load("test")
    rows = np.arange(0, len(split.labels), 12)
    preprocess = Preprocessor(backbone.preprocessing)
    with torch.inference_mode():
        outputs = [backbone.model(preprocess([split.images.read(int(row))])) for row in rows]
    logits = torch.cat(outputs).numpy()
    labels = split.labels[rows]
    assert top_k_accuracy(logits, labels, 1) > 0.6
    assert top_k_accuracy(logits, labels, 5) > 0.8
    assert published_accuracy(backbone, 50_000) is None


def test_published_figures_stand_beside_torchvisions_own_weights_on_all_images_only(tmp_path):
    backbone = load_backbone("resnet18", "random")
    path = tmp_path / "resnet18-f37072fd.pth"
    own = dataclasses.replace(backbone, weights_name="IMAGENET1K_V1", weights_path=path)
    assert published_accuracy(own, 50_000) == (0.69758, 0.89078)
    assert published_accuracy(own, 500) is None
    for asked in (Preparation(image_size=160), Preparation(resize=240), Preparation(crop_mode="pad")):
        otherwise = dataclasses.replace(own, preprocessing=asked.of(own.preprocessing))
        assert published_accuracy(otherwise, 50_000) is None
    assert published_accuracy(backbone, 50_000) is None


def test_mistakes_about_untouched_networks_are_refused(logits):
    X, y = logits
    headless = dataclasses.replace(load_backbone("resnet18", "random"), headless=True, weights_name="encoder.pth")
    with pytest.raises(UserError, match="without a classifier"):
        require_source_head(headless)
    with pytest.raises(UserError, match="own, first, matched"):
        UntouchedClassifier("best").fit(X, y)
    with pytest.raises(UserError, match="table of finite numbers"):
        UntouchedClassifier().fit(X[:, :, None], y)
