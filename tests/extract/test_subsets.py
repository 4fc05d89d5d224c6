"""What a pass computes for a layer does not depend on what else is asked for: in every engine, and in the cache."""

import functools
import shutil

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from extract.extraction import extract, missing
from extract.int8_ranges import ranges_on
from extract.planning import plan
from extract.trunk import Output, Trunk, choose_recipe, pooled_trunk, torch_threads
from features import store
from features.backbones import load_backbone
from features.device import exact_levels
from features.key import CacheKey
from features.ranges import keep_ranges
from features.reading import load_features
from features.request import Request
from features.store.catalogue import entries, remove
from tests.hooks import taken_by_hooks

CPU = torch.device("cpu")
VNNI = pytest.mark.skipif(not exact_levels(), reason="oneDNN does not add bytes exactly here")
ENGINES = [
    *(("resnet18", precision) for precision in ("float32", "bfloat16")),
    *(pytest.param(name, "int8", marks=VNNI) for name in ("resnet18", "efficientnet_b0")),
    ("efficientnet_b0", "float32"),
    ("googlenet", "float32"),
    ("convnext_tiny", "float32"),
    *(("swin_t", precision) for precision in ("float32", "bfloat16")),
]


class Network:
    """A network with random weights on 8 images of 64 pixels, and what hooks on it take."""

    def __init__(self, name):
        self.backbone = load_backbone(name, "random")
        self.cut = self.backbone.cut(64)
        self.images = torch.randn(8, 3, 64, 64, generator=torch.Generator().manual_seed(0))
        self.taken, _ = taken_by_hooks(self.backbone.model, self.images)
        self.layers = self.cut.layers

    def precision(self, asked):
        if asked != "int8":
            return asked
        pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 64), dtype=np.uint8)
        return keep_ranges(ranges_on(pixels, self.backbone.name, self.backbone.preprocessing.at(64), self.cut))

    def outputs(self, layers, precision, compiled="off"):
        outputs = [Output(layer, "none") for layer in layers]
        recipe = choose_recipe(self.cut, outputs, images=64, precision=precision, device=CPU, compiled=compiled)
        with torch_threads(recipe.threads):
            return [output.float() for output in Trunk(self.cut, outputs, recipe, CPU)(self.images)]


network = functools.cache(Network)


@pytest.mark.parametrize(("name", "asked"), ENGINES)
def test_a_layer_is_the_same_bit_for_bit_whatever_else_is_asked_for(home, name, asked):
    net = network(name)
    precision = net.precision(asked)
    alone = functools.cache(lambda layer: net.outputs([layer], precision)[0])

    @settings(max_examples=6, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(st.lists(st.sampled_from(net.layers), min_size=2, max_size=8, unique=True))
    def check(layers):
        for layer, output in zip(layers, net.outputs(layers, precision), strict=True):
            assert torch.equal(output, alone(layer)), (layer, layers)

    check()
    # Every layer at once, of which an in-place operation writes over many.
    for layer, output in zip(net.layers, net.outputs(net.layers, precision), strict=True):
        if asked == "float32" and layer in net.taken:
            taken = net.taken[layer].movedim(-1, 1) if net.cut.layout(layer) == "map last" else net.taken[layer]
            assert (output - taken).abs().max() <= 1e-5 * output.abs().max(), layer
        if layer in net.cut.overwritten:
            assert torch.equal(output, alone(layer)), layer


@pytest.mark.skipif(not shutil.which("g++"), reason="compiling needs a C++ compiler")
def test_compiled_they_are_what_hooks_take(home):
    net = network("resnet18")
    layers = ["layer1.0.relu", "bn1", "layer1.0.bn1", "layer1.0.conv1"]
    for layer, output in zip(layers, net.outputs(layers, "float32", "on"), strict=True):
        assert (output - net.taken[layer]).abs().max() <= 1e-5 * output.abs().max(), layer


@pytest.mark.parametrize("name", ["resnet18", "efficientnet_b0", "googlenet", "mobilenet_v3_small", "densenet121"])
def test_nothing_is_computed_twice_for_the_stages(name):
    cut = load_backbone(name, "random").cut(64)
    trunk = pooled_trunk(cut, [Output(cut.resolve(stage), "avg") for stage in cut.stages])
    assert not [name for name, _ in trunk.named_modules() if "again_" in name]


def test_a_cache_that_may_hold_what_was_written_over_is_made_again_and_that_is_said(home):
    request = Request("digits", weights="random", image_size=32, layers=("bn1", "layer1"), limit=20, limit_test=10)
    answer, said = plan(request), []
    bn1, layer1 = (answer.get(layer, "train").key for layer in request.layers)
    assert (bn1.revision, layer1.revision) == (1, 0)
    assert "revision" not in layer1.to_json()
    extract(answer, say=said.append)
    assert said == []
    right, _ = load_features("digits", "bn1", weights="random", image_size=32, limit=20, limit_test=10)
    # As version 0.1.0 kept it: under the key without a revision, after the activation.
    for wanted in (answer.get("bn1", split) for split in answer.splits):
        old = store.find(wanted.key)
        remove(next(entry for entry in entries() if entry.record.key == wanted.key))
        key = CacheKey.from_json({k: v for k, v in wanted.key.to_json().items() if k != "revision"})
        assert key.revision == 0
        file = store.PartialFile.open(
            key, wanted.about, shape=old.shape, dtype=old.dtype, labels=np.arange(old.shape[0]) % 10,
            index=np.arange(old.shape[0]), recipe={},
        )  # fmt: skip
        file.write(0, np.zeros(old.shape, np.float32))
        file.commit(old.shape[0])
        file.publish()
    assert {wanted.layer for wanted in missing(answer)} == {"bn1"}
    extract(answer, say=said.append)
    assert said == ["bn1: version 0.1.0 may have cached what a later in-place operation left there; made again"]
    again, _ = load_features("digits", "bn1", weights="random", image_size=32, limit=20, limit_test=10)
    assert np.array_equal(again, right) and again.min() < 0
