"""What `--tensorboard` writes, read back as TensorBoard reads it, and held against the result."""

from pathlib import Path

import pytest

from classify.__main__ import main
from classify.measure.results import load_results
from features.commands.options import run_command

DIGITS = ["--dataset", "digits", "--weights", "random", "--image-size", "32", "--limit", "100", "--limit-test", "30"]
CONVNET = [*DIGITS, "--epochs", "2", "--train-precision", "float32"]


@pytest.fixture(autouse=True)
def working_folder(home, tmp_path, monkeypatch) -> Path:
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


def _events(folder: Path):
    accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="needs the extra 'tensorboard'"
    ).EventAccumulator(str(folder))
    return accumulator.Reload()


def _curve(events, tag: str) -> list[tuple[int, float]]:
    return [(event.step, event.value) for event in events.Scalars(tag)]


def _history(result, name: str) -> list:
    return [(epoch["epoch"], pytest.approx(epoch[name], rel=1e-6)) for epoch in result.extra["history"]]


def _check(folder: Path, result) -> None:
    events = _events(folder)
    for tag, name in (
        ("train/loss", "loss"),
        ("train/penalty", "penalty"),
        ("train/learning_rate", "learning_rate"),
        ("validation/loss", "validation_loss"),
        ("validation/accuracy", "validation_accuracy"),
        ("validation/macro_f1", "validation_macro_f1"),
    ):
        assert _curve(events, tag) == _history(result, name), tag


def test_curves_and_hyper_parameters_of_a_run(capsys):
    pytest.importorskip("tensorboard", reason="needs the extra 'tensorboard'")
    assert run_command(main, [*CONVNET, "--model", "convnet", "--tensorboard"]) == 0
    assert "tensorboard --logdir tensorboard" in capsys.readouterr().err
    (folder,) = Path("tensorboard").iterdir()
    assert folder.name.startswith("convnet-")
    (result,) = (row.result for row in load_results("results") if row.result.config["head"] == "convnet")
    assert len(result.extra["history"]) == 2
    _check(folder, result)
    events = _events(folder)
    assert events.Scalars("hparam/test_accuracy")[0].value == pytest.approx(result.metrics.accuracy)
    assert events.Scalars("hparam/validation_accuracy")[0].value == pytest.approx(result.validation_accuracy)
    content = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    told = HParamsPluginData.FromString(content).session_start_info.hparams
    assert told["learning_rate"].number_value == result.config["training"]["learning_rate"]
    assert (told["dataset"].string_value, told["augment"].string_value) == ("digits", "none")

    # Made again, the new curves take the old ones' place; what stands in the results is written from there.
    assert run_command(main, [*CONVNET, "--model", "convnet", "--tensorboard", "--again"]) == 0
    (result,) = (row.result for row in load_results("results") if row.result.config["head"] == "convnet")
    _check(folder, result)
    assert run_command(main, [*CONVNET, "--model", "convnet", "--tensorboard", "late"]) == 0
    _check(Path("late") / folder.name, result)


def test_a_comparison_logs_each_network_and_seed():
    pytest.importorskip("tensorboard", reason="needs the extra 'tensorboard'")
    arguments = [*CONVNET, "--models", "convnet", "--seeds", "0", "1", "--tensorboard", "curves"]
    assert run_command(main, ["compare", *arguments]) == 0
    results = {row.result.digest[:10]: row.result for row in load_results("results")}
    assert {path.name.split("-")[-1] for path in Path("curves").iterdir()} == set(results)
    assert len(results) == 2
    for digest, result in results.items():
        _check(Path("curves") / f"convnet-{digest}", result)


def test_its_absence_is_said_before_anything_is_trained(monkeypatch, capsys):
    import importlib.util

    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "tensorboard" else found(name, *a)
    )
    assert run_command(main, [*CONVNET, "--model", "convnet", "--tensorboard"]) == 2
    told = capsys.readouterr().err
    assert told == "error: --tensorboard needs one more package: pip install 'layerprobe[tensorboard]'\n"
    assert not Path("results").exists()


def test_a_log_that_nothing_would_write_is_refused(capsys):
    assert run_command(main, [*DIGITS, "--model", "lda", "--tensorboard"]) == 2
    assert "--tensorboard is about networks" in capsys.readouterr().err
    assert run_command(main, ["compare", *DIGITS, "--models", "lda", "--tensorboard"]) == 2
    assert "--tensorboard is about networks" in capsys.readouterr().err
    Path("taken").write_text("a file in the way")
    if pytest.importorskip("tensorboard"):
        assert run_command(main, [*CONVNET, "--model", "convnet", "--tensorboard", "taken"]) == 2
        assert "name another folder" in capsys.readouterr().err
