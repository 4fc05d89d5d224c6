"""Preprocessing: what torchvision does for the same weights, on tensors, a batch at a time."""

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import models

from extract.preprocess import Preprocessor
from features.preprocessing import Preprocessing

RESNET = Preprocessing((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), resize=256, crop=224)


def test_large_images_go_through_the_weights_own_transforms():
    image = np.random.default_rng(0).integers(0, 256, (300, 400, 3), np.uint8)
    theirs = models.ResNet18_Weights.IMAGENET1K_V1.transforms()(torch.from_numpy(image).permute(2, 0, 1))
    assert torch.allclose(Preprocessor(RESNET)([image])[0], theirs, atol=1e-6)


def test_a_real_photograph_differs_from_pillows_resizing_by_less_than_two_grey_values(real_imagenet):
    path = sorted(real_imagenet.glob("*/*"))[0]
    image = Image.open(path).convert("RGB")
    theirs = models.ResNet18_Weights.IMAGENET1K_V1.transforms()(image)
    ours = Preprocessor(RESNET)([np.asarray(image)])[0]
    assert (ours - theirs).abs().max() < 2 / 255 / 0.224


@pytest.mark.parametrize("size", [32, 64, 224])
def test_small_images_are_resized_straight_to_the_target(size):
    digits = np.random.default_rng(0).integers(0, 256, (5, 28, 28), np.uint8)
    steps = RESNET.at(size)
    ours = Preprocessor(steps)(digits)
    assert ours.shape == (5, 3, size, size)
    mean, std = torch.tensor(steps.mean).view(3, 1, 1), torch.tensor(steps.std).view(3, 1, 1)
    grey = (ours * std + mean) * 255
    assert torch.allclose(grey[:, 0], grey[:, 1], atol=1e-3)
    whole = torch.nn.functional.interpolate(
        torch.from_numpy(digits)[:, None].float(), size=(size, size), mode="bilinear", antialias=True
    )
    assert (grey[:, :1] - whole).abs().max() <= 0.51


def test_another_image_size_resizes_larger_images_in_proportion():
    assert RESNET.at(None) == RESNET
    assert RESNET.at(112).resize == 128
    image = np.zeros((300, 200, 3), np.uint8)
    assert Preprocessor(RESNET.at(112))([image]).shape == (1, 3, 112, 112)


def test_one_image_and_many_are_treated_alike():
    digits = np.random.default_rng(0).integers(0, 256, (9, 28, 28), np.uint8)
    preprocess = Preprocessor(RESNET.at(64))
    together = preprocess(digits)
    assert torch.equal(together, torch.cat([preprocess(digits[i : i + 1]) for i in range(9)]))
    assert torch.equal(together, preprocess(list(digits)))


def test_grey_and_colour_images_of_any_sizes_make_one_batch():
    images = [np.zeros((28, 28), np.uint8), np.full((300, 240, 3), 255, np.uint8), np.zeros((10, 500), np.uint8)]
    batch = Preprocessor(RESNET.at(64))(images)
    assert batch.shape == (3, 3, 64, 64)
    assert batch[1].min() > batch[0].max()


def test_the_description_names_every_step():
    assert RESNET.describe() != RESNET.at(64).describe()
    changed = Preprocessing(RESNET.mean, RESNET.std, 256, 224, interpolation="bicubic")
    assert changed.describe() != RESNET.describe()


@pytest.mark.parametrize("shape", [(5, 28, 28), (1, 90, 70), (3, 40, 52, 3)])
@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_the_network_is_given_what_torchvision_makes_in_its_own_type_and_layout(shape, kind):
    preprocess = Preprocessor(RESNET.at(48))
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    ready = preprocess.network_input(preprocess.resized(images), kind)
    assert torch.equal(ready, preprocess(images).to(kind))
    assert ready.is_contiguous(memory_format=torch.channels_last)
