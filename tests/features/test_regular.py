"""A pipe, a device or a socket in the place of a file is refused by its kind, and never waited for or read."""

import os
import socket
from pathlib import Path

import pytest
import torch

from classify.measure.results import find_result, load_results, open_result
from classify.show.report.documents import read_studies
from features.commands.configuration import replayed
from features.commands.parser import Parser
from features.datasets import open_dataset
from features.datasets.idx import read_idx
from features.datasets.images import read_image
from features.errors import UserError
from features.notes import Notes, read_json
from features.regular import open_regular
from features.store import FeatureFile
from features.store.naming import CacheError
from features.weights import read_state_dict, read_tables

KINDS = ["pipe", "socket", "device", "folder"]


def _put(path: Path, kind: str) -> Path:
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "device":
        # Without an end, and readable by all.
        path.symlink_to("/dev/zero")
    else:
        before = Path.cwd()
        os.chdir(path.parent)  # the name of a socket is short
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
        os.chdir(before)
    return path


@pytest.mark.timeout(60)
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_file_is_not_opened(tmp_path, kind):
    with pytest.raises(OSError):  # noqa: PT011
        open_regular(_put(tmp_path / "x", kind))


READERS = {
    "weights.pth": read_state_dict,
    "weights.safetensors": read_tables,
    "photo.png": read_image,
    "labels.csv": lambda path: open_dataset(f"csv:{path}"),
    "arrays.npz": lambda path: open_dataset(f"npz:{path}"),
    "images-idx3-ubyte": read_idx,
    "images-idx3-ubyte.gz": read_idx,
    "digits-ridge-0123456789.json": open_result,
    "features.h5": FeatureFile.open,
    "mine.toml": lambda path: replayed(Parser(prog="x"), ["--config", str(path)]),
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("kind", ["pipe", "device"])
@pytest.mark.parametrize("name", READERS)
def test_no_reader_waits_for_a_pipe_or_drinks_from_a_device(home, tmp_path, name, kind):
    with pytest.raises((UserError, CacheError)):
        READERS[name](_put(tmp_path / name, kind))


@pytest.mark.timeout(60)
@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_folders_with_pipes_in_them_are_read_without(home, tmp_path, kind):
    _put(tmp_path / "digits-ridge-0123456789.json", kind)
    _put(tmp_path / "study-x.json", kind)
    assert load_results(tmp_path) == [] and list(read_studies(tmp_path)) == []
    assert find_result(tmp_path, {"dataset": "digits"}) is None
    assert read_json(tmp_path / "study-x.json") is None
    notes, vital = Notes("plain"), Notes("vital", vital=True)
    for note in (notes, vital):
        note.folder.mkdir(parents=True)
        _put(note.place("q"), kind)
    assert notes.get("q") is None
    with pytest.raises(UserError, match="cannot be read"):
        vital.get("q")


STRANGE = {
    "meta": lambda: torch.empty(3, device="meta"),
    "sparse": lambda: torch.eye(3).to_sparse(),
    "csr": lambda: torch.eye(3).to_sparse_csr(),
    "quantised": lambda: torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.quint8),
    "stride 0": lambda: torch.zeros(1).expand(10**9),
}


@pytest.mark.parametrize("kind", STRANGE)
@pytest.mark.parametrize("nested", [False, True])
def test_a_tensor_that_is_no_plain_array_is_refused_by_its_name(tmp_path, kind, nested):
    state = {"conv.weight": torch.ones(2), "fc.weight": STRANGE[kind]()}
    torch.save({"state_dict": state, "epoch": 3} if nested else state, tmp_path / "net.pth")
    with pytest.raises(UserError, match=r"net\.pth"):
        read_tables(tmp_path / "net.pth")


def test_views_of_one_storage_are_weights(tmp_path):
    whole = torch.arange(6.0)
    torch.save({"a": whole[:3], "b": whole[3:], "c": whole.view(2, 3).t(), "d": torch.empty(0)}, tmp_path / "net.pth")
    assert set(read_state_dict(tmp_path / "net.pth")) == {"a", "b", "c", "d"}
