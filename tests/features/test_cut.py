"""The cut: names, stages, and that trunk and tail together are the network, bit for bit."""

import functools
import itertools

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from features.backbones import load_backbone
from features.cut import Cut
from features.errors import UserError
from tests.hooks import taken_by_hooks

FAMILIES = [
    "resnet18",
    "alexnet",
    "vgg11",
    "mobilenet_v2",
    "efficientnet_b0",
    "convnext_tiny",
    "vit_b_32",
    "densenet121",
    "swin_t",
    "googlenet",
    "shufflenet_v2_x0_5",
    "squeezenet1_1",
]


@pytest.mark.parametrize("name", FAMILIES)
def test_trunk_then_tail_is_the_network_bit_for_bit(name):
    model = load_backbone(name, "random").model
    cut = Cut(model)
    images = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    middle = [layer for layer in cut.layers if layer in cut.legal][:: max(1, len(cut.legal) // 3)]
    with torch.inference_mode():
        whole = model(images)
        for layer in {*(cut.resolve(stage) for stage in cut.stages), *middle}:
            (features,) = cut.trunk([layer])(images)
            assert torch.equal(cut.tail(layer)(features), whole), layer


@pytest.mark.parametrize("name", ["resnet18", "efficientnet_b0", "vit_b_32"])
def test_a_trunk_gives_all_its_layers_in_one_pass_and_in_the_order_asked(name):
    model = load_backbone(name, "random").model
    cut = Cut(model)
    layers = [cut.resolve(stage) for stage in reversed(cut.stages)]
    images = torch.randn(2, 3, 224, 224)
    with torch.inference_mode():
        outputs = cut.trunk(layers)(images)
        for layer, output in zip(layers, outputs, strict=True):
            assert torch.equal(output, cut.trunk([layer])(images)[0])
            assert tuple(output.shape[1:]) == cut.shape(layer)


def test_the_trunk_stops_at_the_deepest_layer():
    cut = Cut(load_backbone("resnet18", "random").model)
    names = dict(cut.trunk([cut.resolve("layer2")]).named_modules())
    assert any(name.startswith("layer2") for name in names)
    assert not any(name.startswith("layer3") for name in names)


def test_resnet_stages_and_the_names_of_layers():
    cut = Cut(load_backbone("resnet18", "random").model)
    assert cut.stages == ("maxpool", "layer1", "layer2", "layer3", "layer4", "avgpool", "fc")
    assert cut.resolve("layer2") == "layer2.1.relu_1"
    assert cut.resolve("layer2.0") == "layer2.0.relu_1"
    assert cut.resolve("flatten") == cut.resolve("avgpool") == "avgpool"
    assert cut.shape("fc") == (1000,)
    assert cut.pooled_twin(cut.resolve("layer4")) == "avgpool"
    assert cut.pooled_twin(cut.resolve("layer3")) == cut.resolve("layer3")
    assert len(cut.blocks) == 8


def test_the_pooled_output_is_found_where_the_last_map_is_a_single_place():
    cut = Cut(load_backbone("resnet18", "random").model, image_size=32)
    assert cut.shape(cut.resolve("layer4")) == (512, 1, 1)
    assert cut.resolve("avgpool") == cut.pooled_twin(cut.resolve("layer4")) == "avgpool"


@pytest.mark.parametrize("name", [name for name in FAMILIES if name != "resnet18"])
def test_stages_of_other_backbones_go_from_fine_to_coarse_and_end_in_pooled_and_classifier(name):
    cut = Cut(load_backbone(name, "random").model)
    assert cut.stages[-2:] == ("avgpool", "fc")
    assert len(cut.stages) >= 5
    assert len(set(cut.stages)) == len(cut.stages)
    nodes = [cut.resolve(stage) for stage in cut.stages]
    assert set(nodes) <= cut.legal
    assert [cut.layers.index(node) for node in nodes] == sorted(cut.layers.index(node) for node in nodes)
    assert cut.shape(nodes[-1]) == (1000,)


def test_a_layer_that_a_skip_connection_bypasses_cannot_be_cut_but_can_be_read():
    cut = Cut(load_backbone("resnet18", "random").model)
    assert "layer1.0.conv1" not in cut.legal
    assert cut.trunk(["layer1.0.conv1"])(torch.zeros(1, 3, 64, 64))[0].shape == (1, 64, 16, 16)
    with pytest.raises(UserError, match="cannot be cut at 'layer1.0.conv1'.*maxpool"):
        cut.tail("layer1.0.conv1")


def test_an_unknown_layer_is_told_the_nearest_names():
    with pytest.raises(UserError, match="no layer 'layer5'.*layer[1-4]"):
        Cut(load_backbone("resnet18", "random").model).resolve("layer5")


def test_an_image_too_small_for_the_network_is_refused_in_words():
    cut = Cut(load_backbone("alexnet", "random").model, image_size=16)
    with pytest.raises(UserError, match="16 x 16.*--image-size"):
        _ = cut.stages


def test_operations_are_counted_up_to_the_deepest_layer():
    cut = Cut(load_backbone("resnet18", "random").model)
    whole, half = cut.flops(["fc"]), cut.flops([cut.resolve("layer2")])
    assert whole == pytest.approx(3.628e9, rel=1e-3)
    assert half == pytest.approx(whole / 2, rel=0.1)
    assert cut.flops([cut.resolve("layer1"), "fc"]) == whole


@functools.cache
def _hooked(name):
    """A cut, images, what hooks on the plain network take of every layer that is a module, and the network's output."""
    cut = Cut(load_backbone(name, "random").model, 64)
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    taken, whole = taken_by_hooks(cut.model, images)
    taken = {layer: output for layer, output in taken.items() if layer in cut.layers}
    return cut, images, taken, whole


@pytest.mark.parametrize("name", ["resnet18", "efficientnet_b0", "squeezenet1_1", "shufflenet_v2_x0_5", "densenet121"])
def test_any_layers_in_any_order_are_what_hooks_on_the_plain_network_take(name):
    cut, images, taken, _ = _hooked(name)
    assert cut.overwritten & taken.keys()

    @settings(max_examples=10, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(st.lists(st.sampled_from(list(taken)), min_size=1, max_size=8, unique=True))
    def check(layers):
        with torch.no_grad():
            outputs = cut.trunk(layers)(images)
        for layer, output in zip(layers, outputs, strict=True):
            assert torch.equal(output, taken[layer]), (layer, layers)

    check()
    with torch.no_grad():
        for layer, output in zip(taken, cut.trunk(list(taken))(images), strict=True):
            assert torch.equal(output, taken[layer]), layer


@pytest.mark.parametrize("name", ["resnet18", "vgg11", "efficientnet_b0", "densenet121"])
def test_what_a_tail_is_given_is_not_written_over_and_parts_in_a_row_are_the_network(name):
    cut, images, _, whole = _hooked(name)
    legal = [layer for layer in cut.layers if layer in cut.legal]
    chosen = sorted({*legal[:: max(1, len(legal) // 12)], *(cut.legal & cut.overwritten)}, key=legal.index)
    with torch.no_grad():
        outputs = cut.trunk(chosen)(images)
        for (layer, given_in), (upper, above) in itertools.pairwise(zip(chosen, outputs, strict=True)):
            before = given_in.clone()
            assert torch.equal(cut.tail(layer)(given_in), whole), layer
            assert torch.equal(cut.between(layer, upper)(given_in), above), layer
            assert torch.equal(given_in, before), layer


def test_training_does_not_drop_out_what_a_tail_is_given():
    cut, _, _, _ = _hooked("efficientnet_b0")
    pooled = cut.resolve("avgpool")
    tail, features = cut.tail(pooled).train(), torch.ones(2, *cut.shape(pooled))
    tail(features)
    assert torch.equal(features, torch.ones_like(features))
    assert pooled not in cut.overwritten


@pytest.mark.parametrize("name", FAMILIES)
def test_no_stage_and_no_block_is_written_over(name):
    cut = Cut(load_backbone(name, "random").model)
    assert not cut.overwritten & {*map(cut.resolve, cut.stages), *cut.blocks}
    assert len(cut.overwritten) == {"resnet18": 17, "efficientnet_b0": 49, "alexnet": 7, "vit_b_32": 0}.get(
        name, len(cut.overwritten)
    )


def test_a_network_may_be_cut_in_inference_mode():
    model = load_backbone("resnet18", "random").model
    with torch.inference_mode():
        cut = Cut(model, 32)
        assert cut.shape(cut.resolve("layer2")) == (128, 4, 4)
        assert cut.resolve("bn1") in cut.overwritten
