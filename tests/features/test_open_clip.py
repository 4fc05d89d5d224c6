"""OpenCLIP's image towers: what of them is cut, how images are prepared, weights from files, and no network."""

import pytest
import torch

pytest.importorskip("open_clip")

import open_clip
import open_clip.factory
from safetensors.torch import save_file

from features.backbones import load_backbone
from features.errors import UserError
from features.preprocessing import Preparation

SMALL = {"image_size": 32, "layers": 4, "width": 24, "patch_size": 8, "head_width": 8}
TEXT = {"context_length": 8, "vocab_size": 50, "width": 16, "heads": 2, "layers": 1}


@pytest.fixture(autouse=True)
def small_model(monkeypatch):
    """Models of OpenCLIP's that are small enough to test with, and weights of their table."""
    transformer = {"embed_dim": 16, "vision_cfg": SMALL, "text_cfg": TEXT}
    resnet = {**transformer, "vision_cfg": {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8, "patch_size": None}}
    of_timm = {"timm_model_name": "test_convnext", "timm_proj": "linear", "image_size": 64}
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "small", transformer)
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "small-RN", resnet)
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "small-timm", {**transformer, "vision_cfg": of_timm})
    of_timm = {"timm_model_name": "test_vit", "timm_proj": "linear", "image_size": 160}
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "small-timm-vit", {**transformer, "vision_cfg": of_timm})
    weights = {
        "mean": (0.5,) * 3, "std": (0.25,) * 3, "interpolation": "bilinear", "resize_mode": "squash",
        "quick_gelu": True, "hf_hub": "nobody/small/", "url": "",
    }  # fmt: skip
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, "small", {"quick": weights})


def _theirs(**options):
    torch.manual_seed(0)
    # torch computes attention another way where parameters are to be trained.
    return open_clip.create_model("small", **options).eval().requires_grad_(False)


@pytest.mark.parametrize(
    ("model", "layout", "width", "pooled"),
    [("small", "class tokens", 16, 24), ("small-RN", "map", 16, 16), ("small-timm", "map", 16, 64)],
)
def test_a_tower_is_cut_at_its_stages_and_pooled_below_its_projection(model, layout, width, pooled):
    backbone = load_backbone(f"open_clip:{model}", "random")
    cut, size = backbone.cut(None), backbone.preprocessing.crop
    nodes = [cut.resolve(stage) for stage in cut.stages]
    assert backbone.headless and cut.stages[-1] == "avgpool" and len(nodes) >= 5
    assert (cut.layout(nodes[0]), cut.shape(nodes[-1])[0]) == (layout, pooled)
    for count in (1, 3):
        images = torch.randn(count, 3, size, size)
        with torch.no_grad():
            rows = backbone.model(images)
            assert rows.shape == (count, width)
            for node, output in zip(nodes, cut.trunk(nodes)(images), strict=True):
                assert torch.equal(cut.tail(node)(output), rows), node


@pytest.mark.parametrize("part", ["whole", "visual"])
@pytest.mark.parametrize("kind", ["safetensors", "pt"])
def test_weights_of_a_whole_clip_and_of_its_tower_alone_give_its_own_embeddings(tmp_path, part, kind):
    theirs = _theirs()
    state, path = (theirs if part == "whole" else theirs.visual).state_dict(), tmp_path / f"w.{kind}"
    save_file(state, path) if kind == "safetensors" else torch.save({"state_dict": state}, path)
    backbone = load_backbone("open_clip:small", str(path))
    images = torch.randn(3, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(backbone.model(images), theirs.encode_image(images))
    assert backbone.headless and "OpenCLIP's small/quick" in backbone.unsure


def test_positions_are_resampled_as_open_clip_does_it(tmp_path):
    theirs = _theirs()
    save_file(theirs.state_dict(), tmp_path / "w.safetensors")
    other = _theirs(pretrained=str(tmp_path / "w.safetensors"), force_image_size=48)
    images = torch.randn(2, 3, 48, 48)
    backbone = load_backbone("open_clip:small", str(tmp_path / "w.safetensors"), prepared=Preparation(48))
    with torch.no_grad():
        assert torch.equal(backbone.model(images), other.encode_image(images))
    # A file of positions for another size is read as what it is.
    save_file(other.state_dict(), tmp_path / "48.safetensors")
    large = load_backbone("open_clip:small", str(tmp_path / "48.safetensors"))
    assert large.preprocessing.crop == 48 and large.cut(None).image_size == 48
    assert torch.equal(large.model.body.positional_embedding, other.visual.positional_embedding)
    with pytest.raises(UserError, match="--image-size 64.*32 x 32 pixels alone"):
        load_backbone("open_clip:small-RN", "random", prepared=Preparation(64)).cut(64)


def test_images_are_prepared_and_activated_as_the_named_weights_were_trained():
    plain, named = load_backbone("open_clip:ViT-B-32", "random"), load_backbone("open_clip:small/quick", "random")
    usual = open_clip.transform.PreprocessCfg()
    assert (plain.preprocessing.mean, plain.preprocessing.crop) == (usual.mean, 224)
    assert (plain.preprocessing.resize, plain.preprocessing.crop_mode) == (224, "center")
    steps = named.preprocessing
    assert (steps.mean, steps.crop, steps.crop_mode, steps.interpolation) == ((0.5,) * 3, 32, "squash", "bilinear")
    theirs = _theirs(force_quick_gelu=True)
    named.model.body.load_state_dict(theirs.visual.state_dict())
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(named.model(images), theirs.encode_image(images))
    assert load_backbone("open_clip:ViT-B-16-SigLIP", "random").preprocessing.mean == (0.5,) * 3


def test_what_is_not_there_is_said_in_a_line(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://192.0.2.1")  # nobody has this address
    monkeypatch.setattr("features.backbones.hub._SECONDS", 1.0)
    with pytest.raises(UserError, match=r"open_clip_model\.safetensors of nobody/small.*out of reach"):
        load_backbone("open_clip:small/quick")
    for name, weights, advice in (
        ("small", "default", "give --backbone open_clip:small/quick, or --weights FILE"),
        ("small", "quick", "give --backbone open_clip:small/quick, or"),
        ("small-RN", "default", "give --weights FILE, or --weights random"),
        ("small/nobody", "random", "no weights 'nobody' of small; choose from quick"),
        ("ViT-B-23/openai", "random", "no model 'ViT-B-23'; did you mean open_clip:ViT-B-32"),
        ("small", "nothing", "no such file, and it is none of default, quick, random"),
    ):
        with pytest.raises(UserError, match=advice):
            load_backbone(f"open_clip:{name}", weights)
    torch.save({"strange": torch.zeros(3)}, tmp_path / "strange.pth")
    with pytest.raises(UserError, match="does not hold weights of open_clip:small"):
        load_backbone("open_clip:small", str(tmp_path / "strange.pth"))


def test_a_file_that_the_hub_lacks_is_asked_for_under_its_other_name(tmp_path, monkeypatch):
    from huggingface_hub.utils import EntryNotFoundError

    def download(repository: str, name: str) -> str:
        if name.endswith(".safetensors"):
            raise EntryNotFoundError(f"no {name}")
        torch.save(_theirs().state_dict(), tmp_path / name)
        return str(tmp_path / name)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    monkeypatch.setattr("features.backbones.hub._answers", lambda url: True)
    backbone = load_backbone("open_clip:small/quick")
    assert (backbone.weights_name, backbone.weights_path) == ("quick", tmp_path / "open_clip_pytorch_model.bin")


@pytest.mark.parametrize("model", ["small", "small-timm-vit"])
def test_a_classifier_above_a_tower_is_read_with_it(tmp_path, model):
    backbone = load_backbone(f"open_clip:{model}", "random", prepared=Preparation(48))
    backbone.family.new_classifier(backbone.model, 3)
    save_file(backbone.model.state_dict(), tmp_path / "w.safetensors")
    again = load_backbone(f"open_clip:{model}", str(tmp_path / "w.safetensors"), prepared=Preparation(48))
    assert not again.headless and again.cut(48).stages[-1] == "fc"
    images = torch.randn(2, 3, 48, 48)
    with torch.no_grad():
        assert torch.equal(again.model(images), backbone.model.requires_grad_(False)(images))
