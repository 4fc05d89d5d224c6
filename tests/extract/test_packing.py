"""Linear layers and attention packed for a processor: the same numbers, whatever reads them."""

import dataclasses

import pytest
import torch
from torch import fx, nn
from torch.nn import functional
from torchvision.models import VisionTransformer, swin_transformer
from torchvision.ops import stochastic_depth

from extract import products
from extract.attention import PackedAttention, PackedWindows, attend
from extract.packing import can_pack, pack_products, without_identities
from extract.products import PackedLinear
from extract.trunk import Output, Trunk, choose_recipe, pooled_trunk
from features.architectures import build_model
from features.backbones import load_backbone
from features.cut import Cut

CPU = torch.device("cpu")


class Block(nn.Module):
    """Two linear layers, and `join` of their outputs and the input."""

    def __init__(self, join):
        super().__init__()
        self.one, self.two = nn.Linear(16, 16), nn.Linear(16, 16, bias=False)
        self.relu, self.gelu, self.tanh = nn.ReLU(), nn.GELU(), nn.GELU("tanh")
        self.drop, self.join = nn.Dropout(0.5), join

    def forward(self, x):
        return self.join(self, x, self.one(x), self.two(x))


JOINS = {
    "apart": lambda m, x, a, b: (m.gelu(a), m.tanh(b)),
    "functions": lambda m, x, a, b: (functional.gelu(a), functional.gelu(b, approximate="tanh")),
    "another activation": lambda m, x, a, b: (m.relu(a), functional.silu(b)),
    "added": lambda m, x, a, b: (a + x, m.gelu(x + b)),
    "dropped, then added": lambda m, x, a, b: (m.drop(a) + x, x + functional.dropout(b, 0.5, training=False)),
    "dropped by the image": lambda m, x, a, b: (x + stochastic_depth(a, 0.5, "row", training=False), b),
    "added to itself": lambda m, x, a, b: (a + a, b),
    "read twice": lambda m, x, a, b: (m.gelu(a) + a, b + 1.0),
    "taken in the middle": lambda m, x, a, b: (a, m.gelu(a), b, a + b),
    "broadcast": lambda m, x, a, b: (a + b.mean(1, keepdim=True),),
    "scaled": lambda m, x, a, b: (torch.add(a, b, alpha=2.0),),
    "one after another": lambda m, x, a, b: (m.gelu(m.two(m.drop(m.gelu(a))) + x), b),
}


@pytest.mark.parametrize("name", JOINS)
@pytest.mark.parametrize("shape", [(4, 16), (4, 7, 16), (2, 3, 5, 16)])
def test_whatever_reads_a_linear_layer_gets_the_same(name, shape):
    torch.manual_seed(0)
    network = Block(JOINS[name]).eval().requires_grad_(False)
    rows = 3 * torch.randn(shape)
    expected = network(rows)
    packed = pack_products(without_identities(fx.symbolic_trace(network)), rows.shape)
    assert not any(isinstance(module, nn.Linear | nn.Dropout) for module in packed.modules())
    for mine, theirs in zip(packed(rows), expected, strict=True):
        assert torch.allclose(mine, theirs, atol=1e-5)


def test_what_drops_in_training_stays_where_it_is_asked_to():
    class Dropping(nn.Module):
        def forward(self, x):
            return functional.dropout(x, 0.5)

    torch.manual_seed(0)
    network = without_identities(fx.symbolic_trace(Dropping().eval()))
    network.recompile()
    assert (network(torch.ones(100)) == 0).any()


@pytest.mark.parametrize("capability", ["AVX2", "AVX512"])
@pytest.mark.parametrize("intel", [True, False])
@pytest.mark.parametrize("activation", [("none", ()), ("gelu none", ()), ("gelu tanh", ()), ("relu", ())])
def test_a_long_product_is_the_same_whoever_computes_it(monkeypatch, capability, intel, activation):
    if intel and not torch.backends.mkl.is_available():
        pytest.skip("needs MKL")
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    monkeypatch.setattr(products, "is_intel", lambda: intel)
    torch.manual_seed(0)
    linear = nn.Linear(384, 32).requires_grad_(False)
    rows, other = torch.randn(2, 5, 384), torch.randn(2, 5, 32)
    name, _, form = activation[0].partition(" ")
    after = {"none": lambda x: x, "relu": functional.relu, "gelu": lambda x: functional.gelu(x, approximate=form)}[name]
    packed = PackedLinear(linear, rows.shape, activation)
    assert (packed.plain is not None) == (intel and name != "relu")
    # Other numbers of rows than those that it was made for as well.
    for part in (rows, rows[:1]):
        assert torch.allclose(packed(part), after(linear(part)), atol=1e-5)
        if name == "none":
            assert torch.allclose(packed(part, other[: len(part)]), linear(part) + other[: len(part)], atol=1e-5)


@pytest.mark.parametrize("tiles", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("named", [{}, {"scale": 0.3}, {"is_causal": True}, {"dropout_p": 0.0, "attn_mask": None}])
def test_attention_is_torchs_own(monkeypatch, tiles, dtype, named):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: tiles)
    torch.manual_seed(0)
    query, key, value = (torch.randn(2, 3, length, 8).to(dtype) for length in (5, 7, 7))
    expected = functional.scaled_dot_product_attention(query.float(), key.float(), value.float(), **named)
    found = attend(query, key, value, **named)
    assert found.dtype == dtype
    assert (found.float() - expected).abs().max() <= (1e-6 if dtype == torch.float32 else 3e-2)


@pytest.mark.parametrize("bias", [True, False])
def test_attention_to_oneself_is_the_module_of_torch(bias):
    torch.manual_seed(0)
    attention = nn.MultiheadAttention(16, 4, batch_first=True, bias=bias).eval().requires_grad_(False)
    tokens = torch.randn(3, 9, 16)
    packed = PackedAttention(attention, tokens.shape)
    expected, _ = attention(tokens, tokens, tokens, need_weights=False)
    found, weights = packed(tokens)
    assert weights is None and torch.allclose(found, expected, atol=1e-6)


WINDOWS = {
    "windows": ((8, 8), [4, 4], [0, 0]),
    "shifted": ((8, 12), [4, 4], [2, 2]),
    "shifted one way": ((4, 12), [4, 4], [2, 2]),
    "filled up": ((7, 9), [4, 4], [2, 2]),
    "oblong": ((6, 8), [3, 4], [1, 2]),
    "one window": ((3, 3), [4, 4], [2, 2]),
}


@pytest.mark.parametrize("tiles", [True, False])
@pytest.mark.parametrize("cosines", [True, False])
@pytest.mark.parametrize("name", WINDOWS)
def test_attention_of_shifted_windows_is_the_function_of_torchvision(monkeypatch, name, cosines, tiles):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: tiles)
    torch.manual_seed(0)
    size, window, shift = WINDOWS[name]
    tokens, heads = window[0] * window[1], 2
    inward, outward, maps = nn.Linear(16, 48), nn.Linear(16, 16), torch.randn(3, *size, 16)
    scales = 3 * torch.rand(heads, 1, 1) if cosines else None
    bias = torch.randn(1, heads, tokens, tokens)
    for dtype, bound in ((torch.float32, 1e-5), (torch.bfloat16, 3e-2)):
        if dtype == torch.bfloat16 and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
            continue
        given = [part.detach().to(dtype) for part in (inward.weight, outward.weight, bias)]
        biases = {"qkv_bias": inward.bias.detach().to(dtype), "proj_bias": outward.bias.detach().to(dtype)}
        biases["logit_scale"] = None if scales is None else scales.to(dtype)
        asked = (*given, window, heads, shift)
        packed = PackedWindows(maps.shape, *asked, **biases)
        exact = [part.float() for part in given]
        named = {name: None if part is None else part.float() for name, part in biases.items()}
        # Other numbers of images than those that it was made for as well.
        for images in (maps, maps[:1], maps.repeat(2, 1, 1, 1)):
            expected = swin_transformer.shifted_window_attention(
                images.to(dtype).float(), *exact, window, heads, shift, **named, training=False
            )
            difference = packed(images.to(dtype)).float() - expected
            assert difference.abs().max() <= bound * expected.abs().max()


def test_windows_that_drop_or_whose_biases_depend_on_the_images_are_left_as_they_are():
    class Windows(nn.Module):
        def __init__(self, **named):
            super().__init__()
            self.named, self.inward, self.outward = named, nn.Linear(16, 48), nn.Linear(16, 16)

        def forward(self, maps):
            of_maps = maps.mean() * torch.ones(1, 2, 16, 16) if not self.named else torch.ones(1, 2, 16, 16)
            weights = (self.inward.weight, self.outward.weight, of_maps, [4, 4], 2)
            return swin_transformer.shifted_window_attention(maps, *weights, shift_size=[2, 2], **self.named)

    def windows_of(network):
        packed = pack_products(fx.symbolic_trace(network.eval().requires_grad_(False)), torch.Size((2, 8, 8, 16)))
        return [module for module in packed.modules() if isinstance(module, PackedWindows)]

    assert len(windows_of(Windows(training=False, dropout=0.5))) == len(windows_of(Windows(training=True))) == 1
    assert windows_of(Windows(training=True, dropout=0.5)) == windows_of(Windows()) == []


def test_attention_that_is_asked_for_more_stays_as_it_is():
    class Asking(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention, self.out = nn.MultiheadAttention(16, 4, batch_first=True), nn.Linear(16, 16)

        def forward(self, x):
            return self.attention(x, x, x)[1], self.attention(x, self.out(x), x, need_weights=False)[0]

    network = Asking().eval().requires_grad_(False)
    tokens = torch.randn(2, 5, 16)
    packed = pack_products(fx.symbolic_trace(network), tokens.shape)
    assert not any(isinstance(module, PackedAttention) for module in packed.modules())
    for mine, theirs in zip(packed(tokens), network(tokens), strict=True):
        assert torch.allclose(mine, theirs, atol=1e-6)


def small_transformer(**options) -> Cut:
    torch.manual_seed(0)
    network = VisionTransformer(32, 8, 3, 4, 32, 64, num_classes=5, **options).eval().requires_grad_(False)
    nn.init.normal_(network.heads.head.weight)
    return Cut(network, 32)


CUTS = {
    "vit": small_transformer,
    "vit with dropout": lambda: small_transformer(dropout=0.5, attention_dropout=0.5),
    "swin_v2_t": lambda: load_backbone("swin_v2_t", "random").cut(64),
    "swin_t": lambda: load_backbone("swin_t", "random").cut(64),
    "convnext_tiny": lambda: load_backbone("convnext_tiny", "random").cut(64),
}


@pytest.mark.parametrize("name", CUTS)
def test_every_stage_of_a_network_is_what_it_is_without(home, name):
    cut = CUTS[name]()
    outputs = [Output(cut.resolve(stage), "none") for stage in cut.stages]
    images = torch.rand(8, 3, cut.image_size, cut.image_size)
    with torch.no_grad():
        expected = pooled_trunk(cut, outputs)(images)
    for precision, bound in (("float32", 1e-5), ("bfloat16", 6e-2)):
        recipe = choose_recipe(cut, outputs, images=8, precision=precision, device=CPU)
        if recipe.engine != "packed":
            assert precision == "bfloat16" and not torch.ops.mkldnn._is_mkldnn_bf16_supported()
            continue
        trunk = Trunk(cut, outputs, recipe, CPU)
        packed = {type(module) for module in trunk._run.modules()}
        assert PackedLinear in packed and (PackedWindows in packed) == name.startswith("swin")
        # Another number of images than it was made for is computed as well.
        for count in (8, 1):
            for mine, theirs in zip(trunk(images[:count]), expected, strict=True):
                assert (mine.float() - theirs[:count]).abs().max() <= bound * theirs.abs().max()


def test_a_layer_of_a_transformer_is_the_same_bit_for_bit_whatever_else_is_asked_for():
    cut = small_transformer(dropout=0.5)
    images = torch.rand(8, 3, 32, 32)

    def computed(layers, precision):
        outputs = [Output(layer, "none") for layer in layers]
        recipe = choose_recipe(cut, outputs, images=8, precision=precision, device=CPU)
        return dict(zip(layers, Trunk(cut, outputs, recipe, CPU)(images), strict=True))

    for precision in ("float32", "bfloat16"):
        together = computed(cut.layers, precision)
        for layer in cut.layers:
            assert torch.equal(computed([layer], precision)[layer], together[layer]), layer


def test_networks_of_convolutions_are_not_packed_nor_those_without_products(monkeypatch):
    cut = Cut(load_backbone("resnet18", "random").model, 64)
    assert choose_recipe(cut, [Output("avgpool", "avg")], images=8, precision="float32", device=CPU).engine == "fused"
    assert not can_pack(nn.Sequential(nn.Flatten(), nn.Linear(3, 3)), torch.float32)
    assert can_pack(build_model("vit_b_16"), torch.float32)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False)
    assert not can_pack(build_model("vit_b_16"), torch.bfloat16)


def test_a_pass_that_was_begun_otherwise_is_carried_on_as_it_was_begun():
    cut = small_transformer()
    recipe = choose_recipe(cut, [Output("avgpool", "avg")], images=8, precision="float32", device=CPU)
    begun = dataclasses.replace(recipe, engine="eager").to_json()
    assert recipe.engine == "packed" and recipe.can_follow(begun)
    assert recipe.following(begun).engine == "eager"
    assert not dataclasses.replace(recipe, engine="eager").can_follow(recipe.to_json())
    assert not dataclasses.replace(recipe, engine="fused").can_follow(recipe.to_json())


def test_a_module_that_is_given_a_size_and_one_that_is_given_by_name_are_left_as_they_are():
    class Positions(nn.Module):
        def forward(self, size):
            return torch.arange(float(size[0] * size[1])).view(1, *size, 1)

    class Leaves(fx.Tracer):
        def is_leaf_module(self, m, name):
            return isinstance(m, Positions) or super().is_leaf_module(m, name)

    class Placed(nn.Module):
        def __init__(self):
            super().__init__()
            self.positions, self.one, self.two = Positions(), nn.Linear(16, 16), nn.Linear(16, 16)

        def forward(self, x):
            return self.two(input=self.one(x) + self.positions((3, 4)))

    network = Placed().eval().requires_grad_(False)
    rows = torch.randn(2, 3, 4, 16)
    packed = pack_products(fx.GraphModule(network, Leaves().trace(network)), rows.shape)
    assert torch.allclose(packed(rows), network(rows), atol=1e-5)
    assert sum(isinstance(module, PackedLinear) for module in packed.modules()) == 1
