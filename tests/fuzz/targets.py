"""What reads files from outside: each target writes bytes where a user would have them, and reads them as we do."""

import contextlib
import hashlib
import io
import json
import os
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import numpy as np

import extract.__main__ as extract
from classify.experiments import waiting
from classify.heads.network.checkpoint import Checkpoint
from classify.measure.metrics import measure
from classify.measure.outcome import Result
from classify.measure.results import SavedResult, load_results, sealed
from classify.show.report.documents import read_documents, read_studies
from features.datasets import open_dataset
from features.datasets.idx import read_idx
from features.datasets.images import ImageFiles
from features.digests import sha256_json
from features.errors import UserError
from features.notes import Notes, read_json
from features.store.reader import FeatureFile
from features.store.writer import PartialRecord
from features.weights import read_state_dict, read_tables
from tests.fuzz import seeds


@dataclass(frozen=True)
class Target:
    """name; make(folder): sound and hostile inputs; read(data, folder): what is done with an input."""

    name: str
    make: Callable[[Path], list[bytes]]
    read: Callable[[bytes, Path], object]


def _file(folder: Path, name: str, data: bytes) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def _idx(data: bytes, folder: Path) -> object:
    return read_idx(_file(folder, "train-images-idx3-ubyte", data))


def _idx_gz(data: bytes, folder: Path) -> object:
    return read_idx(_file(folder, "train-images-idx3-ubyte.gz", data))


def _image(data: bytes, folder: Path) -> object:
    return ImageFiles((_file(folder, "image.png", data),)).read(0)


def _npz(data: bytes, folder: Path) -> object:
    dataset = open_dataset(f"npz:{_file(folder, 'data.npz', data)}")
    return dataset.classes, [dataset.load(split) for split in dataset.splits]


def _csv(data: bytes, folder: Path) -> object:
    for name in ("a.png", "b.png", "c.png"):
        _file(folder, name, b"")
    return open_dataset(f"csv:{_file(folder, 'list.csv', data)}").fingerprint()


def _pth(data: bytes, folder: Path) -> object:
    return read_state_dict(_file(folder, "net.pth", data))


def _safetensors(data: bytes, folder: Path) -> object:
    return read_state_dict(_file(folder, "net.safetensors", data))


def _store(data: bytes, folder: Path) -> object:
    file = FeatureFile.open(_file(folder, seeds.CACHE_NAME, data))
    return file.features(), file.labels(), file.index(), file.verify()


def _store_sealed(data: bytes, folder: Path) -> object:
    """As `_store`, with the seal made to fit: what a forger would do, and what gets past the first check."""
    if len(data) > 72:
        start = min(max(struct.unpack("<Q", data[48:56])[0], 72), len(data))
        data = data[:16] + hashlib.sha256(data[48:start]).digest() + data[48:]
    return _store(data, folder)


def _partial(data: bytes, folder: Path) -> object:
    cut = int.from_bytes(data[:4], "little") % (len(data) + 1)
    path = _file(folder, f"{seeds.CACHE_NAME}.partial", data[4 + cut :])
    _file(folder, f"{seeds.CACHE_NAME}.progress.json", data[4 : 4 + cut])
    return PartialRecord.read(path)


def _result(data: bytes, folder: Path) -> object:
    for path in folder.glob("*.json"):
        path.unlink()
    _file(folder, "digits-resnet18-avgpool-ridge-0123456789.json", data)
    found = load_results(folder)
    return [(str(saved.result), saved.result.stem, saved.head_path) for saved in found]


def _result_sealed(data: bytes, folder: Path) -> object:
    """As `_result`, with the digests of the configuration and of the record made to fit."""
    try:
        record = json.loads(data)
        record["digest"] = sha256_json(record["result"]["config"])
        data = json.dumps(sealed(record)).encode()
    except (ValueError, TypeError, LookupError, RecursionError):
        pass
    return _result(data, folder)


def _checkpoint(data: bytes, folder: Path) -> object:
    _file(folder, "run/run.json", data)
    _file(folder, "run/state-00001.safetensors", seeds.STATE)
    return Checkpoint(folder / "run", {"seed": 0}).load()


def _note(data: bytes, folder: Path) -> object:
    with mock.patch.dict(os.environ, {"LAYERPROBE_HOME": str(folder)}):
        old, notes = Notes("fuzz", old="fuzz.json"), Notes("fuzz")
        notes.put("question", None)
        (place,) = notes.folder.glob("*.json")
        told = read_json(_file(folder, "fuzz.json", data)), old.get("question"), dict(old.items())
        sealed_note = b'{"sha256":"%s","note":%s}\n' % (hashlib.sha256(data).hexdigest().encode(), data)
        for text in (data, sealed_note):
            place.write_bytes(text)
            told += notes.get("question"), len(list(notes.items()))
        return told


def _saved(folder: Path, data: bytes) -> SavedResult:
    """A result that names these bytes as its files: what is read where somebody can write record and file."""
    labels = np.arange(20) % 2
    made = Result(config={"dataset": "digits", "head": "ridge"}, metrics=measure(labels, labels, None, ("a", "b")))
    digests = dict.fromkeys(("predictions", "head", "skops"), hashlib.sha256(data).hexdigest())
    return SavedResult(folder / "digits-ridge.json", made, digests)


def _head(data: bytes, folder: Path) -> object:
    _file(folder, "digits-ridge.skops", data)
    return _saved(folder, data).load_head()


def _predictions(data: bytes, folder: Path) -> object:
    _file(folder, "digits-ridge.npz", data)
    return _saved(folder, data).predictions()


def _states(data: bytes, folder: Path) -> object:
    path = _file(folder, "net.pth", data)
    return [{name: tensor.sum() for name, tensor in table.tensors.items()} for table in read_tables(path)]


def _array_header(data: bytes, folder: Path) -> object:
    """An array with these bytes for its header, as predictions and as a data set."""
    array = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(data) % 65536) + data[:65535] + bytes(200)
    told = []
    for names, read in ((("rows", "labels", "predicted"), _predictions), (("x_train", "y_train"), _npz)):
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w") as archive:
            for name in (*names, "x_test", "y_test") if read is _npz else names:
                archive.writestr(f"{name}.npy", array)
        try:
            told.append(read(stream.getvalue(), folder))
        except UserError as error:
            told.append(error)
    return told


def _waiting(data: bytes, folder: Path) -> object:
    """With the SHA-256 that stands before it: what somebody can write who may write to a home."""
    content = b"layerprobe fitted 3\n" + hashlib.sha256(data).digest() + data
    return waiting.read(_file(folder, "row.fitted", content))


def _answer(data: bytes, folder: Path) -> object:
    for name in ("probe-x.json", "compare-x.json", "study-x.json"):
        _file(folder, name, data)
    return list(read_documents(folder)), list(read_studies(folder))


def _config(data: bytes, folder: Path) -> object:
    arguments = ["--config", str(_file(folder, "options.toml", data))]
    with contextlib.suppress(SystemExit), contextlib.redirect_stderr(io.StringIO()):
        return extract._parser().parse_args(arguments)


TARGETS = {
    target.name: target
    for target in (
        Target("idx", seeds.idx, _idx),
        Target("idx.gz", seeds.idx_gz, _idx_gz),
        Target("image", seeds.images, _image),
        Target("npz", seeds.npz, _npz),
        Target("csv", seeds.csv, _csv),
        Target("pth", seeds.pth, _pth),
        Target("safetensors", seeds.safetensors, _safetensors),
        Target("cache", seeds.cache, _store),
        Target("cache-sealed", seeds.cache, _store_sealed),
        Target("partial", seeds.partial, _partial),
        Target("result", seeds.result, _result),
        Target("result-sealed", seeds.result, _result_sealed),
        Target("checkpoint", seeds.checkpoint, _checkpoint),
        Target("note", seeds.result, _note),
        Target("head", seeds.head, _head),
        Target("predictions", seeds.predictions, _predictions),
        Target("config", seeds.config, _config),
        Target("states", seeds.states, _states),
        Target("array-header", seeds.array_headers, _array_header),
        Target("waiting", seeds.waiting, _waiting),
        Target("answer", seeds.answers, _answer),
    )
}
