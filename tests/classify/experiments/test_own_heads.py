"""Rows of heads that are none of ours: in a probe, waiting for their test, saved, repeated and predicted with."""

import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.model_selection import GridSearchCV
from sklearn.naive_bayes import GaussianNB
from sklearn.svm import SVC

from classify import probe
from classify.commands.probe import main
from classify.experiments import making
from classify.experiments.repeating import repeat
from classify.experiments.row import Row
from classify.heads import own
from classify.measure.results import open_result
from classify.use.saved import load_model
from features import named_code
from features.errors import UserError

DIGITS = {"dataset": "digits", "weights": "random", "image_size": 32, "limit": 200, "limit_test": 100}
ASKED = {
    **DIGITS,
    "precision": "float32",
    "scores": False,
    "controls": False,
    "widths": False,
    "jobs": 1,
    "validate": "cv:2",
}
FOREST = "python:sklearn.ensemble:RandomForestClassifier?n_estimators=5"
COMMAND = [
    *("--dataset", "digits", "--weights", "random", "--image-size", "32", "--limit", "200", "--limit-test", "100"),
    *(
        "--precision",
        "float32",
        "--no-controls",
        "--no-widths",
        "--no-scores",
        "--layer",
        "layer2",
        "--jobs",
        "1",
        "--validate",
        "holdout",
    ),
]
MODULE = """
from pathlib import Path
from sklearn.neighbors import NearestCentroid
Path(__file__).with_suffix(".ran").touch()
class Mine(NearestCentroid):
    pass
def make(threshold=None):
    return Mine(shrink_threshold=threshold)
"""


def _forgotten(monkeypatch):
    """As in another process, which has run nothing yet."""
    monkeypatch.setattr(named_code, "_run", set())
    monkeypatch.setattr(own, "_made", {})


def _record(result, head):
    (row,) = [row for row in result.rows if row.head.startswith(head)]
    return row.saved.path


@pytest.fixture(scope="module")
def probed(tmp_path_factory):
    """A probe of a head that can be saved, a search, and one that cannot be; its folder, and what was fitted."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAYERPROBE_HOME", str(tmp_path_factory.mktemp("home")))
        fitted = []
        fit = making.fit
        patch.setattr(making, "fit", lambda row, how: (fitted.append(row.head.name), fit(row, how))[1])
        heads = [SVC(C=5), GridSearchCV(GaussianNB(), {"var_smoothing": [1e-9, 1e-2]}, cv=2), FOREST, "ridge"]
        result = probe(layers="layer2", heads=heads, results=tmp_path_factory.mktemp("results"), **ASKED)
        yield result, fitted


def test_all_are_fitted_once_tested_and_told_like_ours(probed):
    result, fitted = probed
    assert len(fitted) == len(set(fitted)) == len(result.rows) == 4
    for row in result.rows:
        saved = row.saved.result
        assert saved.metrics.accuracy > 0.3 and saved.validation_accuracy > 0.3
        assert saved.rows["test"] == 100 and saved.seconds["fit"] > 0
    config = open_result(_record(result, "python:sklearn.svm")).result.config
    assert config.head == "python:sklearn.svm:SVC?C=5"
    assert config.head_params["estimator"]["params"]["C"] == 5
    assert config.plugins[0].startswith("scikit-learn ")
    search = open_result(_record(result, "python:sklearn.model_selection")).result
    assert search.extra["own_search"].keys() == {"var_smoothing"}
    assert "python:" in str(result)


def test_what_skops_has_no_form_for_is_not_saved_and_nothing_of_it_is_a_pickle(probed):
    result, _ = probed
    svc, forest = _record(result, "python:sklearn.svm"), _record(result, FOREST)
    assert svc.with_suffix(".skops").exists()
    assert not {path.suffix for path in forest.parent.glob(f"{forest.stem}.*")} & {".skops", ".joblib"}
    images = np.random.default_rng(0).integers(0, 255, (3, 8, 8), dtype=np.uint8)
    assert len(load_model(svc).predict(images)) == 3
    with pytest.raises(UserError, match="saved without its"):
        load_model(forest)


def test_a_killed_probe_fits_what_was_held_in_memory_again(probed, tmp_path, monkeypatch):
    fitted = []
    fit, test = making.fit, making.Making.test
    monkeypatch.setattr(making, "fit", lambda row, how: (fitted.append(row.head.name), fit(row, how))[1])
    monkeypatch.setattr(making.Making, "test", lambda *_, **__: 1 / 0)
    asked = {"layers": "layer2", "heads": [FOREST, SVC(C=7)], "results": tmp_path, **ASKED}
    monkeypatch.setenv("LAYERPROBE_HOME", str(tmp_path / "home"))
    with pytest.raises(ZeroDivisionError):
        probe(**asked)
    monkeypatch.setattr(making.Making, "test", test)
    probe(**asked)
    assert sorted(fitted) == [FOREST, FOREST, "python:sklearn.svm:SVC?C=7"]


def test_a_record_runs_the_code_that_it_names_where_that_is_trusted(probed, monkeypatch):
    result, _ = probed
    for head in ("python:sklearn.model_selection", FOREST):
        saved = open_result(_record(result, head))
        assert repeat(saved).same  # it ran here
        with monkeypatch.context() as patch:
            _forgotten(patch)
            with pytest.raises(UserError, match="names code to be run.*--trust"):
                repeat(saved)
            assert repeat(saved, trust=True).same


def test_the_same_head_is_the_same_row_by_name_and_as_an_object(probed):
    result, _ = probed
    config = open_result(_record(result, "python:sklearn.svm")).result.config
    row = Row.from_config(config)
    typed = own.head_called("python:sklearn.svm:SVC?C=5.0")
    assert typed.described["params"] == row.head.head.described["params"]


def test_ones_own_module_by_name_and_who_may_name_it(tmp_path, monkeypatch):
    monkeypatch.setenv("LAYERPROBE_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    name, ran = "mine_of_tests", tmp_path / "mine_of_tests.ran"
    (tmp_path / f"{name}.py").write_text(MODULE)
    (tmp_path / "c.toml").write_text(f'command = "classify probe"\nmodel = ["ridge", "python:{name}:make"]\n')

    def anew():
        ran.unlink(missing_ok=True)
        sys.modules.pop(name, None)
        named_code._as_loaded.clear()
        _forgotten(monkeypatch)

    anew()
    with pytest.raises(UserError, match="c.toml names code to be run"):
        main(["--config", "c.toml", *COMMAND])
    assert not ran.exists()
    with pytest.raises(UserError, match="unexpected keyword argument 'x'"):
        main(["--model", f"python:{name}:make?x=1", *COMMAND])
    anew()
    assert main(["--trust", "--config", "c.toml", *COMMAND]) == 0
    records = [open_result(path) for path in Path("results").glob("digits-*.json")]
    (saved,) = [record for record in records if record.result.config.head == f"python:{name}:make"]
    config = saved.result.config
    assert config.plugins[0].startswith(f"{name} SHA-256 ")
    assert config.head_params["estimator"]["class"] == f"{name}:Mine"
    anew()
    with pytest.raises(UserError, match="--trust"):
        repeat(saved)
    assert not ran.exists()
    (tmp_path / f"{name}.py").write_text(MODULE + "# another\n")
    with pytest.raises(UserError, match="plugins is"):
        repeat(saved, trust=True)
    anew()
