"""Models of transformers from folders that it wrote: classifiers and others, their tokens and preparation, no hub."""

import json

import pytest
import torch

from features.backbones import load_backbone
from features.errors import UserError

transformers = pytest.importorskip("transformers")

SMALL = {
    "hidden_size": 24, "num_hidden_layers": 4, "num_attention_heads": 3, "intermediate_size": 48, "image_size": 32,
    "patch_size": 8,
}  # fmt: skip
PREPARED = {"size": {"height": 32, "width": 32}, "image_mean": [0.5] * 3, "image_std": [0.25] * 3, "resample": 3}


def _folder(path, model) -> str:
    model.save_pretrained(path)
    (path / "preprocessor_config.json").write_text(json.dumps(PREPARED))
    return f"hf:{path}"


def _vit():
    return transformers.ViTForImageClassification(transformers.ViTConfig(**SMALL, num_labels=7))


def _registers():
    return transformers.Dinov2WithRegistersModel(transformers.Dinov2WithRegistersConfig(**SMALL))


def _convnext():
    config = transformers.ConvNextConfig(hidden_sizes=[8, 16, 24, 32], depths=[1] * 4, num_labels=7)
    return transformers.ConvNextForImageClassification(config)


@pytest.mark.parametrize(
    ("build", "layout", "headless"),
    [(_vit, "class tokens", False), (_registers, "class and 4 more tokens", True), (_convnext, "map", False)],
)
def test_a_folder_is_cut_at_its_stages(tmp_path, build, layout, headless):
    torch.manual_seed(0)
    theirs = build().eval()
    backbone = load_backbone(_folder(tmp_path, theirs))
    assert backbone.headless == headless and backbone.defined_by(cut := backbone.cut(None)).startswith("transformers ")
    images = torch.randn(3, 3, 32, 32)
    nodes = [cut.resolve(stage) for stage in cut.stages]
    with torch.no_grad():
        rows = backbone.model(images)
        given = theirs(pixel_values=images)
        assert torch.equal(rows, given.pooler_output if headless else given.logits)
        for stage, node, output in zip(cut.stages, nodes, cut.trunk(nodes)(images), strict=True):
            assert torch.equal(output if stage == "fc" else cut.tail(node)(output), rows)
    assert cut.layout(nodes[0]) == layout
    steps = backbone.preprocessing
    assert (steps.crop, steps.crop_mode, steps.interpolation, steps.mean) == (32, "squash", "bicubic", (0.5,) * 3)


def test_weights_of_a_file_are_read_by_the_models_names(tmp_path):
    name = _folder(tmp_path, _vit())
    other = _vit()
    torch.save(other.state_dict(), tmp_path / "other.pth")
    (tmp_path / "apart").mkdir()
    (tmp_path / "other.pth").rename(tmp_path / "apart" / "other.pth")
    backbone = load_backbone(name, str(tmp_path / "apart" / "other.pth"))
    assert torch.equal(backbone.model.classifier.weight, other.classifier.weight)
    assert load_backbone(name, "random").weights_sha256 != backbone.weights_sha256


def test_what_is_not_there_is_said_in_a_line(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://192.0.2.1")  # nobody has this address
    monkeypatch.setattr("features.backbones.hub._SECONDS", 1.0)
    with pytest.raises(UserError, match=r"config\.json of nobody/nothing.*out of reach"):
        load_backbone("hf:nobody/nothing")
    with pytest.raises(UserError, match="no such folder"):
        load_backbone("hf:nothing")
    (tmp_path / "config.json").write_text('{"model_type": "strange", "auto_map": {"AutoModel": "evil.Model"}}')
    (tmp_path / "evil.py").write_text("raise SystemExit('run')")
    with pytest.raises(UserError, match="no model that transformers has itself"):
        load_backbone(f"hf:{tmp_path}", "random")


def _clip_classifier():
    sides = {"hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 3, "intermediate_size": 48}
    config = transformers.CLIPConfig(vision_config=SMALL, text_config={**sides, "vocab_size": 50}, num_labels=7)
    return transformers.CLIPForImageClassification(config)


def test_a_classifier_made_of_a_model_of_images_and_text_keeps_its_classes(tmp_path):
    theirs = _clip_classifier().eval().requires_grad_(False)
    backbone = load_backbone(_folder(tmp_path, theirs))
    images = torch.randn(2, 3, 32, 32)
    assert not backbone.headless and torch.equal(backbone.model(images), theirs(pixel_values=images).logits)


def test_weights_that_a_folder_lacks_are_not_made_up(tmp_path):
    """DINO's files have no pooling layer, which transformers would draw at random each time."""
    from safetensors.torch import load_file, save_file

    name, file = _folder(tmp_path, transformers.ViTModel(transformers.ViTConfig(**SMALL))), "model.safetensors"
    tensors = load_file(tmp_path / file)
    save_file({key: tensor for key, tensor in tensors.items() if "pooler" not in key}, tmp_path / file)
    first, images = load_backbone(name), torch.randn(2, 3, 32, 32)
    assert first.weights_sha256 == load_backbone(name).weights_sha256
    theirs = transformers.ViTModel.from_pretrained(tmp_path, add_pooling_layer=False).eval().requires_grad_(False)
    assert torch.equal(first.model(images), theirs(pixel_values=images).last_hidden_state[:, 0])

    other = tmp_path / "other"
    other.mkdir()
    name, tensors = _folder(other, _vit()), load_file(other / file)
    save_file({key: tensor for key, tensor in tensors.items() if "classifier" not in key}, other / file)
    with pytest.raises(UserError, match=r"lacks classifier\.bias, classifier\.weight"):
        load_backbone(name)


def test_a_model_that_asks_for_more_than_images_is_refused_in_a_line(tmp_path):
    small = {key: value for key, value in SMALL.items() if key != "image_size"}
    model = transformers.Siglip2VisionModel(transformers.Siglip2VisionConfig(**small))
    with pytest.raises(UserError, match="Siglip2VisionModel does not take images of 32 x 32 alone"):
        load_backbone(_folder(tmp_path, model), "random")


@pytest.mark.skipif(
    tuple(map(int, torch.__version__.split(".")[:2])) < (2, 14), reason="arange takes no traced device in torch 2.8"
)
def test_rotary_positions_and_unused_maps_are_no_bar_to_a_cut(tmp_path):
    """DINOv3 asks the images for their device and type, Swin's stages end in maps that nothing reads."""
    rotary = transformers.DINOv3ViTModel(transformers.DINOv3ViTConfig(**SMALL, num_register_tokens=2))
    sizes = {"image_size": 64, "embed_dim": 12, "depths": [1, 1, 2, 1], "num_heads": [1, 2, 4, 4], "window_size": 2}
    shifted = transformers.SwinForImageClassification(transformers.SwinConfig(**sizes))
    for number, (model, size) in enumerate(((rotary, 32), (shifted, 64))):
        (tmp_path / str(number)).mkdir()
        backbone = load_backbone(_folder(tmp_path / str(number), model))
        cut = backbone.cut(size)
        assert len(cut.inner_stages) >= 3
        images, stage = torch.randn(2, 3, size, size), cut.resolve(cut.inner_stages[1])
        with torch.no_grad():
            (output,) = cut.trunk([stage])(images)
            assert torch.equal(cut.tail(stage)(output), backbone.model(images))


def test_both_classifiers_of_a_distilled_network_are_new_and_read_again(tmp_path):
    model = transformers.DeiTForImageClassificationWithTeacher(transformers.DeiTConfig(**SMALL, num_labels=7))
    backbone = load_backbone(name := _folder(tmp_path, model))
    assert backbone.cut(None).layout(backbone.cut(None).resolve("avgpool")) == "class and 1 more tokens"
    assert len(backbone.family.new_classifier(backbone.model, 3)) == 2
    (tmp_path / "apart").mkdir()
    torch.save(backbone.model.state_dict(), file := tmp_path / "apart" / "w.pth")
    again, images = load_backbone(name, str(file)), torch.randn(2, 3, 32, 32)
    assert torch.equal(again.model(images), backbone.model.requires_grad_(False)(images))
    assert again.model(images).shape == (2, 3) and not again.headless
