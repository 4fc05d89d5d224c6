"""Which results are taken for a row's: none that is known to be wrong; and one of other versions, which is said."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from classify.__main__ import main
from classify.experiments.kinds.classical import Classical
from classify.experiments.known import known_result, set_aside_superseded
from classify.experiments.making import Making, make
from classify.experiments.row import Row, network_row
from classify.experiments.settings import How, Settings
from classify.experiments.sources import CachedLayer
from classify.heads import HEADS
from classify.heads.regularizers import parse_regularizers
from classify.measure.record import Extra, RowConfig
from classify.measure.results import SavedResult, find_result, load_results
from classify.measure.saving import save_result
from classify.measure.soundness import OTHER_READING
from extract.planning import plan
from features.commands.options import run_command
from features.errors import UserError
from features.key import CacheKey
from features.request import Request

REQUEST = Request(
    dataset="digits", weights="random", image_size=32, limit=60, limit_test=30, precision="float32", device="cpu",
    layers=("bn1", "layer1", "bn1+layer1"),
)  # fmt: skip
COMMAND = ["--dataset", "digits", "--weights", "random", "--image-size", "32", "--limit", "60", "--limit-test", "30"]
COMMAND += ["--precision", "float32", "--device", "cpu", "--model", "centroid", "--validate", "holdout"]
# Fields that a row's identity has under another name.
NAMED = {"split": "both are read", "rows": "limit, limit_test and seed", "layer": "as asked", "pool": "as asked"}
NAMED |= {"format": "of the file"}


def _row(layer: str = "layer1", **changes) -> Row:
    request = dataclasses.replace(REQUEST, **changes)
    source = CachedLayer(plan(request), layer, "avg")
    return Row(source=source, head=Classical(head=HEADS["centroid"]), settings=Settings(seed=request.seed))


def _saved_again(folder: Path, saved: SavedResult, predictions=None, **changes) -> SavedResult:
    """A result as another version might have written it."""
    predictions, head = predictions or saved.predictions(), saved.load_head()
    for path in folder.glob(f"{saved.path.stem}*"):
        path.unlink()
    return save_result(folder, dataclasses.replace(saved.result, **changes), predictions, head)


@pytest.mark.parametrize("field", [f.name for f in dataclasses.fields(CacheKey) if f.name not in NAMED])
def test_all_that_is_in_a_cache_key_is_in_the_rows_identity(home, field):
    row = _row()
    other = {"image_size": 33, "revision": 7, "preprocessing": '{"crop":32}'}.get(field, "another")
    wanted = tuple(
        dataclasses.replace(file, key=dataclasses.replace(file.key, **{field: other}))
        for file in row.source.plan.wanted
    )
    source = dataclasses.replace(row.source, plan=dataclasses.replace(row.source.plan, wanted=wanted))
    assert dataclasses.replace(row, source=source).digest != row.digest
    assert "preprocessing" not in row.config and "revisions" not in row.config and "architecture" not in row.config


def test_the_layers_that_were_written_over_have_other_names_than_in_0_1_0(home):
    assert _row("bn1").config.revisions == [1]
    assert _row("bn1+layer1").config.revisions == [1, 0]
    assert _row("bn1").superseded == {name: value for name, value in _row("bn1").config.items() if name != "revisions"}
    assert _row("layer1").superseded is None


@pytest.mark.parametrize(("layer", "wrong"), [("layer4", False), ("layer4.0.bn1", True)])
def test_a_regulariser_that_saw_what_was_written_over_makes_another_row(home, layer, wrong):
    regularizers = parse_regularizers([f"delta=0.01@{layer}"])
    row = network_row(REQUEST, "finetune", unfreeze="layer4", regularizers=regularizers)
    assert (row.config.corrections is not None) == wrong == (row.superseded is not None)


def test_a_wrong_result_is_made_again_which_is_said_and_then_read_by_nothing(home, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    row, folder = _row("bn1"), Path("results")
    assert run_command(main, [*COMMAND, "--layer", "bn1"]) == 0
    right = find_result(folder, row.config)
    wrong = _saved_again(folder, right, config=row.superseded)
    capsys.readouterr()
    assert run_command(main, [*COMMAND, "--layer", "bn1"]) == 0
    reason = "version 0.1.0 may have read what a later in-place operation had left of a layer"
    said = f"{wrong.path.name}: {reason}; made again"
    assert capsys.readouterr().out.count(said) == 1
    assert [saved.result.digest for saved in load_results(folder)] == [row.digest]
    assert {path.suffix for path in (folder / "superseded").iterdir()} >= {".json", ".npz"}
    with pytest.raises(UserError, match=r"version 0\.1\.0 computed it wrongly"):
        Row.from_config(row.superseded)
    assert run_command(main, [*COMMAND, "--layer", "bn1"]) == 0
    assert "made again" not in capsys.readouterr().out


def test_another_preprocessing_is_another_row_and_the_old_one_is_not_taken_for_it(home, tmp_path):
    row = _row()
    old = make(row, How(folder=tmp_path))
    first = row.source.plan.wanted[0].key
    corrected = {**json.loads(first.preprocessing), "resize": 32}
    wanted = tuple(
        dataclasses.replace(file, key=dataclasses.replace(file.key, preprocessing=json.dumps(corrected)))
        for file in row.source.plan.wanted
    )
    planned = dataclasses.replace(row.source.plan, wanted=wanted)
    asked = dataclasses.replace(row, source=dataclasses.replace(row.source, plan=planned))
    assert asked.config.preprocessing == corrected
    # Where it was asked for, what was asked for before is as right as it was.
    assert known_result(asked, tmp_path) == (None, "")
    set_aside_superseded(asked, tmp_path)
    planned = dataclasses.replace(planned, superseded=first.preprocessing)
    asked = dataclasses.replace(row, source=dataclasses.replace(row.source, plan=planned))
    assert known_result(asked, tmp_path) == (
        None,
        f"{old.path.name}: version 0.1.0 prepared the images otherwise than these weights want it; made again",
    )
    set_aside_superseded(asked, tmp_path)
    assert load_results(tmp_path) == []


def test_what_was_read_by_another_rule_is_made_again_where_it_stood_and_nowhere_else(home, tmp_path):
    random, folder = np.random.default_rng(0), tmp_path / "results"
    for name in ("here/scans", "there/scans"):
        for number in range(20):
            path = tmp_path / name / "ab"[number % 2] / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(random.integers(0, 4096, (8, 8)).astype(np.uint16)).save(path)
    rows = {
        place: _row(dataset=f"folder:{tmp_path / place / 'scans'}", limit=None, limit_test=None)
        for place in ("here", "there")
    }
    wrong = {}
    for place, row in rows.items():
        made = make(row, How(folder=folder))
        extra = Extra({key: value for key, value in made.result.extra.items() if key not in ("white", "crop_mode")})
        config = {**made.result.config, "dataset_sha256": place * 8}
        wrong[place] = _saved_again(folder, made, config=config, extra=extra)
    assert load_results(folder) == []
    remark = f"{wrong['here'].path.name}: {OTHER_READING}; made again"
    assert known_result(rows["here"], folder) == (None, remark)
    right = make(rows["here"], How(folder=folder))
    assert known_result(rows["here"], folder)[0].result == right.result
    assert {path.name for path in (folder / "superseded").glob("*.json")} == {wrong["here"].path.name}
    assert wrong["there"].path.exists()


def test_the_preprocessing_is_nothing_to_a_network_without_a_backbone(home):
    row = network_row(REQUEST, "convnet")
    key = dataclasses.replace(row.source.first.key, preprocessing='{"crop":32}', architecture="another")
    wanted = tuple(dataclasses.replace(file, key=key) for file in row.source.plan.wanted)
    planned = dataclasses.replace(row.source.plan, wanted=wanted, superseded='{"crop":64}')
    other = dataclasses.replace(row, source=dataclasses.replace(row.source, plan=planned))
    assert other.digest == row.digest and other.superseded is None


def test_a_head_that_was_tested_on_another_seeds_images_is_made_again(home, tmp_path):
    row, said = _row(seed=1), []
    right = make(row, How(folder=tmp_path))
    predictions = right.predictions()
    others = dataclasses.replace(predictions, rows=predictions.rows + 1)
    wrong = _saved_again(tmp_path, right, others)
    made = make(row, How(folder=tmp_path, say=said.append))
    assert said == [
        f"{wrong.path.name}: version 0.1.0 tested it on the test images of the first of several seeds; made again"
    ]
    assert np.array_equal(made.predictions().rows, predictions.rows)
    assert make(row, How(folder=tmp_path, say=said.append)).result.created == made.result.created
    assert len(said) == 1


def test_results_of_other_versions_are_used_and_that_is_said_once(home, tmp_path):
    rows, said = [_row(seed=seed) for seed in (0, 1)], []
    for row in rows:
        saved = make(row, How(folder=tmp_path))
        environment = {**saved.result.environment, "scikit-learn": "1.2.0", "torch": f"{_torch(saved)}+mine"}
        _saved_again(tmp_path, saved, environment=environment)
    making = Making(How(folder=tmp_path, say=said.append))
    assert [making.make(row).result.environment["scikit-learn"] for row in rows] == ["1.2.0"] * 2
    assert len(said) == 1
    assert said[0].startswith("results made with scikit-learn 1.2.0 are used (scikit-learn ")


def _torch(saved: SavedResult) -> str:
    return str(saved.result.environment["torch"]).partition("+")[0]


def test_configurations_of_0_1_0_mean_what_they_did():
    assert (RowConfig().preprocessing, RowConfig().revisions, RowConfig().architecture) == (None, None, None)
    assert RowConfig().corrections is None
