"""What version 0.1.0 left on people's disks is of use: its records are made again to the last prediction, its cache and
results are read by every verb, its heads predict what they predicted.

The folder was made by 0.1.0's own code, in float32 on one core, from scikit-learn's digits and random weights. Its
networks train little, and so that no rounding of another processor changes a prediction.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from classify.__main__ import main
from classify.measure.results import load_results, open_result
from classify.use.saved import load_model
from extract.__main__ import main as extract
from features.commands.cache import main as features
from features.commands.options import run_command
from features.datasets import open_dataset

MADE = Path(__file__).with_name("made_by_0_1_0")
RECORDS = sorted(path.name for path in (MADE / "results").glob("digits-*.json"))
ROWS = ["--dataset", "digits", "--weights", "random", "--image-size", "32", "--limit", "150", "--limit-test", "80"]
ROWS += ["--precision", "float32", "--device", "cpu", "--jobs", "1"]
NETWORKS = ["--epochs", "2", "--batch-size", "32", "--train-precision", "float32", "--forget-networks"]
SVM, AXES = "digits-resnet18-layer1-svm-3b5ce94ba6", "digits-resnet18-layer1+layer2-ridge-d89baa2402"


@pytest.fixture
def made(tmp_path, monkeypatch) -> Path:
    """A copy of the home and the working folder, which is the current one."""
    shutil.copytree(MADE, tmp_path / "made")
    monkeypatch.setenv("LAYERPROBE_HOME", str(tmp_path / "made" / "home"))
    monkeypatch.chdir(tmp_path / "made")
    return tmp_path / "made"


def _contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.mark.timeout(600)
def test_every_record_is_made_again_to_the_last_prediction(made, capsys):
    assert len(RECORDS) > 25
    heads = {open_result(made / "results" / name).result.config.head for name in RECORDS}
    assert heads >= {"svm", "logistic", "linear", "ridge", "lda", "knn", "head2toe", "centroid"}
    assert heads >= {"convnet", "finetune", "scratch", "untouched"}
    assert run_command(main, ["repeat", *(f"results/{name}" for name in RECORDS)]) == 0
    assert capsys.readouterr().out.count("the same: all ") == len(RECORDS)


def test_its_cache_is_read_and_nothing_is_extracted_again(made, capsys):
    before = _contents(made / "home" / "features")
    assert run_command(features, ["verify"]) == 0
    assert run_command(extract, [*ROWS, "--layer", "layer1", "layer2"]) == 0
    said = capsys.readouterr().out
    assert said.count("in the cache: ") == 4
    assert "to extract" not in said
    assert run_command(features, ["accept", "digits"]) == 2
    assert "nothing was refused" in capsys.readouterr().err
    after = _contents(made / "home" / "features")
    assert {name: content for name, content in after.items() if name in before} == before


def test_its_rows_are_known_to_every_verb_that_makes_rows(made, capsys):
    before = _contents(made / "results")
    # It chose on a part held out, and calibrated nothing; both can still be asked for.
    held_out = ["--validate", "holdout", "--no-calibrate"]
    commands = [
        [*ROWS, *held_out, "--model", "svm", "logistic", "linear", "ridge", "lda", "knn", "--layer", "layer1"],
        [*ROWS, *held_out, "--model", "ridge", "--layer", "layer1+layer2", "--pca", "20"],
        ["probe", *ROWS, *held_out, "--model", "ridge", "--layer", "layer1", "layer2", "--head2toe", "--no-widths",
         "--no-scores"],
        ["compare", *ROWS, *NETWORKS, "--models", "convnet", "finetune:fc", "finetune:layer4", "untouched",
         "ridge@layer1", "--no-search", "--no-calibrate"],
        ["study", "data-size", *ROWS, "--models", "centroid@layer1", "finetune:fc", "--per-class", "2", "--steps", "3",
         "--batch-size", "10", "--train-precision", "float32"],
    ]  # fmt: skip
    for command in commands:
        assert run_command(main, command) == 0, capsys.readouterr().err
    after = _contents(made / "results")
    changed = {name for name in before if after.get(name) != before[name]}
    assert not {name for name in changed if not name.startswith(("probe-", "compare-", "study-"))}
    assert {name for name in after if name.endswith(".json")} - set(before) <= {
        name for name in after if name.startswith("probe-")
    }
    # The same question has the same document: its file is called what 0.1.0 called it.
    assert {name.split("-")[0] for name in changed} <= {"compare", "study"}
    assert len([name for name in after if name.startswith(("compare-", "study-")) and name.endswith(".json")]) == 3


@pytest.mark.parametrize("record", [SVM, AXES])
def test_its_heads_predict_what_they_predicted(made, record):
    model = load_model(made / "results" / f"{record}.json")
    if record == AXES:
        assert type(model.head).__name__ == "OnAxes"
    data, predictions = open_dataset("digits").load("test"), model.saved.predictions()
    names = np.array(open_dataset("digits").classes)
    assert np.array_equal(model.predict(data.images[predictions.rows]), names[predictions.predicted])


def test_its_results_are_shown_predicted_with_and_exported(made, capsys):
    pytest.importorskip("jinja2")
    assert run_command(main, ["report", "--results", "results", "--output", "report.html"]) == 0
    page = Path("report.html").read_text(encoding="utf-8")
    assert "Head2Toe" in page and "finetune layer4" in page
    from PIL import Image

    image = open_dataset("digits").load("test").images[0]
    Image.fromarray(image).save("digit.png")
    assert run_command(main, ["predict", "digit.png", "--from", f"results/{SVM}.json"]) == 0
    assert "digit.png" in capsys.readouterr().out
    arguments = ["--from", f"results/{SVM}.json", "--format", "onnx", "--output", "svm.onnx"]
    pytest.importorskip("onnxscript")
    assert run_command(main, ["export", *arguments]) == 0
    assert len(load_results("results")) == len(RECORDS)
    assert json.loads(Path(f"results/{SVM}.json").read_text())["result"]["environment"]["layerprobe"] == "0.1.0"
