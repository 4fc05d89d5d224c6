"""The study of which blocks to adapt: equal budgets, its choice by gradients, and what it says of its rows."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from classify.__main__ import main
from classify.experiments.studies.asking import Asked
from classify.experiments.studies.where import choice, where
from features.architectures import build_model
from features.commands.options import run_command
from features.request import Request

REQUEST = Request(dataset="digits", image_size=32, limit=60, limit_test=60, precision="float32", device="cpu")


@pytest.fixture
def drawn(home, tmp_path, monkeypatch) -> Path:
    """Weights in a file: where they come from, the study cannot know."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    torch.save(build_model("resnet18").state_dict(), tmp_path / "drawn.pth")
    return tmp_path / "drawn.pth"


def test_the_choice_is_the_largest_norm_among_the_stages_that_were_trained():
    norms = {"layer1": 0.2, "layer2": 0.5, "layer3": 0.9}
    assert choice(norms, ("layer1", "layer2", "layer3")) == "layer3"
    assert choice(norms, ("layer1", "layer2")) == "layer2"
    assert choice({"layer1": 0.2}, ("maxpool", "layer1")) == "layer1"


def test_all_ways_have_the_same_budget_and_say_what_they_decided(drawn):
    request = dataclasses.replace(REQUEST, weights=str(drawn)).normalised()
    training = {"steps": 2, "batch_size": 27, "precision": "float32"}
    result = where(Asked(request, training=training), stages=("maxpool", "layer4"))
    table, routes, matching = result.tables
    names = ["everything", "fc alone", "maxpool alone", "layer4 alone", "SpotTune", "from scratch"]
    assert list(table.column("trained")) == [*names, "L2T-ww, from scratch"]
    assert {saved.result.extra["steps"] for saved in result.results} == {2}
    assert {saved.result.config["training"]["batch_size"] for saved in result.results} == {27}
    configs = [saved.result.config for saved in result.results]
    assert [(each.get("unfreeze"), each.get("until")) for each in configs[:4]] == [
        ("all", None),
        ("fc", None),
        ("all", "maxpool"),
        ("layer4", "layer4"),
    ]
    assert [each["training"]["init_head"] for each in configs] == ["probe"] * 5 + ["random"] * 2
    norms = dict(zip(table.column("trained"), table.column("norm"), strict=True))
    assert norms["layer4 alone"] > 0
    assert norms["everything"] is None
    assert len(routes.rows) == 8
    assert [row[0] for row in matching.rows] == ["layer1", "layer2", "layer3", "layer4"]
    chosen = max(("maxpool", "layer4"), key=lambda stage: norms[f"{stage} alone"])
    said = next(sentence for sentence in result.answer if "gradient norm chooses" in sentence)
    assert chosen in said or "the same stage" in said
    assert json.loads(json.dumps(result.to_json()))["question"]["stages"] == ["maxpool", "layer4"]
    assert [len(panel.lines) for panel in result.panels] == [1, 1, 1, 4]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [(["--weights", "random"], "pre-trained weights"), (["--weights", "drawn.pth", "--stages", "layer9"], "layer9")],
)
def test_mistakes_are_one_line(drawn, capsys, arguments, told):
    assert run_command(main, ["study", "where", "--dataset", "digits", "--image-size", "32", *arguments]) == 2
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1
