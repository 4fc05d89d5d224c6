"""Preprocessing: what torchvision does for the same weights, on tensors, a batch at a time."""

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_image
from torchvision import models
from torchvision.transforms import InterpolationMode
from torchvision.transforms.functional import center_crop, resize

from extract.preprocess import Preprocessor
from features.backbones import load_backbone
from features.errors import UserError
from features.preprocessing import CROP_MODES, EARLIER, INTERPOLATIONS, Preparation, Preprocessing

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


@pytest.mark.parametrize("mode", INTERPOLATIONS)
@pytest.mark.parametrize("shape", [(1024, 1024), (1025, 1500, 3), (1700, 900, 3), (200, 9000, 3), (2500, 2501)])
def test_large_images_are_resized_in_stripes_to_the_same_bytes(shape, mode):
    image = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    tensor = torch.from_numpy(np.atleast_3d(image)).permute(2, 0, 1)[None]
    for crop_mode in CROP_MODES:
        steps = dataclasses.replace(RESNET, interpolation=mode, crop_mode=crop_mode)
        size = steps.resized(*shape[:2])
        whole = center_crop(resize(tensor, list(size), InterpolationMode(mode), antialias=True), [224, 224])
        if crop_mode == "pad":  # the rest of the square is the mean
            top, left = (224 - size[0]) // 2, (224 - size[1]) // 2
            inside = (..., slice(top, top + size[0]), slice(left, left + size[1]))
            assert torch.equal(Preprocessor(steps).cropped(image[None])[inside], whole[inside].expand(-1, 3, -1, -1))
        else:
            assert torch.equal(Preprocessor(steps).cropped(image[None]), whole.expand(-1, 3, -1, -1))


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


@pytest.mark.parametrize("side", [8, 28, 223, 224, 225, 300])
@pytest.mark.parametrize("channels", [(), (3,)])
def test_square_images_keep_the_pixels_that_version_0_1_0_gave_them(side, channels):
    images = np.random.default_rng(side).integers(0, 256, (2, side, side, *channels), np.uint8)
    tensor = torch.from_numpy(images)
    tensor = tensor.permute(0, 3, 1, 2) if channels else tensor[:, None]
    small = side < 224
    before = resize(tensor, [224, 224] if small else [256], antialias=True)
    before = before if small else center_crop(before, [224, 224])
    assert torch.equal(Preprocessor(RESNET).resized(images), before)
    assert torch.equal(Preprocessor(RESNET.at(224)).resized(images), before)
    assert torch.equal(Preprocessor(_mode(EARLIER)).resized(images), before)


def _mode(crop_mode, image_size=None):
    return Preparation(image_size, crop_mode).of(RESNET) if crop_mode != EARLIER else _earlier(image_size)


def _earlier(image_size):
    return dataclasses.replace(RESNET.at(image_size), crop_mode=EARLIER)


def _photograph(width, height):
    """A part of a photograph that is twice as wide as high, at this size."""
    part = Image.fromarray(load_sample_image("china.jpg")).crop((0, 53, 640, 373))
    return np.asarray(part.resize((width, height), Image.Resampling.BICUBIC))


def test_one_rule_holds_on_both_sides_of_the_crop():
    """One picture with both sides below the crop and with one: it was squashed there and cropped here."""
    both, one = (Preprocessor(RESNET)([_photograph(*size)])[0] for size in ((222, 111), (226, 113)))
    assert torch.nn.functional.cosine_similarity(both.flatten(), one.flatten(), 0) > 0.98
    before = [Preprocessor(_mode(EARLIER))([_photograph(*size)])[0] for size in ((222, 111), (226, 113))]
    assert torch.nn.functional.cosine_similarity(before[0].flatten(), before[1].flatten(), 0) < 0.9


def test_one_picture_gives_one_feature_on_both_sides_of_the_crop(standin):
    trunk = load_backbone("resnet18", str(standin)).cut(None).trunk(["avgpool"])
    for mode, least in (("center", 0.99), ("squash", 0.99), ("pad", 0.99)):
        prepare = Preprocessor(_mode(mode))
        with torch.no_grad():
            both, one = (trunk(prepare([_photograph(*size)]))[0].flatten() for size in ((222, 111), (226, 113)))
        assert torch.nn.functional.cosine_similarity(both, one, 0) > least, mode


@pytest.mark.parametrize("size", [(100, 40), (40, 100), (300, 60), (60, 300), (640, 480), (64, 64), (65, 64)])
def test_a_long_image_is_cropped_squashed_or_filled_up(size):
    width, height = size
    image = np.full((height, width, 3), 255, np.uint8)
    image[height // 2, :, 0] = 0
    prepared = {mode: Preprocessor(_mode(mode, 64)).cropped([image])[0] for mode in ("center", "squash", "pad")}
    assert all(pixels.shape == (3, 64, 64) for pixels in prepared.values())
    assert (prepared["center"][1] == 255).all()
    assert (prepared["squash"][1] == 255).all()
    filled = (prepared["pad"][1] != 255).float().mean()
    assert filled == pytest.approx(1 - min(size) / max(size), abs=0.02)
    mean = torch.tensor([round(255 * mean) for mean in RESNET.mean], dtype=torch.uint8)
    if filled > 0:
        assert torch.equal(prepared["pad"][:, -1, -1], mean)


def test_padding_is_next_to_nothing_after_the_normalisation():
    white = np.full((32, 64), 255, np.uint8)
    ready = Preprocessor(_mode("pad", 64))(white[None])[0]
    assert ready[:, 0].abs().max() < 0.2
    colour = Preprocessor(_mode("pad", 64))(np.stack([white] * 3, -1)[None])[0]
    assert colour[:, 0].abs().max() < 0.01
    assert torch.equal(ready[:, 32], colour[:, 32])


def test_keys_name_the_crop_mode_only_where_version_0_1_0_did_otherwise():
    of_0_1_0 = (
        '{"antialias":true,"crop":224,"interpolation":"bilinear","mean":[0.485,0.456,0.406],"resize":256,'
        '"std":[0.229,0.224,0.225]}'
    )
    assert RESNET.describe() == RESNET.describe(oblong=224) == RESNET.describe(oblong=500) == of_0_1_0
    assert '"crop_mode":"center"' in RESNET.describe(oblong=223)
    for mode in ("squash", "pad"):
        assert f'"crop_mode":"{mode}"' in _mode(mode).describe()
    assert _earlier(None).describe(oblong=10) == of_0_1_0
    assert Preprocessing.parse(of_0_1_0) == _earlier(None)
    assert Preprocessing.parse(of_0_1_0, "center") == RESNET
    assert Preprocessing.parse(_mode("pad").describe(), "center") == _mode("pad")


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "{}",
        "nonsense",
        '{"mean":[0],"std":[1],"resize":9,"crop":"9"}',
        '{"mean":[0],"std":[],"resize":9,"crop":9}',
    ]
    + [RESNET.describe(9).replace("center", "best"), RESNET.describe().replace("bilinear", "best")],
)
def test_what_a_key_cannot_hold_is_no_preprocessing(text):
    with pytest.raises((ValueError, KeyError, TypeError)):
        Preprocessing.parse(text)


def test_words_say_what_is_done_with_sizes():
    assert "or to 224 where it is below 224" in RESNET.in_words()
    assert "with both sides below 224 pixels is resized to 224 x 224" in _earlier(None).in_words()
    assert "whatever its shape" in _mode("squash").in_words()
    assert "filled up" in _mode("pad").in_words()


def test_an_image_too_long_to_be_resized_is_refused_unless_it_is_squashed_or_filled_up():
    line = np.zeros((1, 1_000_000), np.uint8)
    with pytest.raises(UserError, match="--crop-mode squash or pad"):
        Preprocessor(RESNET)([line])
    for mode in ("squash", "pad"):
        assert Preprocessor(_mode(mode, 32))([line]).shape == (1, 3, 32, 32)


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
