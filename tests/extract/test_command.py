"""`python -m extract` as a user meets it: what it says, and one line and status 2 for every mistake."""

import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import models

from extract.__main__ import main
from features import load_features, versions
from features.commands import speaking
from features.commands.options import run_command

DIGITS = ["--dataset", "digits", "--weights", "random", "--image-size", "32", "--limit", "20", "--limit-test", "10"]


def _fails(capsys, *arguments) -> str:
    """Run, expect status 2 and a single line of complaint, and return it."""
    assert run_command(main, list(arguments)) == 2
    told = capsys.readouterr().err.strip()
    assert told.startswith("error: ")
    assert "\n" not in told
    assert "Traceback" not in told
    return told


def test_cost_is_said_before_and_rate_after_and_a_dry_run_makes_nothing(home, capsys):
    assert run_command(main, [*DIGITS, "--layer", "layer1", "layer2", "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "to extract: train layer2, 20 x 128 numbers, 10.6 kB" in said
    assert "this takes 24 kB of disk and about 1.2 GB of memory" in said
    assert not list((home / "features").glob("*.h5"))
    assert run_command(main, [*DIGITS, "--layer", "layer1", "layer2"]) == 0
    said = capsys.readouterr().out
    assert re.search(r"train: 20 images in [\d.]+ s \([\d,]+ images/s", said)
    assert len(list((home / "features").glob("*.h5"))) == 4


@pytest.mark.parametrize(
    ("there", "made_with"),
    [
        ({}, ""),
        ({"torch": "9.9.0+cpu", "pillow": "99", "layerprobe": "7.1"}, "layerprobe {layerprobe}, torch {torch}"),
        ({"pillow": "99"}, ""),
    ],
)
def test_features_that_other_versions_made_are_used_which_is_said_once(home, capsys, monkeypatch, there, made_with):
    assert run_command(main, [*DIGITS, "--layer", "layer1", "layer2"]) == 0
    assert capsys.readouterr().err == ""
    real = versions.version_of
    here = {package: real(package) for package in ("torch", "layerprobe")}
    monkeypatch.setattr(versions, "version_of", lambda package: there.get(package, real(package)))
    monkeypatch.setattr(speaking, "_told", set())
    for layers in (["layer1", "layer2"], ["layer1", "layer2", "layer3"]):
        assert run_command(main, [*DIGITS, "--layer", *layers]) == 0
    said = capsys.readouterr().err
    line = f"features made with {made_with.format(**here)} are used (layerprobe 7.1, torch 9.9.0"
    assert said.count("\n") == bool(made_with) and said.startswith(line if made_with else "")
    monkeypatch.setattr(speaking, "_told", set())
    load_features("digits", "layer1", weights="random", image_size=32, limit=20, limit_test=10)
    assert capsys.readouterr().err == said


def test_all_takes_every_stage_and_stores_the_pooled_one_once(home, capsys):
    assert run_command(main, [*DIGITS, "--layer", "all"]) == 0
    names = [path.name for path in (home / "features").glob("digits-train-*.h5")]
    layers = ("maxpool", "layer1", "layer2", "layer3", "avgpool", "fc")
    assert sorted(name.split("-")[3] for name in names) == sorted(layers)


def test_list_layers_names_nodes_shapes_and_stages(home, capsys):
    assert run_command(main, ["--weights", "random", "--list-layers"]) == 0
    said = capsys.readouterr().out
    assert re.search(r"layer2\.1\.relu_1 +128 x 28 x 28 +cut +layer2", said)
    assert re.search(r"layer1\.0\.conv1 +64 x 56 x 56$", said, re.MULTILINE)


def test_a_folder_of_images_of_all_kinds_and_sizes(home, tmp_path, capsys):
    random = np.random.default_rng(0)
    for name in ("cats", "dogs"):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for number, size in enumerate([(20, 20), (300, 200), (64, 100), (28, 28), (500, 20), (30, 40)]):
            image = random.integers(0, 256, (*size, 3), np.uint8)
            Image.fromarray(image if number % 2 else image[..., 0]).save(tmp_path / "pets" / name / f"{number}.png")
    arguments = ["--dataset", f"folder:{tmp_path / 'pets'}", "--weights", "random", "--image-size", "32"]
    assert run_command(main, arguments) == 0
    assert len(list((home / "features").glob("*.h5"))) == 2


def test_an_unknown_layer_model_or_data_set_gets_the_nearest_names(home, capsys):
    assert "layer3" in _fails(capsys, *DIGITS, "--layer", "layr3")
    assert "resnet18" in _fails(capsys, "--dataset", "digits", "--backbone", "resnt18")
    assert "mnist" in _fails(capsys, "--dataset", "mnits")


def test_values_that_cannot_be_are_refused(home, capsys):
    assert "--pool" in _fails(capsys, *DIGITS, "--pool", "median")
    assert "--image-size 2" in _fails(capsys, "--dataset", "digits", "--image-size", "2")
    assert "--limit 0" in _fails(capsys, "--dataset", "digits", "--weights", "random", "--limit", "0")
    assert "--device" in _fails(capsys, *DIGITS, "--device", "toaster")
    assert "input" in _fails(capsys, *DIGITS, "--layer", "input")


@pytest.mark.skipif(torch.cuda.is_available(), reason="here there is a GPU")
def test_a_gpu_that_is_not_there(home, capsys):
    assert "--device cpu" in _fails(capsys, *DIGITS, "--device", "cuda")


def test_weights_that_are_damaged_of_another_architecture_or_a_pickle(home, tmp_path, capsys):
    path = tmp_path / "w.pth"
    torch.save(models.resnet18(weights=None).state_dict(), path)
    whole = path.read_bytes()
    other = ["--dataset", "digits", "--backbone", "resnet34", "--weights", str(path)]
    assert "does not hold weights of resnet34" in _fails(capsys, *other)
    path.write_bytes(whole[: len(whole) // 2])
    assert "damaged" in _fails(capsys, "--dataset", "digits", "--weights", str(path))
    torch.save({"a": object()}, path)
    assert "but a pickled builtins.object; save" in _fails(capsys, "--dataset", "digits", "--weights", str(path))
    assert not (home / "features").exists()


def test_fc_features_of_weights_without_fc(home, tmp_path, capsys):
    state = {k: v for k, v in models.resnet18(weights=None).state_dict().items() if not k.startswith("fc.")}
    torch.save(state, tmp_path / "body.pth")
    arguments = ["--dataset", "digits", "--weights", str(tmp_path / "body.pth"), "--layer", "fc"]
    assert "without a classifier" in _fails(capsys, *arguments)


def test_a_disk_too_small_is_known_before_the_start(home, capsys, monkeypatch):
    usage = shutil.disk_usage(home)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    assert "free" in _fails(capsys, *DIGITS)
    assert not list((home / "features").glob("*.h5*"))


def test_an_empty_folder_an_unreadable_image_and_a_class_with_one_image(home, tmp_path, capsys):
    folder = tmp_path / "pictures"
    folder.mkdir()
    arguments = ["--dataset", f"folder:{folder}", "--weights", "random", "--image-size", "32"]
    assert "pictures" in _fails(capsys, *arguments)
    for name in ("a", "b"):
        (folder / name).mkdir()
        for number in range(5 if name == "a" else 1):
            Image.fromarray(np.full((9, 9), 40 * number, np.uint8)).save(folder / name / f"{number}.png")
    assert "one image" in _fails(capsys, *arguments)
    for number in range(1, 5):
        Image.fromarray(np.full((9, 9), number, np.uint8)).save(folder / "b" / f"{number}.png")
    (folder / "a" / "0.png").write_bytes(b"this is no image")
    assert str(folder / "a" / "0.png") in _fails(capsys, *arguments)
    assert not list((home / "features").glob("*.h5"))


def test_an_altered_data_file_is_named(home, tmp_path, capsys, real_mnist):
    copied = tmp_path / "mnist"
    shutil.copytree(real_mnist, copied / "MNIST", symlinks=False)
    images = next((copied / "MNIST" / "raw").glob("train-images*.gz"))
    whole = images.read_bytes()
    images.write_bytes(whole[: len(whole) // 2])
    arguments = ["--dataset", f"mnist:{copied}", "--weights", "random", "--image-size", "32", "--limit", "5"]
    assert "train-images" in _fails(capsys, *arguments)


def test_help_is_quick_and_imports_neither_numpy_nor_torch():
    script = (
        "import sys; from extract.__main__ import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "assert not {'numpy', 'torch', 'sklearn'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "--layer" in done.stdout
