"""The short form of `python -m tests.classifiers`: small networks, each of a family with ways of its own."""

import importlib.util
from pathlib import Path

import pytest
import torch

from features.architectures import outline
from features.matching import match_weights
from features.weights import Table
from tests.classifiers.checks import COLUMNS, row
from tests.classifiers.networks import SHORT, networks
from tests.classifiers.others import SHORT_OTHERS, Other

ONNX = all(importlib.util.find_spec(name) for name in ("onnx", "onnxscript", "onnxruntime"))


@pytest.mark.parametrize("name", SHORT)
def test_a_classifier_of_torchvisions_does_all_that_a_backbone_promises(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LAYERPROBE_HOME", str(tmp_path / "home"))
    (network,) = (network for network in networks() if str(network) == name)
    # torch's exporter takes most of a row's time: one network stands for it here.
    columns = [column for column in COLUMNS if column != "logistic"]
    columns = [column for column in columns if column != "onnx" or (ONNX and name == SHORT[0])]
    made = {}
    row(network, columns, tmp_path, made.update)
    assert {column: made[column].partition(" (")[0] for column in columns} == dict.fromkeys(columns, "ok")


@pytest.mark.parametrize("name", SHORT_OTHERS)
def test_networks_of_other_families_do_so_too(name, tmp_path, monkeypatch):
    if name == "hf:dinov3" and tuple(map(int, torch.__version__.split(".")[:2])) < (2, 14):
        pytest.skip("arange takes no traced device in torch 2.8")
    if (package := {"hf": "transformers"}.get(family := name.partition(":")[0], family)) != "python":
        pytest.importorskip(package)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LAYERPROBE_HOME", str(tmp_path / "home"))
    # Of these it is one's own network that counts its images in a way which an exporter makes a constant of.
    columns, made = [column for column in COLUMNS if column != "onnx" or (ONNX and family == "python")], {}
    row(Other(name), columns, tmp_path, made.update)
    assert {column: made.get(column, "").partition(" (")[0] for column in columns} == dict.fromkeys(columns, "ok")


def test_every_classifier_has_its_row_once():
    from torchvision import models

    names = [str(network) for network in networks()]
    assert len(set(names)) == len(names)
    assert {name.partition(":")[0] for name in names} == set(models.list_models(module=models))
    assert {"vit_h_14", "vit_h_14:IMAGENET1K_SWAG_LINEAR_V1", "vit_b_16:IMAGENET1K_SWAG_E2E_V1"} <= set(names)


def test_the_names_and_shapes_of_every_classifiers_file_are_recognised():
    for network in networks():
        size = network.entry.meta["min_size"][0] if network.name.startswith("vit_") else 224
        options = {} if size == 224 else {"image_size": size}
        tensors = outline(network.name, 7, **options).state_dict()
        table = Table(("state_dict",), {f"model.{name}": tensor for name, tensor in tensors.items()}, {})
        match, others = match_weights(network.name, [table], Path("any.ckpt"))
        assert (match.prefix, match.classes, match.headless, others) == ("model.", 7, False, ()), str(network)
        assert match.options == options, str(network)
        assert list(match.tensors) == list(tensors), str(network)
