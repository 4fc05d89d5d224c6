"""A record is made again by one command, which says whether it came out the same."""

import json
from pathlib import Path

import numpy as np
import pytest

from classify.__main__ import main
from classify.experiments.row import Row
from classify.measure.results import load_results, sealed
from features.commands.options import run_command
from features.digests import sha256_json

DIGITS = ["--dataset", "digits", "--weights", "random", "--image-size", "32", "--limit", "120", "--limit-test", "60"]


@pytest.fixture(autouse=True)
def working_folder(home, tmp_path, monkeypatch) -> Path:
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


def _records(*arguments) -> list[str]:
    assert run_command(main, [str(each) for each in arguments]) == 0
    return [str(saved.path) for saved in load_results("results")]


def test_heads_and_a_network_come_out_the_same(home, capsys):
    _records(*DIGITS, "--model", "ridge", "--layer", "layer1+layer2", "--pca", "20")
    _records(*DIGITS, "--model", "convnet", "untouched", "--epochs", "1", "--train-precision", "float32")
    records = [str(saved.path) for saved in load_results("results")]
    assert len(records) == 1 + 1 + 3
    before = {path: path.stat().st_mtime_ns for path in (home / "features").iterdir()}
    capsys.readouterr()
    assert run_command(main, ["repeat", *records]) == 0
    told = capsys.readouterr().out
    assert told.count("the same: all 60 test predictions are what they were") == len(records)
    assert told.count("computed with: the same versions on the same processor") == len(records)
    assert {path: path.stat().st_mtime_ns for path in (home / "features").iterdir()} == before
    # Again from the images, into another home.
    of_features = next(record for record in records if "-ridge-" in record)
    assert run_command(main, ["repeat", "--afresh", of_features]) == 0
    assert "to extract: train layer1" in capsys.readouterr().out


def test_every_row_of_a_probe_can_be_built_from_its_record(capsys):
    _records("probe", *DIGITS, "--layer", "layer1", "avgpool", "--model", "ridge", "--head2toe", "--no-scores")
    configs = [saved.result.config for saved in load_results("results")]
    assert {"pixels", "layer1", "layer1+avgpool"} <= {config["layer"] for config in configs}
    assert any("reduction" in config for config in configs) and any("labels" in config for config in configs)
    for config in configs:
        Row.from_config(config)


def _alter(path: str, change) -> None:
    """Rewrite a record, with its digests made to fit."""
    import hashlib

    record = json.loads(Path(path).read_text())
    change(record)
    record["digest"] = sha256_json(record["result"]["config"])
    arrays = Path(path).with_suffix(".npz")
    record["files"]["predictions"] = hashlib.sha256(arrays.read_bytes()).hexdigest()
    Path(path).write_text(json.dumps(sealed(record)))


def test_other_predictions_and_versions_are_said(capsys):
    (record,) = _records(*DIGITS, "--model", "ridge")
    with np.load(Path(record).with_suffix(".npz")) as arrays:
        held = dict(arrays)
    held["predicted"][:7] = (held["predicted"][:7] + 1) % 10
    np.savez(Path(record).with_suffix(".npz"), **held)
    _alter(record, lambda content: content["result"]["environment"].update(torch="1.0.0"))
    assert run_command(main, ["repeat", record]) == 1
    told = capsys.readouterr().out
    assert "NOT the same: 7 of 60 test predictions differ" in told
    assert "torch 1.0.0 then and" in told


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("dataset_sha256", "0" * 64, "dataset_sha256 is"),
        ("weights_sha256", "0" * 64, "weights_sha256 is"),
        ("training_set", "upside down", "no training set is made worse by 'upside down'"),
        ("head", "oracle", "no head called 'oracle'"),
    ],
)
def test_what_cannot_be_made_again_is_refused(capsys, field, value, told):
    (record,) = _records(*DIGITS, "--model", "ridge")
    _alter(record, lambda content: content["result"]["config"].update({field: value}))
    capsys.readouterr()
    assert run_command(main, ["repeat", record]) == 2
    assert told in capsys.readouterr().err
