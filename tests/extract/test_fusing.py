"""Convolutions fused for a processor: the same numbers, whatever reads them, and nothing of the network moves."""

import pytest
import torch
from torch import fx, nn

from extract.fusing import PackedConvolution, can_fuse, fuse_convolutions
from extract.trunk import Output, Trunk, choose_recipe, pooled_trunk
from features.backbones import build_model, load_backbone
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


def test_a_network_of_few_convolutions_is_left_to_the_compiler():
    assert can_fuse(build_model("resnet18"))
    assert not can_fuse(build_model("vit_b_16"))
    assert not can_fuse(nn.Sequential(nn.Conv2d(3, 3, 3, padding=1, padding_mode="circular")))


def test_weights_are_laid_out_once():
    network = fx.symbolic_trace(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3)).eval())
    fused = fuse_convolutions(network, torch.Size((2, 3, 16, 16)))
    packed = [module for module in fused.modules() if isinstance(module, PackedConvolution)]
    assert [module.activation for module in packed] == ["relu", "none"]
    assert all(module.weight.is_mkldnn for module in packed)
