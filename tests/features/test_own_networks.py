"""Networks of one's own: what can be traced and what is refused in a line, and a module from Python or by its name."""

import json
import sys

import numpy as np
import pytest
import torch
from torch import nn

from features.backbones import load_backbone
from features.backbones.own import named
from features.cut import Cut
from features.errors import UserError
from features.preprocessing import Preprocessing

SIDE = 24


class Net(nn.Module):
    """Two convolutions and a classifier; images of 24 pixels."""

    preprocessing = {"mean": (0.5,) * 3, "std": (0.25,) * 3, "crop": SIDE, "resize": 28}

    def __init__(self, classes: int = 5) -> None:
        super().__init__()
        self.stem, self.norm, self.deep = nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.Conv2d(8, 16, 3, 2, 1)
        self.top = nn.Linear(16, classes)

    def maps(self, x):
        return self.deep(self.norm(self.stem(x)).relu()).relu()

    def forward(self, x):
        return self.top(self.maps(x).mean((2, 3)))


class IfShape(Net):
    def forward(self, x):
        if x.shape[1] != 3 or x.size(-1) != x.shape[-2]:
            raise ValueError("images are square and coloured")
        return super().forward(x)


class Len(Net):
    def forward(self, x):
        return self.top(self.maps(x).mean((2, 3)).view(len(x), -1))


class Int(Net):
    def forward(self, x):
        return self.top(self.maps(x).view(int(x.shape[0]), 16, -1).mean(2))


class Product(Net):
    def forward(self, x):
        images, channels, height, width = (y := self.maps(x)).shape
        scores = self.top(y.permute(0, 2, 3, 1).reshape(images * height * width, channels))
        return scores.view(images, height * width, -1).mean(1)


class Token(Net):
    """A token for each image, and each image by its number."""

    def __init__(self):
        super().__init__()
        self.register_buffer("token", torch.ones(1, 1, 16))

    def forward(self, x):
        tokens = self.maps(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([torch.zeros(len(x), 1, 16), self.token.expand(len(x), -1, -1), tokens], 1)
        return self.top(tokens.mean(1))[torch.arange(x.shape[0])]


class Optional(Net):
    def forward(self, x, mask=None, *more, maps_alone=False, **named):
        x = self.maps(x)
        if mask is not None:
            x = x * mask
        return x if maps_alone else self.top(x.mean((2, 3)))


class OptionalByShape(Optional):
    def forward(self, x, mask=None):
        return super().forward(x[:, : len(x[0])], mask)


class Keeps(Net):
    """Keeps what it computes, and while it does not train a table made from its weights as well."""

    def __init__(self):
        super().__init__()
        self.kept, self.table = [], {}

    def forward(self, x):
        self.last = self.maps(x)
        self.kept.append(self.last)
        if self.training or "top" not in self.table:
            self.table["top"] = self.top.weight * 2
        return self.last.mean((2, 3)) @ self.table["top"].T

    def train(self, mode=True):
        if mode:
            self.table = {}
        return super().train(mode)


class KeepsByShape(Keeps):
    def forward(self, x):
        return super().forward(x[:, : len(x[0])])


class Another(Net):
    def forward(self, x, scale):
        return super().forward(x) * scale


class Dropped(Net):
    def forward(self, x):
        y = self.norm(self.stem(x))
        y.relu_()
        return self.top(self.deep(y).mean((2, 3)))


class OneByOne(Net):
    def forward(self, x):
        return torch.cat([self.top(self.maps(image[None]).mean((2, 3))) for image in x])


class Dict(Net):
    def forward(self, x):
        return {"logits": super().forward(x), "maps": self.maps(x)}


class Tuple(Net):
    def forward(self, x):
        return super().forward(x), self.maps(x)


class Map(Net):
    def forward(self, x):
        return self.maps(x)


class Data(Net):
    def forward(self, x):
        return super().forward(x * 2 if x.mean() > 0 else x)


class Embedding(Net):
    def forward(self, x):
        return self.maps(x).mean((2, 3))


@pytest.mark.parametrize("kind", [Net, IfShape, Len, Int, Product, Token, Optional, OptionalByShape, Keeps])
@pytest.mark.parametrize("images", [1, 3])
def test_code_that_asks_for_sizes_is_cut_for_any_number_of_images(kind, images):
    model = kind().eval()
    cut, pixels = Cut(model, SIDE), torch.randn(images, 3, SIDE, SIDE)
    with torch.no_grad():
        (maps,) = cut.trunk(["norm"])(pixels)
        assert torch.equal(cut.tail("norm")(maps), model(pixels))


@pytest.mark.parametrize("kind", [Keeps, KeepsByShape])
def test_what_a_network_keeps_of_what_it_computes_is_no_part_of_its_graph_and_nothing_of_the_graph_is_kept(kind):
    model = kind().eval()
    pixels = torch.randn(2, 3, SIDE, SIDE)
    with torch.no_grad():
        model(pixels)
        last, kept = model.last, list(model.kept)
        tail = Cut(model, SIDE).tail("norm")
        assert model.last is last and len(model.kept) == len(kept) == 1 and model.kept[0] is kept[0]
        assert not model.table or type(model.table["top"]) is torch.Tensor
        model.top.weight.zero_()
        assert tail(torch.randn(2, 8, SIDE // 2, SIDE // 2)).abs().max() == 0


@pytest.mark.parametrize(
    ("kind", "advice"),
    [
        (Dict, r"a dict of logits, maps; .* return the one tensor"),
        (Tuple, r"a tuple; .* return the one tensor"),
        (Map, r"\(16, 6, 6\) for an image.*AdaptiveAvgPool2d"),
        (Dropped, r"in place and drops the result \('relu_'\).*x = self\.relu\(x\)"),
        (OneByOne, r"goes through the images one by one \('x'\)"),
        (Another, r"asks for 'scale' beside the images"),
        (Data, r"decides by the numbers in a tensor.*torch\.where"),
    ],
)
def test_what_no_graph_can_hold_is_refused_with_what_to_change(kind, advice):
    with pytest.raises(UserError, match=advice):
        _ = Cut(kind().eval(), SIDE).stages


def test_a_module_is_known_by_its_tensors_its_graph_and_its_preprocessing():
    torch.manual_seed(0)
    first = Net()
    same, other, longer = Net(), Net(), Len()
    for network in (same, longer):
        network.load_state_dict(first.state_dict())
    assert named(first) == named(same)
    assert len({named(first), named(other), named(longer)}) == 3
    longer.preprocessing = Preprocessing((0.5,) * 3, (0.5,) * 3, 28, SIDE)
    same.preprocessing = longer.preprocessing
    assert named(same) != named(first)
    with pytest.raises(UserError, match="not a list"):
        named([])


def test_a_module_that_is_handed_over_is_loaded_as_it_was():
    network = Net().eval()
    backbone = load_backbone(named(network))
    network.top.weight.data.zero_()  # what happens to it afterwards makes no difference
    assert backbone.preprocessing.crop == SIDE and backbone.model.top.weight.any()
    assert backbone.family.classifiers(backbone.model) == ("top",)
    drawn = [load_backbone(named(network), "random", seed).weights_sha256 for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2] and backbone.weights_sha256 not in drawn


def test_a_feature_extractor_takes_a_module():
    from extract.transformer import FeatureExtractor

    network = Net().eval()
    images = np.random.default_rng(0).integers(0, 256, (4, SIDE, SIDE, 3), dtype=np.uint8)
    extractor = FeatureExtractor(network, "avgpool", precision="float32").fit(images)
    assert extractor.transform(images).shape == (4, 16) and extractor.preprocessing_.crop == SIDE


def test_a_module_without_a_classifier_has_a_place_for_one():
    backbone = load_backbone(named(Embedding()))
    assert backbone.headless
    cut = backbone.cut(None)
    assert cut.stages[-1] == "avgpool" and cut.shape(cut.resolve("avgpool")) == (16,)


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A file in the working folder that builds networks."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_nets.py").write_text(
        "import torch\nfrom tests.features.test_own_networks import Net\n"
        "def build(classes=5):\n    torch.manual_seed(3)\n    return Net(classes)\n"
        "ready = build()\nnothing = 3\n"
    )
    yield "my_nets"
    sys.modules.pop("my_nets", None)


def test_a_network_by_its_name(module):
    built, ready = (load_backbone(f"python:{module}:{name}") for name in ("build", "ready"))
    assert built.weights_sha256 == ready.weights_sha256 and built.weights_name == "its own"
    assert "my_nets SHA-256" in built.defined_by(built.cut(None))
    assert built.family.build(built.name, 7).top.out_features == ready.family.build(ready.name, 7).top.out_features == 7
    with pytest.raises(UserError, match="has no absent"):
        load_backbone(f"python:{module}:absent")
    with pytest.raises(UserError, match="nothing"):
        load_backbone(f"python:{module}:nothing")


def test_all_of_a_probe_works_on_a_module_from_python(tmp_path, monkeypatch):
    from classify.experiments.probe import probe

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LAYERPROBE_HOME", str(tmp_path / "home"))
    options = {
        "heads": "ridge",
        "quick": True,
        "controls": False,
        "limit": 200,
        "limit_test": 50,
        "precision": "float32",
    }
    result = probe("digits", backbone=Len(), **options)
    assert {row.layer for row in result.rows} >= {"avgpool", "fc"}
    records = [json.loads(path.read_text()) for path in (tmp_path / "results").glob("*.json")]
    configs = [record["result"]["config"] for record in records if "result" in record]
    assert configs and all(config["backbone"].startswith("module:Len-") for config in configs)
    assert all("graph" in config["architecture"] for config in configs)
