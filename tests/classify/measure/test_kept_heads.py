"""Fitted heads as files: every head comes back from skops' format, and nothing foreign is loaded or run from either."""

import io
import json
import os
import sys
import zipfile
import zlib
from pathlib import Path

import joblib
import numpy as np
import pytest
import skops.io as skops
from sklearn.datasets import load_digits

from classify.experiments.probe.entries import head2toe
from classify.heads import HEADS, on_axes
from classify.heads.network.untouched import UntouchedClassifier
from classify.heads.on_axes import Axes, OnAxes, Reduction
from classify.measure import saving
from classify.measure.metrics import measure
from classify.measure.results import Predictions, Result, load_results, sealed
from classify.measure.saving import save_result
from features.digests import sha256_file
from features.errors import UserError

ROWS = 240
FAST = {"linear": {"epochs": 2}, "mlp": {"epochs": 2, "hidden": 16}}


@pytest.fixture(scope="module")
def digits():
    """Real digits: float32 (N, 64) and labels (N,)."""
    images, labels = load_digits(return_X_y=True)
    return images.astype(np.float32), labels


def _save(folder, head, digits, **config):
    images, labels = digits
    predicted = head.predict(images[ROWS:])
    result = Result({"dataset": "digits", "head": type(head).__name__, **config}, measure(labels[ROWS:], predicted))
    return save_result(folder, result, Predictions(np.arange(ROWS, len(labels)), labels[ROWS:], predicted), head)


def _fitted(name, digits):
    images, labels = digits
    if name == "axes":
        axes = Reduction("pca", 16).fit(images[:ROWS])
        return OnAxes(axes, HEADS["svm"].build().fit(axes.apply(images[:ROWS]), labels[:ROWS]))
    if name == "untouched":
        return UntouchedClassifier("matched").fit(images[:ROWS], labels[:ROWS])
    head = head2toe((32, 32)) if name == "head2toe" else HEADS[name]
    return head.build(**FAST.get(name, {})).fit(images[:ROWS], labels[:ROWS])


@pytest.mark.parametrize("name", [*HEADS, "axes", "head2toe", "untouched"])
def test_every_head_comes_back_from_the_skops_file_as_it_was(tmp_path, digits, name):
    head = _fitted(name, digits)
    saved = _save(tmp_path, head, digits)
    assert saved.skops_path.is_file()
    # The joblib file is not touched where there is a better one.
    saved.head_path.write_bytes(b"no pickle")
    (loaded,) = load_results(tmp_path)
    again = loaded.load_head()
    assert type(again) is type(head)
    for method in ("predict", "predict_proba", "decision_function"):
        if hasattr(head, method):
            ours, theirs = getattr(head, method)(digits[0]), getattr(again, method)(digits[0])
            assert np.array_equal(ours, theirs), method


@pytest.mark.parametrize("kind", ["skops", "joblib"])
def test_a_file_that_holds_the_names_of_an_earlier_version_opens(tmp_path, digits, monkeypatch, kind):
    head = _fitted("axes", digits)
    module = "classify.experiments.width_matching"
    with monkeypatch.context() as earlier:
        for part in (OnAxes, Axes):
            earlier.setattr(part, "__module__", module)
        earlier.setitem(sys.modules, module, on_axes)
        saved = _save(tmp_path, head, digits)
    content = zlib.decompress(saved.head_path.read_bytes())
    if kind == "skops":
        content = zipfile.ZipFile(saved.skops_path).read("schema.json")
    else:
        saved = _pickle_alone(saved)
    assert module.encode() in content and b"classify.heads.on_axes" not in content
    monkeypatch.delitem(sys.modules, module, raising=False)
    again = load_results(tmp_path)[0].load_head(trust=kind == "joblib")
    assert type(again) is OnAxes and type(again.axes) is Axes
    assert np.array_equal(again.predict(digits[0]), head.predict(digits[0]))


def _pickle_alone(saved):
    """The same result as version 0.1.0 kept it without skops: its record seals a pickle and names nothing else."""
    record = json.loads(saved.path.read_text())
    record["files"].pop("skops", None)
    record["files"]["head"] = sha256_file(saved.head_path, fresh=True)
    saved.path.write_text(json.dumps(sealed(record)))
    return load_results(saved.path.parent)[0]


def test_a_pickle_that_its_record_seals_runs_for_those_alone_who_trust_it(tmp_path, digits):
    saved = _save(tmp_path / "results", _fitted("ridge", digits), digits)
    mark = tmp_path / "mark"
    pickle = saved.head_path.read_bytes()
    joblib.dump(_Intruder(mark), saved.head_path)
    with pytest.raises(UserError, match=r"pickle alone.*--trust") as caught:
        _pickle_alone(saved).load_head()
    assert "\n" not in str(caught.value) and not mark.exists()
    saved.head_path.write_bytes(pickle)
    assert _pickle_alone(saved).load_head(trust=True).predict(digits[0][:3]).shape == (3,)


def test_saving_again_without_skops_leaves_no_file_of_the_run_before(tmp_path, digits, monkeypatch):
    _save(tmp_path, _fitted("ridge", digits), digits)
    monkeypatch.setattr(saving, "in_skops_format", lambda head: None)
    _save(tmp_path, _fitted("ridge", digits), digits)
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".joblib", ".json", ".npz"]


def test_a_flipped_byte_is_noticed_before_anything_is_read(tmp_path, digits):
    saved = _save(tmp_path, _fitted("ridge", digits), digits)
    path = saved.skops_path
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"SHA-256 differs.*--trust"):
        saved.load_head()


class _Intruder:
    """A pickle that leaves a folder behind when it is read."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


def test_another_pickle_does_not_run_and_neither_does_one_that_poses_as_a_skops_file(tmp_path, digits):
    mark = tmp_path / "mark"
    saved = _save(tmp_path / "results", _fitted("ridge", digits), digits)
    joblib.dump(_Intruder(mark), saved.head_path)
    joblib.dump(_Intruder(mark), saved.skops_path)
    with pytest.raises(UserError, match="SHA-256 differs"):
        saved.load_head()
    # Even who trusts the file does not have a pickle run from it: it is no skops file.
    with pytest.raises(UserError, match="cannot be loaded"):
        saved.load_head(trust=True)
    saved = _pickle_alone(saved)
    with pytest.raises(UserError, match="any code"):
        saved.load_head()
    assert not mark.exists()
    saved.load_head(trust=True)
    assert mark.exists(), "the pickle would have run"


def _named_in_the_record(saved, content):
    """The same result with other bytes for its head, and their SHA-256 in the record: by a hand that can write both."""
    saved.skops_path.write_bytes(content)
    record = json.loads(saved.path.read_text())
    record["files"]["skops"] = sha256_file(saved.skops_path, fresh=True)
    saved.path.write_text(json.dumps(sealed(record)))
    return load_results(saved.path.parent)[0]


def _other_type(content, module, name):
    """A skops file whose outermost type is another one."""
    altered = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(altered, "w") as new:
        for entry in old.namelist():
            data = old.read(entry)
            if entry == "schema.json":
                schema = json.loads(data)
                schema |= {"__class__": name, "__module__": module}
                data = json.dumps(schema).encode()
            new.writestr(entry, data)
    return altered.getvalue()


@pytest.mark.parametrize("trust", [False, True])
@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("subprocess", "Popen"),
        ("posix", "system"),
        ("classify.measure.results", "SavedResult"),
        ("classify.heads.on_axes", "Reduction"),  # of ours, but no part of a fitted head
        ("classify.heads.on_axes", "np"),
        ("classify.heads.nowhere", "Head"),
    ],
)
def test_a_skops_file_with_foreign_types_is_refused_even_where_the_record_names_it(
    tmp_path, digits, module, name, trust
):
    saved = _save(tmp_path, _fitted("ridge", digits), digits)
    hostile = _named_in_the_record(saved, _other_type(saved.skops_path.read_bytes(), module, name))
    with pytest.raises(UserError, match=f"nothing of it was loaded.*{name}"):
        hostile.load_head(trust=trust)


def test_a_skops_file_that_calls_a_function_is_refused(tmp_path, digits):
    mark = tmp_path / "mark"
    saved = _save(tmp_path / "results", _fitted("ridge", digits), digits)

    class Calling:
        def __reduce__(self):
            return Path.mkdir, (mark,)

    hostile = _named_in_the_record(saved, skops.dumps({"head": Calling(), "more": os.system}))
    for trust in (False, True):
        with pytest.raises(UserError, match="nothing of it was loaded|cannot be loaded"):
            hostile.load_head(trust=trust)
    assert not mark.exists()


def test_a_type_that_is_not_named_here_is_kept_as_joblib_alone(tmp_path, digits):
    class Foreign:
        def predict(self, features):
            return np.zeros(len(features), int)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(saving, "write_joblib", lambda head, stream: stream.write(b"any"))
        saved = _save(tmp_path, Foreign(), digits)
    assert saved.skops_path is None
    assert saved.head_path.is_file()


def test_a_record_that_names_a_skops_file_alone_is_damaged(tmp_path, digits):
    saved = _save(tmp_path, _fitted("ridge", digits), digits)
    record = json.loads(saved.path.read_text())
    del record["files"]["head"]
    saved.path.write_text(json.dumps(record))
    with pytest.raises(UserError, match="damaged"):
        load_results(tmp_path)
