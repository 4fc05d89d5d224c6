"""Results on disk: what is saved comes back, half of it is never found, and what was altered is noticed."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import RidgeClassifier

from classify.measure import saving
from classify.measure.environment import this_environment
from classify.measure.metrics import measure
from classify.measure.results import (
    Predictions,
    Result,
    find_result,
    load_results,
    sealed,
)
from classify.measure.saving import save_result
from features.digests import canonical_json
from features.errors import UserError

CONFIG = {
    "dataset": "digits",
    "backbone": "resnet18",
    "layer": "layer2+layer3",
    "head": "ridge",
    "seed": 0,
    "limit": None,
}


@pytest.fixture(autouse=True)
def joblib_alone(monkeypatch):
    """As version 0.1.0 kept heads without skops, whose files `test_kept_heads` is about."""
    monkeypatch.setattr(saving, "in_skops_format", lambda head: None)


@pytest.fixture(scope="module")
def digits():
    """A real head on real digits, its result and predictions."""
    images, labels = load_digits(return_X_y=True)
    head = RidgeClassifier().fit(images[:1000], labels[:1000])
    predicted = head.predict(images[1000:])
    rows = np.arange(1000, len(labels))
    result = Result(
        config=CONFIG,
        metrics=measure(labels[1000:], predicted),
        chosen={"alpha": np.float64(1.0), "grid": (1, np.int64(2))},
        validation_accuracy=np.float64(0.9),
        refit=True,
        converged=None,
        seconds={"extract": 1.5, "search": 0.25, "fit": 0.01, "predict": 0.002},
        rows={"train": 900, "validation": 100, "test": 797, "search": 900},
        keys={"train": {"dataset": "ab", "layer": "layer3"}},
        command="python -m classify --model ridge",
        extra={"trained_parameters": np.int64(650), "path": Path("somewhere")},
    )
    scores = np.full((797, 10), 0.1)
    return result, Predictions(rows, labels[1000:], predicted, scores, rows[:100], predicted[:100]), head


def test_what_is_saved_comes_back(tmp_path, digits):
    result, predictions, head = digits
    saved = save_result(tmp_path / "results", result, predictions, head)
    assert saved.path.name == f"digits-resnet18-layer2+layer3-ridge-{result.digest[:10]}.json"
    assert sorted(path.suffix for path in saved.path.parent.iterdir()) == [".joblib", ".json", ".npz"]
    (loaded,) = load_results(tmp_path / "results")
    assert loaded == saved
    assert loaded.result == result
    assert loaded.result.chosen == {"alpha": 1.0, "grid": [1, 2]}
    for field in dataclasses.fields(Predictions):
        mine, theirs = getattr(predictions, field.name), getattr(loaded.predictions(), field.name)
        np.testing.assert_array_equal(mine, theirs)
        assert getattr(mine, "dtype", None) == getattr(theirs, "dtype", None)
    images = load_digits().data[1000:]
    np.testing.assert_array_equal(loaded.load_head(trust=True).predict(images), predictions.predicted)


def test_a_result_is_found_by_its_configuration(tmp_path, digits):
    result, predictions, _ = digits
    assert find_result(tmp_path / "absent", CONFIG) is None
    saved = save_result(tmp_path, result, predictions)
    shuffled = dict(reversed(CONFIG.items())) | {"seed": np.int64(0)}
    assert find_result(tmp_path, shuffled) == saved
    assert find_result(tmp_path, {**CONFIG, "seed": 1}) is None
    assert load_results(tmp_path / "absent") == []


def test_saving_again_replaces_and_leaves_no_head_of_another_run(tmp_path, digits):
    result, predictions, head = digits
    save_result(tmp_path, result, predictions, head)
    bare = Predictions(predictions.rows, predictions.labels, predictions.predicted)
    again = save_result(tmp_path, dataclasses.replace(result, command="second"), bare)
    assert [saved.result.command for saved in load_results(tmp_path)] == ["second"]
    assert again.head_path is None
    assert again.predictions().probabilities is None
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".json", ".npz"]
    with pytest.raises(UserError, match="without its head"):
        again.load_head()


@pytest.mark.parametrize("step", ["os.fsync", "joblib.dump", "classify.measure.saving.write_json"])
def test_a_result_whose_writing_breaks_off_is_not_found(tmp_path, digits, monkeypatch, step):
    result, predictions, head = digits

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(step, full)
        with pytest.raises(UserError, match="No space"):
            save_result(tmp_path, result, predictions, head)
    assert load_results(tmp_path) == []
    assert find_result(tmp_path, CONFIG) is None
    assert save_result(tmp_path, result, predictions, head).load_head(trust=True) is not None


class Intruder:
    """A pickle that leaves a file behind when it is read."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


def test_a_foreign_head_is_not_unpickled(tmp_path, digits):
    import joblib

    result, predictions, head = digits
    saved = save_result(tmp_path, result, predictions, head)
    mark = tmp_path / "mark"
    joblib.dump(Intruder(mark), saved.head_path)
    with pytest.raises(UserError, match=r"any code.*--trust") as caught:
        saved.load_head()
    assert str(saved.head_path) in str(caught.value)
    assert not mark.exists()
    saved.load_head(trust=True)
    assert mark.exists()
    saved.head_path.write_bytes(b"no pickle at all")
    with pytest.raises(UserError, match="cannot be loaded"):
        saved.load_head(trust=True)
    saved.head_path.unlink()
    with pytest.raises(UserError, match="cannot be read"):
        saved.load_head(trust=True)


def test_altered_predictions_are_noticed(tmp_path, digits):
    result, predictions, _ = digits
    saved = save_result(tmp_path, result, predictions)
    path = saved.path.with_suffix(".npz")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match="SHA-256 differs"):
        saved.predictions()
    path.unlink()
    with pytest.raises(UserError, match="cannot be read"):
        saved.predictions()


def test_predictions_are_never_unpickled(tmp_path, digits):
    result, predictions, _ = digits
    saved = save_result(tmp_path, result, predictions)
    mark = tmp_path / "mark"
    path = saved.path.with_suffix(".npz")
    np.savez(path, rows=np.array([Intruder(mark)], dtype=object))
    from features.digests import sha256_file

    record = json.loads(saved.path.read_text())
    record["files"]["predictions"] = sha256_file(path, fresh=True)
    saved.path.write_text(json.dumps(sealed(record)))
    with pytest.raises(UserError, match="no predictions in it"):
        load_results(tmp_path)[0].predictions()
    assert not mark.exists()


def test_what_is_no_record_is_passed_over(tmp_path, digits):
    result, predictions, _ = digits
    saved = save_result(tmp_path, result, predictions)
    (tmp_path / "package.json").write_text('{"name": "something else"}')
    (tmp_path / "notes.json").write_text("{not json")
    (tmp_path / "list.json").write_text("[1, 2]")
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "folder.json").mkdir()
    assert load_results(tmp_path) == [saved]
    with pytest.raises(UserError, match="a folder of results was expected"):
        load_results(tmp_path / "notes.json")


def _change(record, *names, value):
    inner = record
    for name in names[:-1]:
        inner = inner[name]
    inner[names[-1]] = value


@pytest.mark.parametrize(
    ("names", "value"),
    [
        (("result",), None),
        (("result", "metrics", "accuracy"), 1.0),
        (("result", "metrics", "confusion"), "x"),
        (("result", "config", "seed"), 7),
        (("result", "config"), []),
        (("result", "keys"), {"train": "x"}),
        (("result", "seconds"), {"fit": None}),
        (("result", "refit"), 1),
        (("result", "unknown"), 1),
        (("files",), {"head": "ab"}),
        (("files",), {"predictions": "ab", "../../escape": "cd"}),
        (("digest",), "ab"),
    ],
)
def test_a_damaged_record_is_named(tmp_path, digits, names, value):
    result, predictions, _ = digits
    saved = save_result(tmp_path, result, predictions)
    record = json.loads(saved.path.read_text())
    _change(record, *names, value=value)
    saved.path.write_text(json.dumps(record))
    with pytest.raises(UserError, match="damaged") as caught:
        load_results(tmp_path)
    assert str(saved.path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("place", range(0, 100, 7))
def test_any_word_or_number_of_a_record_that_changes_is_noticed(tmp_path, digits, place):
    result, predictions, _ = digits
    saved = save_result(tmp_path, result, predictions)
    whole = saved.path.read_bytes()
    written = [at for at, byte in enumerate(whole) if chr(byte).isalnum()]
    at = written[place * len(written) // 100]
    saved.path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    try:
        (read,) = load_results(tmp_path)
    except UserError as error:
        assert saved.path.name in str(error)
    else:
        # The word before the seal itself: what it seals is still what was written.
        assert read.result.to_json() == saved.result.to_json()
        assert read.files == saved.files


def test_a_record_from_before_records_were_sealed_is_read(tmp_path, digits):
    result, predictions, _ = digits
    saved = save_result(tmp_path, result, predictions)
    record = json.loads(saved.path.read_text())
    assert record == sealed(record)
    del record["sha256"]
    saved.path.write_text(json.dumps(record))
    assert load_results(tmp_path)[0].result.to_json() == saved.result.to_json()


@pytest.mark.parametrize("content", ["", "{", "[" * 100_000, '{"a": 1e999', "\x00"])
def test_a_garbled_record_is_named(tmp_path, digits, content):
    result, predictions, _ = digits
    saved = save_result(tmp_path, result, predictions)
    saved.path.write_text(content)
    for read in (lambda: load_results(tmp_path), lambda: find_result(tmp_path, CONFIG)):
        with pytest.raises(UserError, match="damaged") as caught:
            read()
        assert str(saved.path) in str(caught.value)


def test_a_record_that_is_cut_short_is_noticed_under_any_name(tmp_path, digits):
    result, predictions, _ = digits
    saved = save_result(tmp_path, result, predictions)
    text = saved.path.read_text()
    (tmp_path / "copy.json").write_text(text[: len(text) // 2])
    with pytest.raises(UserError, match=r"copy\.json.*damaged"):
        load_results(tmp_path)


def test_a_newer_record_says_so(tmp_path, digits):
    result, predictions, _ = digits
    saved = save_result(tmp_path, result, predictions)
    saved.path.write_text(saved.path.read_text().replace('"version": 1', '"version": 2'))
    with pytest.raises(UserError, match="version 2"):
        load_results(tmp_path)


def test_the_slug_is_a_file_name_for_any_configuration(tmp_path, digits):
    result, predictions, _ = digits
    hostile = {"dataset": "folder:/../a b\n" + "x" * 300, "layer": "../..", "head": "\x1b[31m"}
    saved = save_result(tmp_path, dataclasses.replace(result, config=hostile), predictions)
    assert saved.path.parent == tmp_path
    assert find_result(tmp_path, hostile) == saved
    assert "\x1b" not in str(saved.result)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object(), {1, 2}])
def test_a_value_without_a_form_in_json_is_refused_by_name(digits, value):
    with pytest.raises(ValueError, match="extra"):
        dataclasses.replace(digits[0], extra={"bad": value})


def test_a_result_prints_itself(digits):
    text = str(digits[0])
    for part in ("digits, resnet18", "797 test images", "alpha=1", "train + validation", "extract 1.5 s", "90.00 %"):
        assert part in text
    assert text == str(Result.from_json(json.loads(json.dumps(digits[0].to_json(), sort_keys=True))))
    assert "<script>" not in dataclasses.replace(digits[0], config={"dataset": "<script>"})._repr_html_()
    stopped = dataclasses.replace(digits[0], converged=False)
    assert "stopped before it converged" in str(stopped)
    network = dataclasses.replace(stopped, config={**stopped.config, "training": {"epochs": 3}})
    assert "validation was best at the end" in str(network)


def test_predictions_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="one length"):
        Predictions([0, 1], [0], [0, 1])
    with pytest.raises(ValueError, match="shape"):
        Predictions([0, 1], [0, 1], [0, 1], [[0.5, 0.5]])
    with pytest.raises(ValueError, match="come together"):
        Predictions([0], [0], [0], validation_rows=[1])


def test_environment_is_plain_and_names_no_machine():
    import platform

    found = this_environment()
    canonical_json(found)
    assert {"python", "torch", "numpy", "scikit-learn", "h5py", "layerprobe", "processor", "cores"} <= set(found)
    assert platform.node() not in found.values()


def test_listing_results_imports_neither_torch_nor_scikit_learn(tmp_path, digits):
    result, predictions, head = digits
    save_result(tmp_path, result, predictions, head)
    program = (
        "import sys; from classify.measure.results import load_results; from classify.show.tables import summary_table;"
        "print(summary_table([saved.result for saved in load_results(sys.argv[1])]));"
        "print(sorted({'torch', 'sklearn', 'joblib', 'scipy', 'rich'} & set(sys.modules)))"
    )
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, cwd=root, check=True
    )
    assert "layer2+layer3" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"
