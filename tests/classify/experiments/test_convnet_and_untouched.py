"""The ConvNet at the image's own size, and the readings of a network that nobody trained."""

import dataclasses
import tracemalloc

import numpy as np
import pytest
import torch
from scipy.special import softmax
from sklearn.datasets import load_digits

from classify.heads.network.convnet import ConvNet, ConvNetClassifier, pixel_moments
from classify.heads.network.settings import TrainingSettings
from classify.heads.network.untouched import (
    UntouchedClassifier,
    best_map,
    published_accuracy,
    require_source_head,
    seen_as,
    top_k_accuracy,
)
from features.backbones import load_backbone
from features.datasets import ImageFiles
from features.errors import UserError

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


def test_the_convnet_reads_files_of_one_size_and_refuses_a_mixture(tmp_path):
    from PIL import Image

    draw = np.random.default_rng(0)
    for number in range(8):
        Image.fromarray(draw.integers(0, 255, (12, 12, 3), dtype=np.uint8)).save(tmp_path / f"{number}.png")
    files = ImageFiles(tuple(sorted(tmp_path.glob("*.png"))))
    settings = dataclasses.replace(SETTINGS, epochs=1, batch_size=4)
    network = ConvNetClassifier(settings=settings, device="cpu").fit(files, np.arange(8) % 2)
    assert network.predict_proba(files).shape == (8, 2)
    Image.fromarray(draw.integers(0, 255, (9, 12, 3), dtype=np.uint8)).save(tmp_path / "7.png")
    with pytest.raises(UserError, match="own size"):
        ConvNetClassifier(settings=settings, device="cpu").fit(files, np.arange(8) % 2)


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
