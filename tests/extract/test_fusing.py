"""Convolutions fused for a processor: the same numbers, whatever reads them, and nothing of the network moves."""

import dataclasses

import pytest
import torch
from torch import fx, nn

from extract.fusing import PackedConvolution, can_fuse, fuse_convolutions, grey_suffices, take_grey
from extract.preprocess import Preprocessor
from extract.trunk import Output, Trunk, choose_recipe, pooled_trunk
from features.architectures import build_model
from features.backbones import load_backbone
from features.cut import Cut
from features.weights import state_sha256


class Block(nn.Module):
    """Two convolutions, and `join` of their outputs and the input."""

    def __init__(self, join):
        super().__init__()
        self.one, self.two = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 1)
        self.relu, self.relu6, self.join = nn.ReLU(), nn.ReLU6(), join

    def forward(self, x):
        return self.join(self, x, self.one(x), self.two(x))


JOINS = {
    "apart": lambda m, x, a, b: (m.relu(a), m.relu6(b)),
    "added": lambda m, x, a, b: (m.relu(a + b),),
    "the input added": lambda m, x, a, b: (torch.relu(x + a), b),
    "added without an activation": lambda m, x, a, b: (a + b,),
    "added, then another activation": lambda m, x, a, b: (m.relu6(a + b),),
    "added to itself": lambda m, x, a, b: (m.relu(a + a), b),
    "read twice": lambda m, x, a, b: (m.relu(a) + a, b + 1.0),
    "taken in the middle": lambda m, x, a, b: (a, m.relu(a), b, a + b),
    "broadcast": lambda m, x, a, b: (a + b.mean((2, 3), keepdim=True),),
    "scaled": lambda m, x, a, b: (torch.add(a, b, alpha=2.0),),
    "one after another": lambda m, x, a, b: (m.relu(m.two(m.relu(a)) + x), b),
}


@pytest.mark.parametrize("name", JOINS)
def test_whatever_reads_a_convolution_gets_the_same(name):
    torch.manual_seed(0)
    network = Block(JOINS[name]).eval().requires_grad_(False)
    images = (6 * torch.randn(4, 8, 12, 12)).contiguous(memory_format=torch.channels_last)
    expected = network(images)
    fused = fuse_convolutions(fx.symbolic_trace(network), images.shape)
    assert not any(isinstance(module, nn.Conv2d) for module in fused.modules())
    for mine, theirs in zip(fused(images), expected, strict=True):
        assert torch.allclose(mine, theirs, atol=1e-5)


@pytest.mark.parametrize(("backbone", "size"), [("resnet18", 64), ("mobilenet_v2", 64)])
def test_every_stage_of_a_network_is_what_it_is_without(home, backbone, size):
    loaded = load_backbone(backbone, "random")
    before = state_sha256(loaded.model)
    cut = Cut(loaded.model, size)
    outputs = [Output(cut.resolve(stage), "none") for stage in cut.stages]
    recipe = choose_recipe(cut, outputs, images=8, precision="float32", device=torch.device("cpu"))
    assert recipe.engine == "fused"
    trunk = Trunk(cut, outputs, recipe, torch.device("cpu"))
    images = torch.rand(8, 3, size, size)
    with torch.no_grad():
        expected = pooled_trunk(cut, outputs)(images)
    # Another number of images than it was made for is computed as well.
    for count in (8, 1):
        for mine, theirs in zip(trunk(images[:count]), expected, strict=True):
            assert (mine - theirs[:count]).abs().max() <= 1e-5 * theirs.abs().max()
    assert state_sha256(loaded.model) == before


def test_a_network_of_few_convolutions_is_not_fused():
    assert can_fuse(build_model("resnet18"))
    assert not can_fuse(build_model("vit_b_16"))
    assert not can_fuse(nn.Sequential(nn.Conv2d(3, 3, 3, padding=1, padding_mode="circular")))


def test_without_bfloat16_in_onednn_torch_computes_in_it_by_itself(home, monkeypatch):
    cut, cpu = Cut(load_backbone("mobilenet_v2", "random").model, 64), torch.device("cpu")
    outputs = [Output(cut.resolve(stage), "avg") for stage in cut.stages]

    def recipe(precision):
        return choose_recipe(cut, outputs, images=8, precision=precision, device=cpu)

    elsewhere = dataclasses.replace(recipe("bfloat16"), engine="fused").to_json()
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False)
    assert [recipe(precision).engine for precision in ("float32", "bfloat16")] == ["fused", "eager"]
    assert not recipe("bfloat16").can_follow(elsewhere)
    images = torch.rand(8, 3, 64, 64)
    half, exact = (Trunk(cut, outputs, recipe(precision), cpu)(images) for precision in ("bfloat16", "float32"))
    for mine, theirs in zip(half, exact, strict=True):
        assert (mine.float() - theirs).abs().max() <= 3e-2 * theirs.abs().max()


def test_weights_are_laid_out_once():
    network = fx.symbolic_trace(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3)).eval())
    fused = fuse_convolutions(network, torch.Size((2, 3, 16, 16)))
    packed = [module for module in fused.modules() if isinstance(module, PackedConvolution)]
    assert [module.activation for module in packed] == ["relu", "none"]
    assert all(module.weight.is_mkldnn for module in packed)


@pytest.mark.parametrize("backbone", ["resnet18", "mobilenet_v2", "densenet121"])
def test_a_first_convolution_of_grey_values_and_ones_is_the_same_function_borders_included(home, backbone):
    loaded = load_backbone(backbone, "random")
    cut, steps = Cut(loaded.model, 64), loaded.preprocessing.at(64)
    first = next(node for node in cut.graph.nodes if node.op == "call_module")
    outputs = [Output(cut.resolve(first.target), "none")]
    grey = torch.randint(0, 256, (4, 1, 64, 64), dtype=torch.uint8)
    grey[0], grey[1] = 0, 255
    network = pooled_trunk(cut, outputs)
    (expected,) = network(Preprocessor(steps).network_input(grey, torch.float32))
    take_grey(network.network, steps.mean, steps.std)
    (found,) = network(torch.cat([grey.float(), torch.ones(4, 1, 64, 64)], dim=1))
    away, largest = (found - expected).abs(), expected.abs().max()
    # Weights are rounded to bfloat16, 1 in 512 at most; the sum of a kernel's is not.
    assert away.max() <= 4e-3 * largest
    assert away[:2, :, 8:-8, 8:-8].max() <= 1.5e-3 * largest


def test_grey_images_in_bfloat16_come_out_as_in_float32_about(home):
    loaded = load_backbone("resnet18", "random")
    steps, cpu = loaded.preprocessing.at(64), torch.device("cpu")
    cut = Cut(loaded.model, 64)
    outputs = [Output(cut.resolve(stage), "avg") for stage in cut.stages]
    grey = torch.randint(0, 256, (8, 1, 64, 64), dtype=torch.uint8)
    preprocessor, found = Preprocessor(steps), {}
    for precision in ("float32", "bfloat16"):
        recipe = choose_recipe(cut, outputs, images=8, precision=precision, device=cpu, grey=True)
        assert recipe.grey == (precision == "bfloat16")
        trunk = Trunk(cut, outputs, recipe, cpu, steps)
        found[precision] = trunk(preprocessor.network_input(grey, trunk.dtype, grey=trunk.grey))
    for half, exact in zip(found["bfloat16"], found["float32"], strict=True):
        assert (half.float() - exact).abs().max() <= 2e-2 * exact.abs().max()


def test_networks_that_read_the_images_otherwise_keep_their_three_channels(home):
    def grey(network):
        return grey_suffices(fx.symbolic_trace(network).graph, dict(network.named_modules()))

    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3)

        def forward(self, x):
            return self.one(x) + self.two(x)

    assert grey(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()))
    assert not grey(Twice())
    assert not grey(nn.Sequential(nn.ReLU(), nn.Conv2d(3, 4, 3)))
    assert not grey(nn.Sequential(nn.Conv2d(3, 3, 3, groups=3)))
    assert not grey(nn.Sequential(nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect")))


class InPlace(nn.Module):
    """An addition that writes over its other operand, and an activation that writes over the sum."""

    def __init__(self):
        super().__init__()
        self.stem, self.one, self.two = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 1)
        self.relu, self.pool, self.fc = nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Linear(8, 4)

    def forward(self, images):
        x = self.stem(images)
        x = x.add_(self.one(x))
        x = self.relu(x)
        return self.fc(self.pool(self.two(x)).flatten(1))


def test_what_is_computed_apart_neither_reads_nor_leaves_what_is_written_over():
    torch.manual_seed(0)
    network = InPlace().eval().requires_grad_(False)
    cut, images = Cut(network, 16), torch.randn(8, 3, 16, 16)
    stem = network.stem(images)
    added = stem + network.one(stem)
    wanted = {"stem": stem, "add_": added, "one": network.one(stem), "relu": added.relu(), "fc": network(images)}
    assert cut.overwritten == {"stem", "add_"}
    outputs = [Output(layer, "none") for layer in wanted]
    recipe = choose_recipe(cut, outputs, images=8, precision="float32", device=torch.device("cpu"))
    for module in (pooled_trunk(cut, outputs), Trunk(cut, outputs, recipe, torch.device("cpu"))):
        for layer, output in zip(wanted, module(images), strict=True):
            assert (output - wanted[layer]).abs().max() <= 1e-5 * wanted[layer].abs().max(), layer
