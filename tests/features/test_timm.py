"""timm's models: how each is prepared, its tokens and classifiers, its weights from files, and without a network."""

import pytest
import torch

pytest.importorskip("timm")

import timm

from extract.pooling import pool_output
from extract.trunk import Output, Trunk, choose_recipe
from features.architectures import outline
from features.backbones import load_backbone, requested_backbone
from features.backbones.timm import FAMILY
from features.cut import Cut
from features.errors import UserError
from features.pooling import canonical_pool
from features.preprocessing import Preparation
from features.request import Request

SIDE = 64


def _cut(name: str, size: int = SIDE) -> tuple[torch.nn.Module, Cut]:
    backbone = load_backbone(f"timm:{name}", "random", prepared=Preparation(size))
    return backbone.model, backbone.cut(size)


@pytest.mark.parametrize(
    ("name", "layout"),
    [
        ("test_vit", "class tokens"),
        ("test_vit2", "1 more tokens"),
        ("test_vit_relpos", "tokens"),
        ("test_resnet", "map"),
    ],
)
def test_stages_are_cuts_and_tokens_of_no_place_are_known(name, layout):
    model, cut = _cut(name)
    images = torch.randn(3, 3, SIDE, SIDE)
    nodes = [cut.resolve(stage) for stage in cut.stages[:-1]]
    with torch.no_grad():
        for node, output in zip(nodes, cut.trunk(nodes)(images), strict=True):
            assert torch.equal(cut.tail(node)(output), model(images)), node
    assert cut.layout(nodes[0]) == layout


def test_the_poolings_of_tokens_are_those_of_the_networks_own_outputs():
    model, cut = _cut("test_vit")
    last = cut.resolve(cut.inner_stages[-1])
    with torch.no_grad():
        (tokens,) = cut.trunk([last])(torch.randn(2, 3, SIDE, SIDE))
    layout, shape = cut.layout(last), cut.shape(last)
    assert torch.equal(pool_output(tokens, "cls", layout), tokens[:, 0])
    assert torch.equal(pool_output(tokens, "avg", layout), tokens[:, 1:].mean(1))
    grid = canonical_pool("grid:2", shape, layout)
    corner = tokens[:, 1:].unflatten(1, (4, 4))[:, :2, :2, 0].mean((1, 2))
    assert torch.allclose(pool_output(tokens, grid, layout)[:, 0], corner)


def test_a_distilled_networks_classifiers_are_both_above_its_pooled_output():
    torch.manual_seed(0)
    _, cut = _cut("deit_tiny_distilled_patch16_224", 32)
    assert cut.layout(cut.resolve("avgpool")) == "class and 1 more tokens"
    backbone = load_backbone("timm:levit_128s", "random")
    assert backbone.cut(None).shape("mean") == (384,)
    names = backbone.family.new_classifier(backbone.model, 3)
    assert names[:2] == ("head.linear", "head_dist.linear")


def test_a_convolution_that_classifies_stands_above_the_pooled_output():
    _, cut = _cut("resnetv2_18")
    assert cut.shape(cut.resolve("avgpool")) == (512, 1, 1)


def test_images_are_prepared_as_the_models_own_configuration_says():
    steps = load_backbone("timm:test_vit", "random").preprocessing
    config = timm.get_pretrained_cfg("test_vit")
    assert (steps.crop, steps.interpolation) == (config.input_size[-1], config.interpolation)
    assert steps.resize == int(steps.crop / config.crop_pct)
    assert steps.at(320).resize == 2 * steps.resize


def test_weights_of_a_file_take_positions_of_another_size(tmp_path):
    from safetensors.torch import save_file

    torch.manual_seed(0)
    model = timm.create_model("test_vit", num_classes=7)
    save_file(model.state_dict(), tmp_path / "seven.safetensors")
    asked = Request(backbone="timm:test_vit", weights=str(tmp_path / "seven.safetensors"), image_size=SIDE)
    small, own = requested_backbone(asked), load_backbone(asked.backbone, asked.weights)
    assert torch.equal(own.model.head.weight, model.head.weight) and "timm's test_vit" in own.unsure
    assert torch.equal(small.model.head.weight, model.head.weight)
    assert small.model.pos_embed.shape[1] < own.model.pos_embed.shape[1]
    assert small.cut(SIDE).image_size == SIDE
    with pytest.raises(UserError, match="160 x 160"):
        own.cut(SIDE)
    torch.save({"strange": torch.zeros(3)}, tmp_path / "strange.pth")
    with pytest.raises(UserError, match="does not hold weights of timm:test_vit"):
        load_backbone("timm:test_vit", str(tmp_path / "strange.pth"))


@pytest.mark.parametrize(
    "name",
    ["repvit_m0_9", "vit_small_patch16_dinov3", "vit_tiny_r_s16_p8_224"],
    ids=["two classifiers", "no classifier", "runs while it is built"],
)
def test_a_network_with_a_new_classifier_is_read_again_at_another_size(name, tmp_path):
    from safetensors.torch import save_file

    name, prepared = f"timm:{name}", Preparation(SIDE)
    model = load_backbone(name, "random", prepared=prepared).model
    names = FAMILY.new_classifier(model, 3)
    state = model.state_dict()
    assert all(f"{classifier}.weight" in state for classifier in names)
    save_file({key: tensor.contiguous() for key, tensor in state.items()}, tmp_path / "three.safetensors")
    again = load_backbone(name, str(tmp_path / "three.safetensors"), prepared=prepared).model.state_dict()
    assert again.keys() == state.keys() and all(torch.equal(again[key], state[key]) for key in state)


def test_an_outline_of_a_network_that_runs_while_it_is_built_draws_nothing():
    before = torch.get_rng_state()
    made = outline("timm:vit_tiny_r_s16_p8_224", 3)
    assert all(tensor.is_meta for tensor in made.parameters()) and torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("name", ["hiera_tiny_224", "levit_128s"])
def test_a_network_is_cut_twice_and_its_tail_gives_what_it_gives(name, home):
    backbone = load_backbone(f"timm:{name}", "random", prepared=Preparation(SIDE))
    stages = backbone.cut(SIDE).stages
    cut = backbone.cut(SIDE)
    assert cut.stages == stages and len(stages) > 4
    pixels, node = torch.randn(2, 3, SIDE, SIDE), cut.resolve(stages[1])
    with torch.no_grad():
        backbone.model.get_submodule(backbone.family.classifiers(backbone.model)[0]).weight.normal_()
        assert torch.equal(cut.tail(node)(*cut.trunk([node])(pixels)), backbone.model(pixels))


def test_a_size_that_a_network_does_not_take_is_one_line(capfd):
    backbone = load_backbone("timm:efficientformer_l1", "random", prepared=Preparation(SIDE))
    with pytest.raises(UserError, match="cannot be taken apart at 64 x 64"):
        backbone.cut(SIDE)
    assert capfd.readouterr().err == ""


def test_what_defines_it_is_the_package_and_the_graph():
    backbone = load_backbone("timm:test_resnet", "random")
    first = backbone.defined_by(backbone.cut(64))
    assert first.startswith(f"timm {timm.__version__} graph ")
    assert first == backbone.defined_by(backbone.cut(64))


def test_without_a_network_it_is_said_within_seconds_what_is_missing(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://192.0.2.1")  # nobody has this address
    monkeypatch.setattr("features.backbones.hub._SECONDS", 1.0)
    with pytest.raises(UserError, match=r"model\.safetensors of timm/test_vit.*--weights PATH.*out of reach"):
        load_backbone("timm:test_vit", "default")


@pytest.mark.parametrize(
    ("name", "weights", "advice"),
    [
        ("timm:resnet81", "random", r"no model 'resnet81'; did you mean timm:"),
        ("timm:resnet18.nobody", "random", "no weights 'nobody' of resnet18; choose from"),
        ("timm:resnet18", "nothing", "none of default, .*a1_in1k"),
    ],
)
def test_a_mistake_is_one_line(name, weights, advice):
    with pytest.raises(UserError, match=advice):
        load_backbone(name, weights)


def test_buffers_that_a_module_makes_anew_for_a_size_stay_tensors_with_numbers(home):
    backbone = load_backbone("timm:convit_tiny", "random")
    cut = backbone.cut(None)
    attention = backbone.model.get_submodule("blocks.0.attn")
    assert type(attention.rel_indices) is torch.Tensor
    images = torch.randn(1, 3, cut.image_size, cut.image_size)
    with torch.no_grad():
        (found,) = cut.trunk([cut.resolve("avgpool")])(images)
        assert type(found) is torch.Tensor and found.isfinite().all()


def test_a_buffer_of_five_axes_is_no_obstacle(home):
    backbone = load_backbone("timm:swin_tiny_patch4_window7_224", "random")
    cut, cpu = backbone.cut(None), torch.device("cpu")
    outputs = [Output(cut.resolve("avgpool"), "avg")]
    recipe = choose_recipe(cut, outputs, images=8, precision="float32", device=cpu)
    (found,) = Trunk(cut, outputs, recipe, cpu)(torch.randn(1, 3, cut.image_size, cut.image_size))
    assert found.shape == (1, 768) and found.isfinite().all()
