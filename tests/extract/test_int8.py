"""int8: near to float32 within a stated bound, the same for an image in any batch, and known by its ranges."""

import dataclasses
import io
import os
import pickle
import subprocess
import sys
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
import torch
from torch import fx, nn

from extract import FeatureExtractor, extraction
from extract.__main__ import main
from extract.int8_ranges import find_ranges, observed_ranges, ranges_on
from extract.planning import plan
from extract.preprocess import Preprocessor
from extract.quantising import quantise_convolutions
from extract.trunk import Output, Trunk, choose_recipe, pooled_trunk
from features.architectures import build_model
from features.backbones import load_backbone
from features.commands.options import run_command
from features.cut import Cut
from features.datasets import open_dataset
from features.device import exact_levels, resolve_precision
from features.errors import UserError
from features.preprocessing import Preprocessing
from features.ranges import SEVEN_BITS, keep_ranges, ranges_of, weight_levels, with_levels
from features.reading import load_features
from features.request import Request
from features.store.catalogue import entries

CPU = torch.device("cpu")
pytestmark = pytest.mark.skipif(not exact_levels(), reason="oneDNN does not add bytes exactly here")


class Net(nn.Module):
    """A stem, two convolutions of it, and `join` of it and them."""

    def __init__(self, join):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.one, self.two = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 1, bias=False)
        self.last = nn.LazyConv2d(4, 3)
        self.relu, self.relu6, self.silu, self.pool = (
            nn.ReLU(),
            nn.ReLU6(),
            nn.SiLU(),
            nn.MaxPool2d(3, 2, ceil_mode=True),
        )
        self.join = join

    def forward(self, images):
        x = self.relu(self.stem(images))
        outputs = self.join(self, x, self.one(x), self.two(x))
        return (*outputs, self.last(outputs[0]))


JOINS = {
    "apart": lambda m, x, a, b: (m.relu(a), m.relu6(b), b),
    "added": lambda m, x, a, b: (m.relu(a + b),),
    "what both read added, and read again": lambda m, x, a, b: (torch.relu(x + a), m.two(x), x),
    "what is read added, and nobody else": lambda m, x, a, b: (torch.relu(x + a),),
    "added without an activation": lambda m, x, a, b: (a + b,),
    "added, then another activation": lambda m, x, a, b: (m.relu6(a + b),),
    "added to itself": lambda m, x, a, b: (m.relu(a + a), b),
    "taken in the middle": lambda m, x, a, b: (m.relu(a), a, b, a + b),
    "scaled by its mean": lambda m, x, a, b: (m.silu(a) * torch.sigmoid(b.mean((2, 3), keepdim=True)),),
    "pooled": lambda m, x, a, b: (m.pool(m.silu(a)), m.pool(b)),
    "joined": lambda m, x, a, b: (torch.cat([m.relu(a), 3 * b, x], dim=1),),
    "joined as bytes": lambda m, x, a, b: (torch.cat([m.relu(a), m.relu6(b)], 1),),
    "averaged": lambda m, x, a, b: (nn.functional.avg_pool2d(m.relu(a), 2), b),
}


@pytest.mark.parametrize("name", JOINS)
def test_whatever_reads_a_convolution_gets_nearly_the_same(name):
    torch.manual_seed(0)
    network = Net(JOINS[name])
    images = 3 * torch.randn(16, 3, 12, 12)
    network(images)
    network.eval().requires_grad_(False)
    expected = network(images)
    ranges = observed_ranges(fx.symbolic_trace(network), [images])
    quantised = fx.symbolic_trace(network)
    entry, ends = quantise_convolutions(quantised, images.shape, ranges)
    assert not any(isinstance(module, nn.Conv2d) for module in quantised.modules())
    found = quantised(entry.to_pixels(images))
    for place, (mine, theirs) in enumerate(zip(found, expected, strict=True)):
        assert (mine.dtype == torch.uint8) == (place in ends)
        mine = ends[place].to_values(mine) if place in ends else mine
        assert (mine - theirs).abs().max() <= 0.04 * theirs.abs().max(), place
        assert (mine - theirs).norm() <= 0.02 * theirs.norm(), place
    # Whoever reads a map after it was added to gets what it was before.
    again = quantised(entry.to_pixels(images))
    assert all(torch.equal(one, other) for one, other in zip(found, again, strict=True))


def _quantised(backbone, size, images, pool="none"):
    """A cut, all its stages as outputs, and its trunk with ranges found on these images."""
    steps = backbone.preprocessing.at(size)
    cut = Cut(backbone.model, steps.crop)
    outputs = [Output(cut.resolve(stage), pool) for stage in cut.stages]
    precision = keep_ranges(ranges_on(images[:64], backbone.name, steps, cut))
    recipe = choose_recipe(cut, outputs, images=64, precision=precision, device=CPU)
    assert recipe.engine == "quantised"
    return cut, outputs, Trunk(cut, outputs, recipe, CPU), Preprocessor(steps)(images[64:128])


# Of the norm of all pooled features of 64 images; about twice the most that any stage was away when this was written.
BOUNDS = {"resnet18": 0.12, "mobilenet_v2": 0.09, "squeezenet1_1": 0.03, "efficientnet_b0": 0.16}


@pytest.mark.parametrize("name", BOUNDS)
def test_every_stage_is_near_to_float32_and_an_image_is_the_same_in_any_batch(home, request, name):
    weights = str(request.getfixturevalue("standin")) if name == "resnet18" else "random"
    backbone = load_backbone(name, weights)
    images = open_dataset("digits").load("train").images[:128]
    cut, outputs, trunk, ready = _quantised(backbone, 64, images, "avg")
    with torch.no_grad():
        expected = pooled_trunk(cut, outputs)(ready)
    whole = trunk(ready)
    for output, mine, theirs in zip(outputs, whole, expected, strict=True):
        assert (mine - theirs).norm() <= BOUNDS[name] * theirs.norm(), output.node
    maps = [place for place, output in enumerate(outputs) if cut.layout(output.node) == "map"]
    assert len(maps) >= 4
    threads = torch.get_num_threads()
    for count, cores in ((1, 1), (7, 2)):
        torch.set_num_threads(cores)
        some = trunk(ready[:count])
        assert all(torch.equal(some[place], whole[place][:count]) for place in maps), (count, cores)
    torch.set_num_threads(threads)


def test_what_is_asked_for_beside_a_layer_does_not_change_it(home):
    backbone = load_backbone("resnet18", "random")
    images = open_dataset("digits").load("train").images[:128]
    cut, _, _, ready = _quantised(backbone, 32, images)
    precision = keep_ranges(ranges_on(images[:64], "resnet18", backbone.preprocessing.at(32), cut))

    def layer2(*others):
        outputs = [Output(cut.resolve(name), "none") for name in ("layer2", *others)]
        recipe = choose_recipe(cut, outputs, images=64, precision=precision, device=CPU)
        return Trunk(cut, outputs, recipe, CPU)(ready)

    alone = layer2()[0]
    assert torch.equal(layer2("layer3", "layer4", "fc")[0], alone)
    # A sum that is taken apart is computed in float32, and rounds otherwise now and then.
    apart, middle = layer2("layer2.1.bn2")
    assert (apart - alone).abs().max() <= 0.05 * alone.abs().max()
    assert not torch.equal(middle, alone)


@pytest.mark.parametrize("colour", [False, True])
def test_pixels_are_looked_up_as_they_would_be_computed(home, colour):
    steps = Preprocessing((0.4, 0.5, 0.6), (0.2, 0.25, 0.3), resize=24, crop=20, interpolation="bilinear")
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (5, 30, 28, *([3] if colour else [])), np.uint8)
    backbone = build_model("resnet18").eval()
    cut = Cut(backbone, 32)
    precision = keep_ranges(ranges_on(images, "resnet18", steps, cut))
    outputs = [Output(cut.resolve("layer1"), "avg")]
    trunk = Trunk(cut, outputs, choose_recipe(cut, outputs, images=8, precision=precision, device=CPU), CPU)
    levels, prepare = trunk.levels, Preprocessor(steps)
    pixels = prepare.network_input(prepare.resized(images), torch.uint8, levels=levels)
    assert torch.equal(pixels, levels.to_pixels(prepare(images)))
    assert torch.equal(trunk(pixels)[0], trunk(prepare(images))[0])


def _digits(**changes):
    fields = {"dataset": "digits", "weights": "random", "image_size": 32, "precision": "int8", "layers": ("layer1",)}
    return Request(**{**fields, "device": "cpu", **changes})


def _key(request, split="train"):
    return plan(request).get(request.layers[0], split).key


def _npz(path, train, test):
    labels = np.arange(len(train)) % 10
    np.savez(path, x_train=train, y_train=labels, x_test=test, y_test=labels[: len(test)])
    return f"npz:{path}"


def test_ranges_stand_in_the_key_and_come_from_training_rows_alone(home, tmp_path):
    data = open_dataset("digits").load("train").images
    train, test = data[:300], data[300:330]
    one = _key(_digits(dataset=_npz(tmp_path / "one.npz", train, test)))
    other_test = _key(_digits(dataset=_npz(tmp_path / "two.npz", train, 255 - test)))
    other_train = _key(_digits(dataset=_npz(tmp_path / "three.npz", 255 - train, test)))
    assert one.precision.startswith("int8:") and ranges_of(one.precision)["x"][0] < 0
    assert set(one.differences(other_test)) == {"dataset"}
    assert {"dataset", "precision"} <= set(one.differences(other_train))
    exact = _key(_digits(dataset=f"npz:{tmp_path / 'one.npz'}", precision="float32"))
    assert set(one.differences(exact)) == {"precision"}


def test_a_limited_run_a_layer_and_the_test_split_share_the_ranges(home, monkeypatch):
    whole = _key(_digits())
    monkeypatch.setattr("extract.int8_ranges.find_ranges", lambda *material: pytest.fail("found again"))
    assert _key(_digits(limit=20, limit_test=5)).precision == whole.precision
    assert _key(_digits(layers=("layer3",)), "test").precision == whole.precision


def test_who_computes_nothing_finds_no_ranges(home):
    with pytest.raises(UserError, match="ranges have not been found yet .* `python -m extract --precision int8`"):
        load_features("digits", "layer1", weights="random", image_size=32, precision="int8", device="cpu")


def test_ranges_lost_are_found_again_the_same(home):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    before = _key(_digits())
    (kept,) = (home / "ranges").iterdir()
    content = kept.read_text()
    kept.write_text(content.replace("0.0", "-0.5", 1))
    torch.set_num_threads(2)
    assert ranges_of(before.precision) is None
    assert _key(_digits()) == before
    torch.set_num_threads(threads)
    assert kept.read_text() == content


def test_interrupted_and_carried_on_the_bytes_are_those_of_an_unbroken_run(home, monkeypatch):
    request = _digits(layers=("layer1", "layer2"), limit=1100, limit_test=20)

    def files():
        return {path.name: path.read_bytes() for path in (home / "features").glob("*.h5")}

    extraction.extract(plan(request), say=lambda line: None)
    expected = files()
    assert len(expected) == 4
    for path in (home / "features").glob("*.h5"):
        path.unlink()
    monkeypatch.setattr("extract.one_pass._SECONDS_BETWEEN_COMMITS", 0.0)

    def stop(name, done, total):
        if done > 512:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        extraction.extract(plan(request), progress=stop, say=lambda line: None)
    assert "partial" in [entry.state for entry in entries()] and not files()
    (first, _) = extraction.extract(plan(request), say=lambda line: None)
    assert 0 < first.images < 1100
    assert files() == expected


def test_a_second_run_imports_no_torch(home):
    command = ["--dataset", "digits", "--weights", "random", "--image-size", "32", "--layer", "layer1"]
    command += ["--precision", "int8", "--device", "cpu", "--limit", "20", "--limit-test", "10"]
    assert run_command(main, command) == 0
    script = (
        "import sys; from features.commands.options import run_command; from extract.__main__ import main; "
        f"assert run_command(main, {command!r}) == 0; assert 'torch' not in sys.modules"
    )
    environment = {**os.environ, "LAYERPROBE_HOME": str(home)}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("in the cache") == 2


def test_where_it_cannot_be_computed_the_way_out_is_said(home, tmp_path, monkeypatch):
    with pytest.raises(
        UserError, match="of the 59 layers of convnext_tiny .* 22 can be .* take --precision bfloat16 or"
    ):
        plan(_digits(backbone="convnext_tiny"))
    with pytest.raises(UserError, match="on a processor alone, .* on cuda; add --device cpu"):
        resolve_precision("int8", torch.device("cuda"))
    assert run_command(main, ["--dataset", "digits", "--weights", "random", "--precision", "int4"]) == 2
    answer = plan(_digits(limit=10, limit_test=10))
    with pytest.raises(UserError, match="--compile on: what is computed in int8"):
        extraction.extract(answer, compiled="on", say=lambda line: None)
    with pytest.raises(UserError, match=r"the ranges of int8:0{16} are not saved here"):
        plan(_digits(precision=f"int8:{'0' * 16}"))
    with pytest.raises(UserError, match="fixed on training images, and the data set 'mine' has none"):
        find_ranges(SimpleNamespace(spec="mine", splits=("test",)), None, None, None)
    monkeypatch.setattr(torch.cpu, "_is_vnni_supported", lambda: False)
    eight = keep_ranges({"x": (-1.0, 2.0)})
    with pytest.raises(UserError, match="weights of eight bits, which need a processor with VNNI"):
        resolve_precision(eight, CPU)
    seven = keep_ranges(with_levels({"x": (-1.0, 2.0)}, SEVEN_BITS))
    assert seven != eight and resolve_precision(seven, CPU) == seven
    monkeypatch.setattr("features.device._adds_the_largest", lambda levels: False)
    with pytest.raises(UserError, match="a processor whose sums of bytes are exact, .* take another --precision"):
        resolve_precision("int8", CPU)
    assert resolve_precision("auto", CPU) in ("float32", "bfloat16")


def test_without_vnni_weights_have_seven_bits_and_give_the_same_anywhere(home, monkeypatch):
    """Under $ONEDNN_MAX_CPU_ISA, of which torch knows nothing, eight bits come out wrong by half."""
    program = (
        "import sys; from features.commands.options import run_command; from extract.__main__ import main; "
        "sys.exit(run_command(main, sys.argv[1:]))"
    )
    options = ["--dataset", "digits", "--weights", "random", "--image-size", "32", "--layer", "layer1", "layer4"]
    options += ["--device", "cpu", "--limit", "60", "--limit-test", "40", "--precision"]
    without = {**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2"}
    subprocess.run([sys.executable, "-c", program, *options, "int8"], env=without, check=True)
    made = {path.name: path.read_bytes() for path in (home / "features").glob("*.h5")}
    (kept,) = (home / "ranges").iterdir()
    precision = f"int8:{kept.stem}"
    assert len(made) == 4 and weight_levels(ranges_of(precision)) == SEVEN_BITS
    for name in made:
        (home / "features" / name).unlink()
    request = _digits(layers=("layer1", "layer4"), limit=60, limit_test=40)
    extraction.extract(plan(dataclasses.replace(request, precision=precision)), say=lambda line: None)
    for path in (home / "features").glob("*.h5"):
        with h5py.File(path) as again, h5py.File(io.BytesIO(made[path.name])) as first:
            values, others = again["features"][:], first["features"][:]
            # A value between two levels may be rounded to either, by the order in which oneDNN multiplies and adds.
            assert np.mean(values != others) < 0.03
            assert np.abs(values - others).max() < 0.05 * np.abs(values).max()
    monkeypatch.setattr(torch.cpu, "_is_vnni_supported", lambda: False)
    assert _key(request).precision == precision


def test_a_set_for_weights_of_other_levels_is_none():
    for levels in (1, 62, 128):
        with pytest.raises(ValueError, match=f"weights of {levels} levels"):
            keep_ranges(with_levels({"x": (-1.0, 2.0)}, levels))


def test_a_transformer_finds_its_ranges_when_it_is_fitted(home):
    images = open_dataset("digits").load("train").images[:100]
    options = {"weights": "random", "image_size": 32, "device": "cpu"}
    exact = FeatureExtractor(layer="layer2", precision="float32", **options).fit_transform(images)
    fitted = FeatureExtractor(layer="layer2", precision="int8", **options).fit(images)
    found = fitted.transform(images)
    assert np.linalg.norm(found - exact) < 0.05 * np.linalg.norm(exact)
    # Other images are computed with the ranges of fit, in another process too.
    assert np.array_equal(pickle.loads(pickle.dumps(fitted)).transform(255 - images), fitted.transform(255 - images))
    assert not np.array_equal(found, exact)
