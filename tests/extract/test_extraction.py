"""Stage 1 as a whole: the numbers, resume, what is skipped, and that nothing of the network moves."""

import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from extract.extraction import extract
from features import store
from features.backbones import load_backbone
from features.datasets import open_dataset
from features.errors import UserError
from features.first_use import accept
from features.reading import find_cached, load_features, missing
from features.request import Request, plan, selected_rows
from features.store.catalogue import entries
from features.weights import state_sha256

STAGES = ("maxpool", "layer1", "layer2", "layer3", "layer4", "avgpool", "fc")


def _request(standin, **changes):
    fields = {"weights": str(standin), "image_size": 64, "limit": 60, "limit_test": 20, "precision": "float32"}
    return Request(**{**fields, **changes})


def _features(request, layer, split="train", **options):
    extract(plan(request), say=lambda line: None)
    return load_features(
        "mnist", layer, split, weights=request.weights, image_size=request.image_size, precision=request.precision,
        limit=request.limit, limit_test=request.limit_test, **options,
    )  # fmt: skip


def _by_hand(standin, request, split="train"):
    """A plain forward pass in eager float32, written out: resize as torchvision does, normalise, stage by stage."""
    from torchvision.transforms import functional

    dataset = open_dataset("mnist").load(split)
    rows = selected_rows(dataset.labels, request, split)
    images = torch.from_numpy(dataset.images[rows])[:, None]
    size = [request.image_size] * 2
    images = functional.resize(images, size, functional.InterpolationMode.BILINEAR, antialias=True)
    images = functional.normalize(images.expand(-1, 3, -1, -1) / 255, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    model = load_backbone("resnet18", str(standin)).model
    outputs = {}
    with torch.inference_mode():
        x = outputs["maxpool"] = model.maxpool(model.relu(model.bn1(model.conv1(images))))
        for stage in ("layer1", "layer2", "layer3", "layer4"):
            x = outputs[stage] = getattr(model, stage)(x)
        outputs["avgpool"] = model.avgpool(x).flatten(1)
        outputs["fc"] = model.fc(outputs["avgpool"])
    return {name: (value.mean((2, 3)) if value.ndim == 4 else value).numpy() for name, value in outputs.items()}


@pytest.mark.parametrize("count", [1, 7, 256])
def test_every_stage_equals_a_hand_written_forward_pass(real_mnist, standin, count):
    request = _request(standin, layers=("all",), limit=count, limit_test=1)
    wanted = _by_hand(standin, request)
    for stage in STAGES:
        features, _ = _features(request, stage)
        assert np.abs(features - wanted[stage]).max() <= 1e-5 * np.abs(wanted[stage]).max(), stage


def test_bfloat16_is_within_two_hundredths(real_mnist, standin):
    request = _request(standin, layers=("all",), precision="bfloat16")
    wanted = _by_hand(standin, request)
    for stage in STAGES:
        features, _ = _features(request, stage)
        error = np.linalg.norm(features - wanted[stage]) / np.linalg.norm(wanted[stage])
        assert error < 2e-2, stage


def test_unpooled_maps_and_grids_of_one_pass_agree_with_the_pooled_ones(real_mnist, standin):
    request = _request(standin, layers=("layer2",), pools=("avg", "max", "grid:2", "none"))
    extract(plan(request), say=lambda line: None)
    read = {pool: _features(request, "layer2", pool=pool)[0] for pool in request.pools}
    assert read["none"].shape == (60, 128, 8, 8)
    assert np.allclose(read["none"].mean((2, 3)), read["avg"], atol=1e-6)
    assert np.array_equal(read["none"].max((2, 3)), read["max"])
    assert np.allclose(read["grid:2"].reshape(60, 128, 4).mean(2), read["avg"], atol=1e-6)


def test_layers_joined_stand_side_by_side(real_mnist, standin):
    request = _request(standin, layers=("layer1+layer3", "layer1", "layer3"))
    joined, labels = _features(request, "layer1+layer3")
    assert joined.shape == (60, 64 + 256)
    assert np.array_equal(joined[:, :64], _features(request, "layer1")[0])
    assert np.array_equal(joined[:, 64:], _features(request, "layer3")[0])
    assert len(labels) == 60


def test_a_pass_leaves_the_network_as_it_was_and_labels_follow_their_images(real_mnist, standin):
    request = _request(standin, layers=("fc",))
    before = load_backbone("resnet18", str(standin)).weights_sha256
    extract(plan(request), say=lambda line: None)
    cached = find_cached(plan(request).get("fc", "train"), request)
    data = open_dataset("mnist").load("train")
    assert np.array_equal(cached.labels(), data.labels[cached.index()])
    assert np.array_equal(cached.index(), selected_rows(data.labels, request, "train"))
    assert state_sha256(load_backbone("resnet18", str(standin)).model) == before


def test_what_is_complete_is_not_made_again_and_a_new_layer_touches_no_file(real_mnist, standin, home):
    request = _request(standin, layers=("layer1", "layer3"))
    done = extract(plan(request), say=lambda line: None)
    assert [one.images for one in done] == [60, 20]
    assert extract(plan(request), say=lambda line: None) == []
    before = {path: path.stat().st_mtime_ns for path in (home / "features").glob("*.h5")}
    wider = _request(standin, layers=("layer1", "layer2", "layer3"))
    assert {wanted.layer for wanted in missing(plan(wider))} == {"layer2"}
    extract(plan(wider), say=lambda line: None)
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())


def test_another_layer_weights_size_or_precision_never_answers(real_mnist, standin):
    request = _request(standin, layers=("layer1",))
    extract(plan(request), say=lambda line: None)
    options = {"weights": str(standin), "image_size": 64, "precision": "float32", "limit": 60, "limit_test": 20}
    load_features("mnist", "layer1", **options)
    for change, told in (
        ({"layer": "layer2"}, "layer 'layer1.1.relu_1' instead of 'layer2.1.relu_1'"),
        ({"weights": "random"}, "weights"),
        ({"image_size": 32}, "image_size 64 instead of 32"),
        ({"precision": "bfloat16"}, "precision 'float32' instead of 'bfloat16'"),
        ({"pool": "max"}, "pool 'avg' instead of 'max'"),
        ({"limit": 50}, "rows"),
        ({"dtype": "float16"}, "dtype 'float32' instead of 'float16'"),
    ):
        with pytest.raises(UserError) as caught:
            load_features(**{"dataset": "mnist", "layer": "layer1", **options, **change})
        assert told in str(caught.value)
        assert "python -m extract" in str(caught.value)


def test_the_file_of_all_rows_serves_any_subset(home):
    whole = Request(dataset="digits", weights="random", image_size=32, layers=("layer1",), precision="float32")
    extract(plan(whole), say=lambda line: None)
    some = Request(
        dataset="digits", weights="random", image_size=32, layers=("layer1",), precision="float32", limit=100
    )
    assert missing(plan(some)) == []
    features, labels = load_features(
        "digits", "layer1", weights="random", image_size=32, precision="float32", limit=100
    )
    everything, all_labels = load_features("digits", "layer1", weights="random", image_size=32, precision="float32")
    rows = selected_rows(all_labels, some, "train")
    assert len(features) == 100
    assert np.array_equal(features, everything[rows])
    assert np.array_equal(labels, all_labels[rows])


def test_changed_weights_under_the_same_name_are_other_weights(home, tmp_path):
    from torchvision import models

    path = tmp_path / "mine.pth"
    request = Request(dataset="digits", weights=str(path), image_size=32, layers=("layer1",), limit=10, limit_test=10)
    keys = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        torch.save(models.resnet18(weights=None).state_dict(), path)
        if keys:
            with pytest.raises(UserError, match="not what it was when it was first used"):
                plan(request)
            accept(str(path))
        keys.append(plan(request).get("layer1", "train").key)
    assert set(keys[0].differences(keys[1])) == {"weights"}


COMMAND = [sys.executable, "-m", "extract", "--dataset", "digits", "--weights", "random", "--image-size", "32"]
COMMAND += ["--layer", "layer1", "layer2", "--precision", "float32", "--compile", "off"]


def _run(home, *more):
    environment = {**os.environ, "LAYERPROBE_HOME": str(home), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([*COMMAND, *more], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def _cache(home):
    return {path.name: path.read_bytes() for path in (home / "features").glob("*") if path.suffix != ".json"}


def test_killed_at_random_moments_and_resumed_the_files_are_those_of_an_unbroken_run(home, tmp_path, monkeypatch):
    kills = int(os.environ.get("LAYERPROBE_TEST_KILLS", "3"))
    unbroken = tmp_path / "unbroken"
    assert _run(unbroken).wait() == 0
    wanted = _cache(unbroken)
    assert len(wanted) == 4
    random = np.random.default_rng(kills)
    broken, survived = tmp_path / "broken", 0
    while survived < kills:
        child = _run(broken)
        # Wait until the pass has begun, so that the kill falls into the writing.
        while child.poll() is None and not list((broken / "features").glob("*.partial")):
            time.sleep(0.005)
        time.sleep(random.uniform(0, 2.5))
        if child.poll() is None:
            child.send_signal(signal.SIGKILL)
            survived += 1
        child.wait()
        if child.returncode == 0:
            assert _cache(broken) == wanted
            shutil.rmtree(broken)
    assert _run(broken).wait() == 0
    assert _cache(broken) == wanted


def test_killed_when_only_one_of_a_splits_files_is_laid_out_the_bytes_are_those_of_an_unbroken_run(
    home, tmp_path, monkeypatch
):
    request = Request(
        dataset="digits", weights="random", image_size=32, layers=("maxpool", "layer1"), limit=30, limit_test=12
    )

    def files():
        return {path.name: path.read_bytes() for path in (home / "features").glob("*.h5")}

    extract(plan(request), compiled="off", say=lambda line: None)
    expected = files()
    shutil.rmtree(home / "features")
    calls, whole = [], store.PartialFile.open

    def stop(*arguments, **options):
        calls.append(arguments)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return whole(*arguments, **options)

    # The training rows are complete, and so the second pass has fewer images to choose its batch for.
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(store.PartialFile, "open", stop)
        extract(plan(request), compiled="off", say=lambda line: None)
    assert len(files()) == 2 and [entry.state for entry in entries()].count("partial") == 1
    extract(plan(request), compiled="off", say=lambda line: None)
    assert files() == expected


def test_a_second_run_imports_no_torch_and_ends_in_three_seconds(home):
    assert _run(home, "--limit", "20", "--limit-test", "10").wait() == 0
    script = (
        "import sys, time; started = time.time(); from features.commands.options import run_command; "
        f"from extract.__main__ import main; assert run_command(main, {COMMAND[3:]!r} + "
        "['--limit', '20', '--limit-test', '10']) == 0; assert 'torch' not in sys.modules, 'torch was imported'; "
        "assert time.time() - started < 3"
    )
    environment = {**os.environ, "LAYERPROBE_HOME": str(home)}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("in the cache") == 4
