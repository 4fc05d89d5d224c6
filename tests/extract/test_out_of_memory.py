"""Memory that runs out, as a GPU's does: batches are halved, which changes no feature by more than rounding."""

import numpy as np
import pytest
import torch

from classify.__main__ import main
from classify.measure.results import load_results
from classify.use.saved import load_model
from extract import FeatureExtractor
from extract.__main__ import main as extract
from extract.trunk import Trunk
from features import load_features
from features.commands.options import run_command
from features.datasets import open_dataset

ASKED = {"layer": "layer2", "weights": "random", "image_size": 32, "precision": "float32", "device": "cpu"}
WORDS = ["--dataset", "digits", "--limit", "100", "--limit-test", "40", "--compile", "off"]
for _name, _value in ASKED.items():
    WORDS += [f"--{_name.replace('_', '-')}", str(_value)]


@pytest.fixture
def memory_for(monkeypatch):
    """A function that has every batch of more images than it is told run out of memory, and tells of all batches."""
    run, batches = Trunk.__call__, []

    def limit(images: int) -> list[int]:
        def call(trunk, batch):
            batches.append(len(batch))
            if len(batch) > images:
                raise torch.OutOfMemoryError("there is no more")
            return run(trunk, batch)

        monkeypatch.setattr(Trunk, "__call__", call)
        return batches

    return limit


def test_extraction_goes_on_with_half_the_batch_and_says_so(home, tmp_path, memory_for, monkeypatch, capsys):
    asked = {**ASKED, "limit": 100, "limit_test": 40}
    assert run_command(extract, [*WORDS, "--layer", "layer1", "layer2"]) == 0
    usual = [load_features("digits", split=split, **asked)[0] for split in ("train", "test")]
    monkeypatch.setenv("LAYERPROBE_HOME", str(tmp_path / "another"))
    capsys.readouterr()
    batches = memory_for(5)
    assert run_command(extract, [*WORDS, "--layer", "layer1", "layer2"]) == 0
    said = capsys.readouterr().out
    tried = sorted({batch for batch in batches if batch > 5}, reverse=True)
    assert tried and tried[-1] // 2 <= 5
    # The other split begins with what was found.
    assert said.count("does not fit into the memory of cpu") == len(tried)
    halved = [load_features("digits", split=split, **asked)[0] for split in ("train", "test")]
    for before, after in zip(usual, halved, strict=True):
        assert np.allclose(before, after, rtol=1e-4, atol=1e-5)


def test_where_not_even_one_image_fits_a_line_says_so(home, memory_for, capsys):
    memory_for(0)
    assert run_command(extract, WORDS) == 2
    assert "not even one image fits into the memory of cpu; take a smaller --image-size" in capsys.readouterr().err


def test_a_saved_model_and_the_extractor_answer_in_halves(home, tmp_path, memory_for, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run_command(main, [*WORDS[:-2], "--model", "ridge", "--no-search"]) == 0
    (saved,) = load_results("results")
    images = open_dataset("digits").load("test").images[:30]
    usual = load_model(saved.path, device="cpu").predict_proba(images)
    extractor = FeatureExtractor(**ASKED).fit(images)
    features = extractor.transform(images)
    batches = memory_for(6)
    assert np.allclose(load_model(saved.path, device="cpu").predict_proba(images), usual, atol=1e-5)
    assert np.allclose(extractor.transform(images), features, rtol=1e-4, atol=1e-5)
    assert max(batches) > 6 >= min(batches)
