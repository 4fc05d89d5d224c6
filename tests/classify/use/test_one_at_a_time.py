"""Image files are in memory one by one at their own size (the next may be read before the last is let go), or as many
as the budget of pixels has room for."""

import sys
import weakref

import numpy as np
import pytest
import torch
from PIL import Image

from classify import load_model
from classify.__main__ import main
from classify.experiments.studies import robustness
from classify.heads.network.batches import ImageSource
from classify.use.checking import check_images
from extract.preprocess import Preprocessor
from features.commands.options import run_command
from features.datasets import ImageFiles, images, pixels
from features.preprocessing import Preprocessing

STEPS = Preprocessing((0.5,) * 3, (0.5,) * 3, 18, 16)


class Whole:
    """How many decoded images there are, now and at the most."""

    def __init__(self):
        self.now = self.most = 0

    def read(self, *arguments, **named):
        image = images.read_image.original(*arguments, **named)
        self.now += 1
        self.most = max(self.most, self.now)
        weakref.finalize(image, self.left)
        return image

    def left(self):
        self.now -= 1


@pytest.fixture
def whole(monkeypatch):
    watch, original = Whole(), images.read_image

    def read(*arguments, **named):
        return watch.read(*arguments, **named)

    read.original = original
    for module in [module for name, module in sys.modules.items() if name.startswith(("features.", "classify."))]:
        if getattr(module, "read_image", None) is original:
            monkeypatch.setattr(module, "read_image", read)
    return watch


@pytest.fixture
def files(tmp_path):
    (tmp_path / "images").mkdir()
    for number in range(12):
        shape = (40, 40, 3) if number % 3 else (40, 40)
        pixels = np.random.default_rng(number).integers(0, 256, shape, np.uint8)
        Image.fromarray(pixels).save(tmp_path / "images" / f"{number:02}.png")
    return ImageFiles(tuple(sorted((tmp_path / "images").glob("*.png"))))


@pytest.mark.parametrize(("budget", "most"), [(1, 1), (3 * 40 * 40, 3)])
def test_a_batch_of_a_network_that_trains_is_within_the_budget(whole, files, monkeypatch, budget, most):
    monkeypatch.setenv(pixels.IN_FLIGHT, str(budget))
    monkeypatch.setattr(pixels, "_in_flight", 0)
    source = ImageSource(files, Preprocessor(STEPS))
    read = source.read(np.arange(12)[::-1])
    assert whole.now == 0 and 0 < whole.most <= most
    together = Preprocessor(STEPS)([files.read(row) for row in range(12)][::-1])
    assert torch.equal(source.prepare(read), together)


def test_files_are_prepared_one_after_the_other(whole, files):
    prepare = Preprocessor(STEPS)
    assert prepare(files[2:7]).shape == (5, 3, 16, 16) and prepare.cropped(files.take(np.array([5, 0]))).shape[0] == 2
    assert whole.now == 0 and 0 < whole.most <= 2


def test_corrupted_files_are_the_same_few_at_a_time(files, monkeypatch):
    monkeypatch.setattr(robustness, "_FILES_AT_A_TIME", 5)
    several = list(robustness._changed(files, "occlusion", 3, 7))
    monkeypatch.setattr(robustness, "_FILES_AT_A_TIME", 12)
    ((_, together),) = robustness._changed(files, "occlusion", 3, 7)
    assert [start for start, _ in several] == [0, 5, 10]
    assert all(map(np.array_equal, together, (image for _, part in several for image in part)))


def test_a_saved_model_takes_its_images_one_after_the_other(home, tmp_path, monkeypatch, whole, files):
    monkeypatch.chdir(tmp_path)
    small = ["--dataset", "digits", "--weights", "random", "--image-size", "32", "--limit", "60", "--limit-test", "20"]
    small += ["--device", "cpu", "--precision", "float32", "--epochs", "1", "--train-precision", "float32"]
    assert run_command(main, [*small, "--model", "ridge", "convnet"]) == 0
    for record in sorted((tmp_path / "results").glob("*.json")):
        model = load_model(record, device="cpu")
        whole.most = 0
        assert len(model.predict(list(files.paths))) == 12
        assert whole.now == 0 and 0 < whole.most <= 2
        checked = check_images(model, [str(tmp_path / "images")])
        assert model.cropped(checked.images).shape[0] == len(checked.images) == 12
        assert whole.now == 0 and 0 < whole.most <= 2
