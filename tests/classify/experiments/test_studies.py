"""Studies: what they claim follows from their rows, rows are shared and reused, and mistakes are told at once."""

import dataclasses
import json
import os
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

from classify.__main__ import main
from classify.experiments.making import make
from classify.experiments.models import parse_model
from classify.experiments.settings import How
from classify.experiments.studies.asking import Asked
from classify.experiments.studies.convergence import convergence, reached
from classify.experiments.studies.data_size import crossings, data_size
from classify.experiments.studies.transferability import class_halves, transferability, transferred
from classify.measure.intervals import mean_interval
from classify.measure.results import load_results
from features.commands.options import run_command
from features.datasets import open_dataset
from features.request import Request, selected_rows

REQUEST = Request(
    dataset="digits", weights="random", image_size=32, limit_test=60, precision="float32", device="cpu"
).normalised()


@pytest.fixture(autouse=True)
def working_folder(home, tmp_path, monkeypatch) -> Path:
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


def test_the_mean_over_seeds_has_students_interval():
    mean, low, high = mean_interval([0.90, 0.92, 0.94])
    # t of 0.975 with 2 degrees of freedom is 4.3027, the deviation 0.02.
    assert (mean, high - mean) == pytest.approx((0.92, 4.3027 * 0.02 / 3**0.5), rel=1e-4)
    assert mean - low == pytest.approx(high - mean)
    assert mean_interval([0.7]) == (0.7, 0.7, 0.7)


def test_the_lead_changes_where_the_curves_cross():
    sizes = (1, 2, 5, 10)
    assert crossings(sizes, (0.5, 0.6, 0.7, 0.8), (0.3, 0.5, 0.75, 0.9)) == (5,)
    assert crossings(sizes, (0.5, 0.6, 0.7, 0.8), (0.3, 0.6, 0.7, 0.7)) == ()
    assert crossings(sizes, (0.5, 0.4, 0.5, 0.4), (0.45,) * 4) == (2, 5, 10)


def test_a_target_is_reached_by_the_first_epoch_that_is_as_good():
    history = [
        {"epoch": number, "seconds": 2.0, "validation_accuracy": accuracy}
        for number, accuracy in ((1, 0.5), (2, 0.9), (3, 0.8), (4, 0.95))
    ]
    assert reached(history, 0.9) == (2, 4.0)
    assert reached(history, 0.94) == (4, 8.0)
    assert reached(history, 0.96) is None


def test_smaller_training_sets_nest_in_larger_ones_of_the_same_seed():
    labels = open_dataset("digits").load("train").labels
    for seed in (0, 1):
        five, ten = (
            selected_rows(labels, dataclasses.replace(REQUEST, seed=seed, limit=10 * size), "train") for size in (5, 10)
        )
        assert set(five) < set(ten)
        assert np.array_equal(np.bincount(labels[five]), [5] * 10)


def test_data_size_needs_one_image_a_class_and_every_row_trains():
    models = tuple(map(parse_model, ("centroid@avgpool", "finetune:fc")))
    told: list[str] = []
    asked = Asked(
        REQUEST, seeds=(0, 1), models=models, training={"steps": 2}, how=How(say=told.append, with_models=True)
    )
    result = data_size(asked, per_class=(1, 3))
    saved = load_results("results")
    assert len(saved) == 2 * 2 * 2 == len(result.results)
    assert sorted(each.result.rows["train"] for each in saved) == [10] * 4 + [30] * 4
    for each in saved:
        assert each.result.rows["validation"] == 0
        assert each.result.validation_accuracy is None
        assert each.predictions().validation_rows is None
    table = result.tables[0]
    mine = [
        each.result for each in saved if each.result.config["head"] == "centroid" and each.result.rows["train"] == 10
    ]
    mean = np.mean([each.metrics.accuracy for each in mine])
    assert table.column("n1")[0] == pytest.approx(mean_interval([each.metrics.accuracy for each in mine]))
    assert result.panels[0].lines[0].y[0] == pytest.approx(100 * mean)
    assert "With 1 image per class" in result.answer[0]
    assert json.loads(json.dumps(result.to_json()))["results"] == [each.path.name for each in result.results]
    # A second study finds every row where the first left it.
    again = data_size(asked, per_class=(1, 3))
    assert again.stem == result.stem
    assert sum(line.endswith("known") for line in told) == 8


def test_convergence_says_who_is_sooner_from_the_histories():
    models = tuple(map(parse_model, ("finetune:layer4", "scratch")))
    request = dataclasses.replace(REQUEST, limit=100)
    result = convergence(Asked(request, models=models, training={"epochs": 2, "batch_size": 45}))
    assert [line.label for line in result.panels[0].lines] == ["finetune layer4", "scratch"]
    for line, saved in zip(result.panels[1].lines, result.results, strict=True):
        history = saved.result.extra["history"]
        assert len(history) == 2
        assert line.x[-1] == pytest.approx(sum(epoch["seconds"] for epoch in history))
        assert line.y[-1] == pytest.approx(100 * history[-1]["validation_accuracy"])
    assert len(result.answer) == 4


def test_the_command_prints_the_answer_and_leaves_table_figure_and_json(capsys):
    pytest.importorskip("matplotlib")
    arguments = ["study", "data-size", "--dataset", "digits", "--weights", "random", "--quick", "--limit-test", "50"]
    arguments += ["--models", "ridge@avgpool", "centroid@avgpool", "--per-class", "2", "5", "--csv", "table.csv"]
    assert run_command(main, [*arguments, "--seeds", "0", "1"]) == 0
    said = capsys.readouterr().out
    assert "images per class" in said
    assert "cut to be quick: images of 32 pixels" in said
    kept = next(Path("results").glob("study-data-size-digits-*.json"))
    record = json.loads(kept.read_text())
    assert record["question"]["per_class"] == [2, 5]
    assert kept.with_suffix(".png").stat().st_size > 5_000
    assert kept.with_suffix(".svg").exists()
    assert len(Path("table.csv").read_text().splitlines()) == 3


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["data-sice"], "did you mean data-size"),
        (["data-size", "--dataset", "digits", "--per-class", "10000"], "numbers from 1 to"),
        (["data-size", "--dataset", "digits", "--models", "untouched"], "networks that train"),
        (["convergence", "--dataset", "digits", "--models", "svm@fc"], "networks that train"),
        (["convergence", "--per-class", "3"], "--per-class"),
    ],
)
def test_mistakes_are_one_line(capsys, arguments, told):
    assert run_command(main, ["study", *arguments]) == 2
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1


def test_halves_do_not_overlap_and_hold_every_class():
    for seed in range(5):
        first, second = class_halves("digits", seed)
        assert not set(first) & set(second)
        assert set(first) | set(second) == set("0123456789")
        assert len(first) == len(second) == 5
    assert class_halves("digits", 0) != class_halves("digits", 1)
    assert class_halves("digits", 0) == class_halves("digits", 0)


def test_stages_taken_over_do_not_move_unless_they_train_on():
    request = dataclasses.replace(REQUEST, limit=60)
    asked = Asked(request, training={"steps": 2, "batch_size": 30})
    result = transferability(asked, stages=("layer3",))
    rows = {cell[0]: cell[1:] for cell in result.tables[0].rows}
    assert set(rows) == {"baseA", "baseB", "AnB", "AnB+", "BnB", "BnB+"}
    networks = {saved.result.config.get("unfreeze"): saved for saved in result.results}
    assert networks["layer4"].result.config["fresh_above"] == "layer3"
    half = asked.request.dataset + "[" + ",".join(class_halves("digits", 0)[1]) + "]"
    source = next(iter((Path(os.environ["LAYERPROBE_HOME"]) / "fitted").glob("*.safetensors")))
    before = load_file(source)
    stages = asked.cut().inner_stages
    for frozen in (True, False):
        on_half = dataclasses.replace(request, dataset=half)
        row = transferred(on_half, str(source), "layer3", stages, frozen, asked.settings())
        saved = make(dataclasses.replace(row, keep=True))
        after = load_file(saved.path.with_suffix("") / "network.safetensors")
        taken = [name for name in before if not name.startswith(("layer4.", "fc."))]
        same = [bool((before[name] == after[name]).all()) for name in taken]
        assert all(same) if frozen else not all(same)
        # The stage above was drawn anew: it is the source's in neither.
        assert not (before["layer4.0.conv1.weight"] == after["layer4.0.conv1.weight"]).all()
