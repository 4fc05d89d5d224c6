"""Files that somebody forged, and streams that somebody closed: one line and status 2, whatever is in them."""

import io
import json
import os
import struct
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest

from classify.measure.choice import merit_of
from classify.measure.metrics import measure
from classify.measure.results import Predictions, Result, load_results, sealed
from classify.measure.saving import save_result
from classify.show.report.documents import read_documents
from features.commands.configuration import replayed
from features.commands.parser import Parser
from features.datasets import open_dataset
from features.digests import sha256_file
from features.errors import UserError

ROOT = Path(__file__).parent.parent
CONFIGURATIONS = {
    "a number of 5,000 digits": f"limit = {'9' * 5000}",
    "5,000 hexadecimal digits": f"limit = 0x{'f' * 5000}",
    "a dotted key of 400 kB": f"{'a.' * 200_000}a = 1",
    "a dotted key under an option": f"limit.{'a.' * 5000}a = 1",
    "nested lists": f"limit = {'[' * 5000}{']' * 5000}",
    "a float of many digits": f"limit = {'9' * 5000}.0",
    "a date": "limit = 1979-05-27T07:32:00Z",
    "infinity": "limit = inf",
    "bytes": "\x00",
}


def _parser():
    parser = Parser(prog="python -m extract")
    parser.add_argument("--limit", type=int)
    return parser


@pytest.mark.parametrize("kind", CONFIGURATIONS)
def test_a_configuration_of_any_size_and_depth_gets_one_line(tmp_path, kind):
    path = tmp_path / "mine.toml"
    path.write_text(f'command = "extract"\n{CONFIGURATIONS[kind]}\n')
    started = time.process_time()
    with pytest.raises(UserError) as caught:
        replayed(_parser(), ["--config", str(path)])
    assert time.process_time() - started < 20 and len(str(caught.value)) < 1000


def _npy(header: str) -> bytes:
    padded = header.encode("latin1") + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(padded)) + padded + bytes(64)


HEADERS = {
    "brackets": "((((",
    "deep": "(" * 5000,
    "no dictionary": "[]",
    "an unknown type": "{'descr': 'zz', 'fortran_order': False, 'shape': (2,)}",
    "objects": "{'descr': '|O', 'fortran_order': False, 'shape': (2,)}",
    "a negative shape": "{'descr': '<i8', 'fortran_order': False, 'shape': (-2,)}",
    "a huge shape": "{'descr': '<i8', 'fortran_order': False, 'shape': (10**15,)}",
    "a shape of text": "{'descr': '<i8', 'fortran_order': False, 'shape': ('a',)}",
    "unclosed": "{'descr': '<i8",
    "other letters": "{'descr': '\xe9', 'fortran_order': False, 'shape': (2,)}",
    "fields": "{'descr': [('a', '<i8')], 'fortran_order': False, 'shape': (2,)}",
}


@pytest.mark.parametrize("kind", HEADERS)
def test_an_array_with_any_header_gets_one_line(home, tmp_path, kind):
    with zipfile.ZipFile(tmp_path / "data.npz", "w") as archive:
        for name in ("x_train", "y_train", "x_test", "y_test"):
            archive.writestr(f"{name}.npy", _npy(HEADERS[kind]))
    with pytest.raises(UserError, match=r"data\.npz"):
        open_dataset(f"npz:{tmp_path / 'data.npz'}").load("train")


def _saved(folder):
    labels = np.arange(6) % 2
    probabilities = np.full((6, 2), 0.5, np.float32)
    predictions = Predictions(np.arange(6), labels, labels, probabilities)
    return save_result(folder, Result({"dataset": "x"}, measure(labels, labels, probabilities)), predictions)


def _forged(folder, content: bytes):
    """The same record, whose predictions are these bytes: whoever writes both writes both digests."""
    saved = _saved(folder)
    saved.path.with_suffix(".npz").write_bytes(content)
    record = json.loads(saved.path.read_text())
    record["files"]["predictions"] = sha256_file(saved.path.with_suffix(".npz"), fresh=True)
    saved.path.write_text(json.dumps(sealed(record)))
    return load_results(folder)[0]


def _arrays(**changed) -> bytes:
    labels = np.arange(6) % 2
    stream = io.BytesIO()
    arrays = {"rows": np.arange(6), "labels": labels, "predicted": labels, **changed}
    np.savez(stream, **{name: value for name, value in arrays.items() if value is not None})
    return stream.getvalue()


FORGED = {
    "a label beyond the classes": _arrays(labels=np.full(6, 99)),
    "negative labels": _arrays(labels=np.full(6, -1)),
    "negative rows": _arrays(rows=-np.arange(6)),
    "fewer rows": _arrays(rows=np.arange(5), labels=np.zeros(5), predicted=np.zeros(5)),
    "text": _arrays(predicted=np.full(6, "cat")),
    "complex numbers": _arrays(predicted=np.full(6, 1j)),
    "fields": _arrays(predicted=np.zeros(6, [("a", int)])),
    "no numbers": _arrays(probabilities=np.full((6, 2), np.nan)),
    "a scalar": _arrays(rows=np.int64(3)),
    "an array too many": _arrays(more=np.arange(6)),
    "an array too few": _arrays(labels=None),
    "half of the validation": _arrays(validation_rows=np.arange(2)),
    "no archive": b"PK\x05\x06" + bytes(18),
    "nothing": b"",
    **{f"header: {kind}": None for kind in HEADERS},
}


@pytest.mark.parametrize("kind", FORGED)
def test_forged_predictions_get_one_line(tmp_path, kind):
    content = FORGED[kind]
    if content is None:
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w") as archive:
            for name in ("rows", "labels", "predicted"):
                archive.writestr(f"{name}.npy", _npy(HEADERS[kind.removeprefix("header: ")]))
        content = stream.getvalue()
    with pytest.raises(UserError, match=r"no predictions in it") as caught:
        _forged(tmp_path, content).predictions()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [["layerprobe probe"], {}, None, 3, True])
def test_an_answer_whose_format_is_no_name_is_none(tmp_path, value):
    (tmp_path / "probe-x.json").write_text(json.dumps({"format": value, "version": 1}))
    assert list(read_documents(tmp_path)) == []


@pytest.mark.parametrize("stream", [0, 1, 2])
def test_a_closed_stream_is_one_line_and_a_status(home, tmp_path, stream):
    script = "import sys; from features.__main__ import main, run_command; sys.exit(run_command(main))"
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            f"import os; os.close({stream}); os.execv({sys.executable!r}, [{sys.executable!r}, '-c', {script!r}])",
        ],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "LAYERPROBE_HOME": str(home)},
    )
    assert "Traceback" not in done.stderr
    if stream == 1:
        assert done.returncode == 2
        assert done.stderr == "error: the standard output is closed; leave it open, or send it to /dev/null\n"
    else:
        assert done.returncode == 0 and "empty" in done.stdout


EXTRAS = {
    "a calibration without numbers": {"calibration": {}},
    "a calibration of text": {"calibration": {"temperature": 1.0, "log_loss_before": "x", "ece_before": "x",
                                              "log_loss_after": 0.1, "ece_after": 0.1}},
    "half of a half": {"half": {"accuracy": 0.5}},
    "a half of text": {"half": {"accuracy": "x", "whole": 1.0, "p_value": 0.1}},
    "what is seen as nothing": {"seen_as": {"0": [["x"]]}},
    "what is seen as words": {"seen_as": {"0": [["x", "y"]]}},
    "a number beyond all": {"peak_host_bytes": 10**400},
    "a share beyond all": {"unlike": 10**400},
}  # fmt: skip


@pytest.mark.parametrize("kind", EXTRAS)
def test_a_forged_note_in_a_record_gets_one_line(tmp_path, kind):
    path = _saved(tmp_path).path
    record = json.loads(path.read_text())
    record["result"]["extra"] |= EXTRAS[kind]
    path.write_text(json.dumps(sealed(record)))
    with pytest.raises(UserError, match=path.name) as caught:
        load_results(tmp_path)
    assert len(str(caught.value).splitlines()) == 1


def test_forged_scores_are_neither_better_than_all_right_nor_a_crash():
    for value, rows in ((5.0, 100), (-3.0, 100), (1e308, 2**63), (0.5, -7)):
        forged = merit_of({"accuracy": value, "rows": rows}, "accuracy", numbers=None, name="forged")
        assert forged.rank <= 1 and forged.near >= 0
    assert merit_of({"accuracy": 0.5}, "accuracy", numbers=None, name="forged").rank < 0.5


def test_predictions_out_of_other_folds_than_the_record_counts_get_one_line(tmp_path):
    labels = np.arange(6) % 2
    for folds in (None, np.array([0, 1, 2, 0, 1, 7]), np.array([0, 1, -2, 0, 1, 1])):
        folder = tmp_path / f"{folds is None}-{folds is not None and folds.max()}"
        result = Result({"dataset": "x"}, measure(labels, labels), extra={"outer": [{"rows": 2.0}] * 3})
        saved = save_result(folder, result, Predictions(np.arange(6), labels, labels, folds=folds))
        with pytest.raises(UserError, match="no predictions in it .*not those of 3 folds"):
            saved.predictions()
