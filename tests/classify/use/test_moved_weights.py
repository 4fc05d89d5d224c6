"""Weights of a saved model that are no longer where they were."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torchvision import models

from classify import load_model
from classify.__main__ import main
from classify.measure.results import load_results
from features.commands.options import run_command
from features.datasets import open_dataset


def test_weights_that_moved_are_found_by_what_is_in_them_and_others_are_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("LAYERPROBE_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    for seed in (0, 1):
        torch.manual_seed(seed)
        torch.save(models.squeezenet1_1().state_dict(), f"weights{seed}.pth")
    data = ["--dataset", "digits", "--image-size", "32", "--limit", "100", "--limit-test", "40"]
    network = ["--backbone", "squeezenet1_1", "--weights", "weights0.pth", "--precision", "float32", "--device", "cpu"]
    assert run_command(main, [*data, *network, "--model", "ridge", "--no-search"]) == 0
    (saved,) = load_results("results")
    assert saved.result.extra["places"] == {"dataset": "digits", "weights": str(Path("weights0.pth").absolute())}
    images = open_dataset("digits").load("test").images[:5]
    before = load_model().predict(images)
    capsys.readouterr()
    Path("weights0.pth").rename("moved.pth")
    Image.fromarray(images[0]).save("one.png")
    for arguments, complaint in (([], "weights0.pth"), (["--weights", "weights1.pth"], "weights1.pth")):
        assert run_command(main, ["predict", "one.png", *arguments]) == 2
        error = capsys.readouterr().err
        assert complaint in error and "--weights" in error and error.count("\n") == 1
    assert np.array_equal(load_model(weights="moved.pth").predict(images), before)
    (tmp_path / "home" / "weights").mkdir()
    Path("weights1.pth").rename("home/weights/weights0.pth")
    Path("moved.pth").rename("home/weights/another name.pth")
    assert np.array_equal(load_model().predict(images), before)
