"""Convolutions of 3 x 3 by Winograd: the same numbers to rounding, where it is of use and nowhere else."""

import dataclasses
import shutil
import tempfile

import numpy as np
import pytest
import torch
from torch import nn

from extract import trunk as trunks
from extract import winograd
from extract.__main__ import main as extract
from extract.trunk import Output, Trunk, choose_recipe, pooled_trunk
from extract.winograd import WinogradConvolution, suits, transforms
from features import load_features, store
from features.backbones import load_backbone
from features.commands.options import run_command
from features.cut import Cut

CPU = torch.device("cpu")
pytestmark = pytest.mark.skipif(
    not (shutil.which("g++") or shutil.which("clang++")), reason="the transforms need a C++ compiler"
)


def convolution(inputs=64, outputs=64, size=3, **options) -> nn.Conv2d:
    torch.manual_seed(0)
    return nn.Conv2d(inputs, outputs, size, **{"padding": 1, **options}).requires_grad_(False)


@pytest.mark.parametrize("size", [(7, 7), (14, 14), (13, 22), (4, 4), (1, 9), (30, 3)])
@pytest.mark.parametrize(("inputs", "outputs"), [(64, 64), (32, 144), (128, 80)])
@pytest.mark.parametrize(
    ("bias", "added", "activation"), [(True, False, "relu"), (False, True, "relu"), (True, True, "none")]
)
def test_a_convolution_is_what_it_is_in_double_precision(size, inputs, outputs, bias, added, activation):
    plain = convolution(inputs, outputs, bias=bias)
    images = torch.randn(3, inputs, *size)
    other = torch.randn(3, outputs, *size) if added else None
    exact = nn.functional.conv2d(images.double(), plain.weight.double(), padding=1)
    exact += 0 if plain.bias is None else plain.bias.double().view(-1, 1, 1)
    exact += 0 if other is None else other
    exact = exact.relu() if activation == "relu" else exact
    # However they lie in memory, and another number of images than it was made for.
    for shape in (images.shape, (5, *images.shape[1:])):
        ours = WinogradConvolution(plain, torch.Size(shape), activation)(images, other)
        assert ours.is_contiguous(memory_format=torch.channels_last)
        assert (ours - exact).abs().max() <= 3e-5 * exact.abs().max()


def test_what_is_no_number_is_not_hidden_by_the_relu():
    images = torch.randn(2, 64, 8, 8)
    images[0, 3, 2, 2] = torch.inf
    ours = WinogradConvolution(convolution(), images.shape, "relu")(images)
    assert not ours[0].isfinite().all() and ours[1].isfinite().all()


def test_it_is_taken_for_what_it_is_faster_for():
    maps = torch.Size((8, 64, 28, 28))
    assert suits(convolution(), maps, "relu") and suits(convolution(bias=False), maps, "none")
    others = [{"stride": 2}, {"dilation": 2}, {"groups": 4}, {"padding": 0}, {"size": 5}, {"padding_mode": "reflect"}]
    others += [{"padding": "same"}, {"inputs": 3}, {"inputs": 72, "outputs": 72}, {"inputs": 16}, {"outputs": 16}]
    assert not any(suits(convolution(**other), maps, "relu") for other in others)
    assert not suits(convolution(), maps, "swish")
    for few in ((8, 64, 1, 1), (8, 64, 1, 3), (1, 64, 8, 8)):
        assert not suits(convolution(), torch.Size(few), "relu")


@pytest.fixture
def small_work_pays(monkeypatch):
    monkeypatch.setattr(trunks, "WINOGRAD_PAYS", 0)
    monkeypatch.setattr(winograd, "_FEWEST_TILES", 1)


def recipe_for(cut, layers, *, images=40_000, precision="float32", compiled="auto"):
    outputs = [Output(cut.resolve(layer), "none") for layer in layers]
    return choose_recipe(cut, outputs, images=images, precision=precision, device=CPU, compiled=compiled), outputs


@pytest.mark.parametrize("name", ["resnet18", "vgg11"])
def test_every_stage_of_a_network_is_what_it_is_without(home, name):
    cut = load_backbone(name, "random").cut(64)
    recipe, outputs = recipe_for(cut, map(cut.resolve, cut.stages))
    assert recipe.engine == "winograd"
    trunk = Trunk(cut, outputs, recipe, CPU)
    assert any(isinstance(module, WinogradConvolution) for module in trunk._run.modules())
    images = torch.randn(recipe.batch, 3, 64, 64)
    with torch.no_grad():
        expected = pooled_trunk(cut, outputs)(images)
    for mine, theirs in zip(trunk(images), expected, strict=True):
        assert (mine - theirs).abs().max() <= 3e-5 * theirs.abs().max()


def test_a_layer_is_the_same_bit_for_bit_whatever_else_is_asked_for(home):
    cut = load_backbone("resnet18", "random").cut(64)
    images = torch.randn(16, 3, 64, 64)
    layers = [layer for layer in cut.layers if layer.startswith(("layer1", "layer2", "layer3.0"))]

    def computed(asked):
        recipe, outputs = recipe_for(cut, asked)
        assert recipe.engine == "winograd"
        recipe = dataclasses.replace(recipe, batch=16)
        return dict(zip(asked, Trunk(cut, outputs, recipe, CPU)(images), strict=True))

    together = computed(layers)
    for layer in layers:
        assert torch.equal(computed([layer])[layer], together[layer]), layer


def test_it_is_chosen_for_much_work_in_float32_that_may_be_compiled(home, monkeypatch):
    cut = Cut(load_backbone("resnet18", "random").model, 64)
    assert recipe_for(cut, ["avgpool"])[0].engine == "winograd"
    assert recipe_for(cut, ["avgpool"], images=20)[0].engine == "fused"
    assert recipe_for(cut, ["avgpool"], compiled="off")[0].engine == "fused"
    assert recipe_for(cut, ["avgpool"], precision="float16")[0].engine == "eager"
    assert recipe_for(cut, ["avgpool"], precision="bfloat16")[0].engine in ("fused", "eager")
    # Its convolutions of 3 x 3 have a channel each: there is nothing that it would be of use for.
    narrow = Cut(load_backbone("mobilenet_v2", "random").model, 64)
    assert recipe_for(narrow, ["avgpool"])[0].engine == "fused"
    monkeypatch.setattr(trunks, "transforms", lambda: None)
    assert recipe_for(cut, ["avgpool"])[0].engine == "fused"


def test_what_was_begun_with_an_engine_is_carried_on_with_it(home, monkeypatch):
    cut = Cut(load_backbone("resnet18", "random").model, 64)
    many, few = recipe_for(cut, ["avgpool"])[0], recipe_for(cut, ["avgpool"], images=20)[0]
    assert (many.engine, few.engine) == ("winograd", "fused")
    assert few.can_follow(many.to_json()) and few.following(many.to_json()).engine == "winograd"
    assert many.can_follow(few.to_json()) and many.following(few.to_json()).engine == "fused"
    monkeypatch.setattr(trunks, "transforms", lambda: None)
    assert not few.can_follow(many.to_json())


def test_an_extraction_names_it_and_gives_the_same_features(home, tmp_path, monkeypatch, small_work_pays):
    words = ["--dataset", "digits", "--weights", "random", "--image-size", "64", "--precision", "float32"]
    words += ["--limit", "60", "--limit-test", "30", "--device", "cpu", "--layer", "layer2"]
    asked = {
        "weights": "random",
        "image_size": 64,
        "precision": "float32",
        "limit": 60,
        "limit_test": 30,
        "device": "cpu",
    }
    found, engines = [], []
    for place, compiled in enumerate(("auto", "off")):
        monkeypatch.setenv("LAYERPROBE_HOME", str(tmp_path / f"home-{place}"))
        assert run_command(extract, [*words, "--compile", compiled]) == 0
        found.append(load_features("digits", "layer2", "test", **asked)[0])
        (file, *_) = (tmp_path / f"home-{place}").rglob("*.h5")
        engines.append(store.FeatureFile.open(file).recipe["engine"])
    assert engines == ["winograd", "fused"]
    assert not np.array_equal(*found)
    assert np.abs(found[0] - found[1]).max() <= 3e-5 * found[1].max()


def test_the_library_is_this_processes_own_and_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    transforms.cache_clear()
    try:
        assert transforms() is not None
        assert list(tmp_path.iterdir()) == []
        transforms.cache_clear()
        monkeypatch.setattr(winograd, "_SOURCE", tmp_path / "absent.cpp")
        assert transforms() is None
        transforms.cache_clear()
        monkeypatch.setattr(winograd.shutil, "which", lambda name: None)
        assert transforms() is None
    finally:
        transforms.cache_clear()
