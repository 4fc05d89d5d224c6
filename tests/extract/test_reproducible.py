"""The same command gives the same bytes and predictions; other ways to compute give the same numbers to rounding."""

import shutil

import numpy as np
import pytest
import torch

import classify.__main__ as classify
from classify.measure.results import load_results
from extract.extraction import extract
from features import store
from features.commands.options import run_command
from features.request import Request, plan

STAGES = ("maxpool", "layer1", "layer2", "layer3", "layer4", "avgpool", "fc")
# Largest difference that another batch size, number of threads or engine may make, of the largest feature.
TOLERANCE = {"float32": 1e-5, "bfloat16": 2e-2}
ROWS = 8


def test_the_same_command_with_the_same_seed_gives_the_same_bytes_and_predictions(
    real_mnist, standin, home, tmp_path, monkeypatch
):
    command = ["--weights", str(standin), "--image-size", "64", "--limit", "150", "--limit-test", "60", "--seed", "3"]
    command += ["--layer", "layer3", "--model", "linear", "logistic", "knn", "--no-search"]
    told = []
    for number in range(2):
        monkeypatch.setenv("LAYERPROBE_HOME", str(_another_home(home, tmp_path / f"home-{number}")))
        results = tmp_path / f"results-{number}"
        assert run_command(classify.main, [*command, "--results", str(results)]) == 0
        made = {path.name: path.read_bytes() for path in (tmp_path / f"home-{number}" / "features").glob("*.h5")}
        rows = {saved.path.name: vars(saved.predictions()) for saved in load_results(results)}
        told.append((made, rows))
        for saved in load_results(results):
            assert {"layerprobe", "python", "torch", "scikit-learn", "processor"} <= set(saved.result.environment)
    (first, rows), (second, others) = told
    assert len(first) == 2 and first == second
    assert len(rows) == 3 and rows.keys() == others.keys()
    for name, arrays in rows.items():
        for kind, values in arrays.items():
            np.testing.assert_array_equal(values, others[name][kind], err_msg=f"{name}: {kind}")


def _another_home(home, folder):
    """An empty home with the same data sets and weights."""
    folder.mkdir()
    for kind in ("datasets", "weights"):
        (folder / kind).symlink_to(home / kind)
    return folder


def _first_rows(standin, home, layers, precision, *, images=ROWS, compiled="off", jobs=1):
    """Features of the first images of MNIST, by layer and row, computed `images` at a time; and the recipe."""
    shutil.rmtree(home / "features", ignore_errors=True)
    request = Request(
        weights=str(standin), image_size=64, layers=layers, precision=precision, limit=images, limit_test=1
    )
    answer = plan(request)
    extract(answer, compiled=compiled, jobs=jobs, say=lambda line: None)
    found = {}
    for layer in answer.layers:
        cached = store.find(answer.get(layer, "train").key)
        found[layer] = {int(row): values for row, values in zip(cached.index(), cached.features(), strict=True)}
    return found, cached.recipe


@pytest.fixture
def threads():
    """Leaves torch with as many threads as it found it with."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_several_cores_give_the_bytes_of_one(real_mnist, standin, home, threads, precision):
    alone, recipe = _first_rows(standin, home, STAGES, precision, images=33, jobs=1)
    beside, same = _first_rows(standin, home, STAGES, precision, images=33, jobs=3)
    assert same == recipe and recipe["batch"] < 33 / 3
    for layer, rows in alone.items():
        assert all(np.array_equal(values, beside[layer][row]) for row, values in rows.items()), layer


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    ("way", "layers"),
    [
        ({"images": 200}, STAGES),
        pytest.param(
            {"compiled": "on"},
            ("layer1",),
            marks=pytest.mark.skipif(not shutil.which("g++"), reason="needs a compiler, g++"),
        ),
    ],
    ids=["another batch", "compiled"],
)
def test_another_way_to_compute_gives_the_same_to_rounding(real_mnist, standin, home, threads, precision, way, layers):
    expected, recipe = _first_rows(standin, home, layers, precision)
    found, other = _first_rows(standin, home, layers, precision, **way)
    assert other != recipe
    for layer, rows in expected.items():
        assert set(rows) <= set(found[layer]) and len(rows) == ROWS
        largest = max(np.abs(values).max() for values in rows.values())
        away = max(np.abs(values - found[layer][row]).max() for row, values in rows.items())
        assert away <= TOLERANCE[precision] * largest, f"{layer}: {away / largest:.1e} of the largest"
