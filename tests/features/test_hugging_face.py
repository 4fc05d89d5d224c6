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
