"""Images are prepared as the weights want it: all of torchvision's entries, files of weights, and what a user asks."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_image
from torchvision import models

from extract.__main__ import main as extract
from extract.preprocess import Preprocessor
from features.backbones import load_backbone
from features.backbones.torchvision import FAMILY, preset_of_entry
from features.commands.options import run_command
from features.errors import UserError
from features.preprocessing import Preparation, Preprocessing
from features.presets import preset_of_earlier

ENTRIES = [entry for name in models.list_models(module=models) for entry in models.get_model_weights(name)]
TRANSFORMED = {"inception_v3": models.Inception_V3_Weights, "googlenet": models.GoogLeNet_Weights}
PHOTOGRAPH = load_sample_image("china.jpg").copy()


def _theirs(entry, image):
    """What torchvision's network computes on: its transforms, and what its builder puts before the network."""
    ready = entry.transforms()(image)
    if type(entry) in TRANSFORMED.values():
        ready = models.GoogLeNet(transform_input=True, init_weights=False)._transform_input(ready[None])[0]
    return ready


def test_each_of_torchvisions_entries_has_its_own_preset_on_a_photograph():
    assert len(ENTRIES) >= 115
    compared = {}
    for entry in ENTRIES:
        steps = preset_of_entry(entry)
        preset = (str(entry.transforms()), type(entry) in TRANSFORMED.values())
        if compared.setdefault(steps, preset) != preset:
            pytest.fail(f"{entry} is prepared as another one, {compared[steps]}")
        if list(compared).index(steps) < len(compared) - 1:
            continue
        ours = Preprocessor(steps)([PHOTOGRAPH])[0]
        same = _theirs(entry, torch.from_numpy(PHOTOGRAPH).permute(2, 0, 1))
        assert torch.allclose(ours, same, atol=1e-5), entry
        # Pillow clips a bicubic overshoot after each of two passes; so edges differ there, and nothing else does.
        grey = (ours - _theirs(entry, Image.fromarray(PHOTOGRAPH))) * torch.tensor(steps.std).view(3, 1, 1) * 255
        assert grey.abs().mean() < 0.2, entry
        assert grey.abs().max() < (1.01 if steps.interpolation == "bilinear" else 10), entry
    assert len(compared) > 25


@pytest.mark.parametrize("name", TRANSFORMED)
def test_logits_are_those_of_torchvisions_network_with_transformed_input(name, home, tmp_path):
    torch.manual_seed(0)
    theirs = models.get_model(name, weights=None, transform_input=True, init_weights=False).eval()
    for parameter in theirs.parameters():
        if parameter.ndim == 4:
            torch.nn.init.kaiming_normal_(parameter)
    torch.save(theirs.state_dict(), tmp_path / "weights.pth")
    loaded = load_backbone(name, str(tmp_path / "weights.pth"))
    entry = TRANSFORMED[name].DEFAULT
    with torch.no_grad():
        expected = theirs(entry.transforms()(torch.from_numpy(PHOTOGRAPH).permute(2, 0, 1))[None])
        ours = loaded.model(Preprocessor(loaded.preprocessing)([PHOTOGRAPH]))
    assert (ours - expected).abs().max() < 1e-4 * expected.abs().max()
    # As version 0.1.0 prepared it, the network was given something else.
    assert preset_of_earlier(name).mean == tuple(entry.transforms().mean)


@pytest.mark.parametrize("name", TRANSFORMED)
def test_random_weights_are_given_what_they_were(name):
    assert FAMILY.preset(name).describe() == preset_of_earlier(name).describe()


@pytest.fixture
def mobilenet(home, tmp_path) -> Path:
    """Random weights of mobilenet_v2, of which torchvision has two entries: short side 256, and 232 (the default)."""
    torch.save(models.mobilenet_v2(weights=None).state_dict(), tmp_path / "mine.pth")
    return tmp_path / "mine.pth"


def test_an_entry_asked_for_is_prepared_as_itself(mobilenet, monkeypatch):
    monkeypatch.setattr("features.backbones.download", lambda url: mobilenet)
    assert load_backbone("mobilenet_v2", "IMAGENET1K_V1").preprocessing.resize == 256
    assert load_backbone("mobilenet_v2", "IMAGENET1K_V2").preprocessing.resize == 232
    assert load_backbone("mobilenet_v2", "default").preprocessing.resize == 232
    assert not load_backbone("mobilenet_v2", "default").unsure


def test_a_file_is_prepared_as_the_entry_whose_hash_it_has(mobilenet, monkeypatch):
    monkeypatch.setattr("features.backbones.torchvision.sha256_file", lambda path: "b0353104" + "0" * 56)
    assert models.MobileNet_V2_Weights.IMAGENET1K_V1.url.endswith("-b0353104.pth")
    assert FAMILY.preset_of_file("mobilenet_v2", mobilenet) == (
        preset_of_entry(models.MobileNet_V2_Weights.IMAGENET1K_V1),
        "",
    )


@pytest.mark.parametrize(
    ("file", "resize", "said"),
    [("mine.pth", 232, "the default"), ("mobilenet_v2-b0353104.pth", 256, "its name says, but not its SHA-256")],
)
def test_another_file_says_in_a_line_what_it_is_taken_for(mobilenet, file, resize, said):
    path = mobilenet.rename(mobilenet.with_name(file))
    backbone = load_backbone("mobilenet_v2", str(path))
    line = backbone.unsure
    assert backbone.preprocessing.resize == resize
    assert said in line
    assert file in line
    assert f"short side {resize}" in line
    assert "--mean" in line
    assert "\n" not in line


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({}, "): short side 232, crop 224, bilinear, mean 0.485 0.456 0.406, std 0.229 0.224 0.225;"),
        ({"image_size": 224}, "): short side 232, crop 224, bilinear"),
        ({"image_size": 64}, "), but for what was asked for: short side 73, crop 64, bilinear"),
        ({"resize": 240}, "), but for what was asked for: short side 240, crop 224, bilinear"),
        ({"crop_mode": "squash", "image_size": 64}, "but for what was asked for: squashed to 64 x 64, bilinear"),
        ({"crop_mode": "pad"}, "but for what was asked for: padded to 224 x 224, bilinear"),
        ({"interpolation": "bicubic"}, "but for what was asked for: short side 232, crop 224, bicubic"),
        ({"mean": (0.5,), "std": (0.1, 0.2, 0.3)}, "crop 224, bilinear, mean 0.5 0.5 0.5, std 0.1 0.2 0.3;"),
    ],
)
def test_the_line_says_what_is_done_whatever_was_asked_for(mobilenet, asked, said):
    backbone = load_backbone("mobilenet_v2", str(mobilenet), prepared=Preparation(**asked))
    assert said in backbone.unsure


def test_the_line_is_said_with_a_remembered_plan_too_and_not_where_everything_is_given(mobilenet, capsys):
    words = ["--dry-run", "--dataset", "digits", "--backbone", "mobilenet_v2", "--weights", str(mobilenet)]
    words += ["--image-size", "32"]
    asked = [*words, "--resize", "32", "--interpolation", "bilinear", "--mean", "0.5", "--std", "0.5"]
    for arguments, lines in ((words, 1), (words, 1), (asked, 0)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("features.commands.speaking._told", set())
            assert run_command(extract, arguments) == 0
        assert capsys.readouterr().err.count("images are prepared as for torchvision's IMAGENET1K_V2") == lines


OWN = Preprocessing((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), resize=232, crop=224)


def test_what_is_asked_for_takes_the_place_of_the_weights_own():
    assert Preparation().of(OWN) == OWN
    assert Preparation(112).of(OWN) == OWN.at(112)
    asked = Preparation(112, "center", 120, "bicubic", (0.5,), (0.1, 0.2, 0.3)).of(OWN)
    assert asked == Preprocessing((0.5,) * 3, (0.1, 0.2, 0.3), resize=120, crop=112, interpolation="bicubic")
    assert Preparation(crop_mode="pad").of(OWN).crop_mode == "pad"
    photograph = torch.from_numpy(PHOTOGRAPH).permute(2, 0, 1)
    weights = models.AlexNet_Weights.IMAGENET1K_V1
    theirs = weights.transforms(crop_size=160, resize_size=200, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))(
        photograph
    )
    asked = Preparation(image_size=160, resize=200, mean=(0.5,), std=(0.25,)).of(OWN)
    assert torch.allclose(Preprocessor(asked)([PHOTOGRAPH])[0], theirs, atol=1e-5)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"resize": 200}, "--resize 200: a crop of 224"),
        ({"resize": 4}, "--resize 4: give a number of pixels between 8 and 4096"),
        ({"resize": 256, "crop_mode": "pad"}, "leave it out"),
        ({"crop_mode": "stretch"}, "center, squash, pad"),
        ({"interpolation": "lanczos"}, "bilinear, bicubic, nearest"),
        ({"mean": (0.5, 0.5)}, "three numbers, for red, green and blue, or one for all"),
        ({"mean": (123.7, 116.3, 103.5)}, "divided by 255"),
        ({"mean": (float("nan"),)}, "pixels are taken as 0 to 1"),
        ({"std": (0.2, 0.0, 0.2)}, "above 0"),
        ({"std": (58.4,)}, "divided by 255"),
    ],
)
def test_what_cannot_be_prepared_is_refused_in_a_line(asked, said):
    with pytest.raises(UserError, match=said) as refused:
        preparation = Preparation(**asked)
        preparation.require_legal()
        preparation.of(OWN)
    assert "\n" not in str(refused.value)


def test_the_command_line_refuses_before_the_weights_are_read(home, capsys):
    words = ["--dataset", "digits", "--weights", "random", "--mean", "120", "110", "100"]
    assert run_command(extract, words) == 2
    assert "divided by 255" in capsys.readouterr().err
    assert not np.any([path.suffix == ".h5" for path in home.rglob("*")])
