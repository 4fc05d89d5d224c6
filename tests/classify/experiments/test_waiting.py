"""What waits for its test in a home that others may write to: it comes back as it was, and runs nothing."""

import os
import pickle

import joblib
import numpy as np
import pytest
from sklearn.datasets import load_digits

from classify.experiments import waiting
from classify.experiments.kinds.classical import Classical, head2toe
from classify.heads import HEADS
from classify.heads.on_axes import OnAxes, Reduction
from features.errors import UserError

ROWS = 200
FAST = {"linear": {"epochs": 2}, "mlp": {"epochs": 2, "hidden": 16}}


class _Intruder:
    """A pickle that leaves a folder behind when it is read."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


def _content(name="ridge"):
    images, labels = load_digits(return_X_y=True)
    images = images.astype(np.float32)
    if name == "axes":
        axes = Reduction("pca", 16).fit(images[:ROWS])
        fitted = OnAxes(axes, HEADS["ridge"].build().fit(axes.apply(images[:ROWS]), labels[:ROWS]))
    else:
        head = head2toe((32, 32)) if name == "head2toe" else HEADS[name]
        fitted = head.build(**FAST.get(name, {})).fit(images[:ROWS], labels[:ROWS])
    fields = {"chosen": {"C": 0.1 + 0.2}, "converged": None, "rows": {"train": ROWS}, "extra": {"x": [1, 1e-300]}}
    return {"classifier": fitted, "fields": fields, "validation_rows": np.arange(3), "validation_predicted": None}


@pytest.mark.parametrize("name", [*HEADS, "axes", "head2toe"])
def test_a_head_that_waits_comes_back_as_it_was(tmp_path, name):
    content = _content(name)
    waiting.write(tmp_path / "fitted" / "row.fitted", content)
    again = waiting.read(tmp_path / "fitted" / "row.fitted")
    images = load_digits().data.astype(np.float32)
    assert np.array_equal(again["classifier"].predict(images), content["classifier"].predict(images))
    assert again["fields"] == content["fields"]
    assert again["validation_rows"].tolist() == [0, 1, 2] and again["validation_predicted"] is None
    assert [path.name for path in (tmp_path / "fitted").iterdir()] == ["row.fitted"]


@pytest.mark.parametrize("prefix", ["", "layerprobe fitted 2\n", "layerprobe fitted 3\n"])
@pytest.mark.parametrize("dump", [pickle.dump, joblib.dump])
def test_a_planted_pickle_never_runs(tmp_path, prefix, dump):
    mark, path = tmp_path / "mark", tmp_path / "row.fitted"
    with (tmp_path / "pickle").open("wb") as stream:
        dump(_Intruder(mark), stream)
    packed = (tmp_path / "pickle").read_bytes()
    # By a hand that knows the format: the SHA-256 is right.
    path.write_bytes(prefix.encode() + (waiting.hashlib.sha256(packed).digest() if prefix else b"") + packed)
    if prefix.endswith("3\n"):
        with pytest.raises(UserError, match="damaged"):
            waiting.read(path)
    else:
        assert waiting.read(path) is None
    assert not mark.exists()


def test_no_kind_of_head_waits_where_version_0_1_0_left_pickles(tmp_path, monkeypatch):
    monkeypatch.setenv("LAYERPROBE_HOME", str(tmp_path))
    digest = "0" * 64
    (tmp_path / "fitted").mkdir()
    joblib.dump(_Intruder(tmp_path / "mark"), tmp_path / "fitted" / f"{digest}.joblib")
    kind = Classical(head=HEADS["ridge"])
    assert kind.take_up(kind.place(digest, tmp_path / "results")) is None
    assert not (tmp_path / "mark").exists()


def test_a_pipe_in_the_place_of_a_waiting_head_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "row.fitted")
    with pytest.raises(OSError, match="named pipe"):
        waiting.read(tmp_path / "row.fitted")


def test_a_head_that_no_file_can_hold_leaves_none(tmp_path):
    content = {**_content(), "classifier": _Intruder(tmp_path)}
    assert waiting.write(tmp_path / "row.fitted", content) is False
    assert not list(tmp_path.iterdir())
