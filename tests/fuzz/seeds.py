"""Inputs to start from, made in code: sound files of every kind that we read, and hostile ones."""

import gzip
import io
import json
import os
import pickle
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save

from classify.measure.metrics import measure
from classify.measure.outcome import Result
from classify.measure.results import sealed
from features.digests import sha256_json
from tests.features.store_cases import ABOUT, begin, carry_on, key, numbers
from tests.fuzz.guard import CANARY

CACHE_NAME = "mnist-train-resnet18-avgpool-avg-0123456789abcdef.h5"
STATE = save({"weight": torch.ones(3)})


class Malice:
    """Unpickled, it makes the file that says that code was run."""

    def __reduce__(self) -> tuple:
        return os.system, (f"touch '{os.environ.get(CANARY, '/dev/null')}'",)


def _bytes_of(write: Any) -> bytes:
    stream = io.BytesIO()
    write(stream)
    return stream.getvalue()


def _idx_of(array: np.ndarray) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


def idx(folder: Path) -> list[bytes]:
    """IDX files; the last promises more than there is memory for."""
    promise = struct.pack(">HBB3I", 0, 8, 3, 2**32 - 1, 2**32 - 1, 2**32 - 1)
    return [_idx_of(np.zeros((3, 4, 4), np.uint8)), _idx_of(np.arange(5, dtype=np.uint8)), promise]


def idx_gz(folder: Path) -> list[bytes]:
    """The same packed, and a bomb of 4 GB."""
    block, packer = bytes(1 << 20), io.BytesIO()
    with gzip.GzipFile(fileobj=packer, mode="wb", compresslevel=9) as stream:
        stream.write(struct.pack(">HBB1I", 0, 8, 1, (1 << 32) - 1))
        for _ in range(16):
            stream.write(block)
    # Members behind each other unpack to so many times as much, and cost one to make.
    return [*(gzip.compress(data) for data in idx(folder)), packer.getvalue() * 256]


def images(folder: Path) -> list[bytes]:
    """Every format that is read, and pictures that are far larger than their files."""
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8))
    made = [
        _bytes_of(lambda stream, form=form: picture.save(stream, form))
        for form in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM")
    ]
    grey = Image.new("I;16", (5, 5))
    made.append(_bytes_of(lambda stream: grey.save(stream, "PNG")))
    made.append(_bytes_of(lambda stream: picture.convert("RGBA").save(stream, "PNG")))
    made.append(_bytes_of(lambda stream: Image.new("1", (9000, 9000)).save(stream, "PNG")))
    made.append(_bytes_of(lambda stream: Image.new("1", (60_000, 40_000)).save(stream, "PNG")))
    return made


def zip_bomb(name: str, head: bytes = b"", packed: int = 3900) -> bytes:
    """A zip archive with one member that unpacks to `packed` MiB of zeros, made without packing them all.

    Its check sum is wrong, which only shows when it has been unpacked.
    """
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    begin = packer.compress(head) + packer.flush(zlib.Z_FULL_FLUSH)
    block = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    data = begin + block * packed + packer.flush()
    size = len(head) + (packed << 20)
    common = struct.pack("<HH", 20, 0) + struct.pack("<HHHIIIHH", 8, 0, 33, 0, len(data), size, len(name), 0)
    local = b"PK\3\4" + common + name.encode() + data
    central = b"PK\1\2" + struct.pack("<H", 20) + common + struct.pack("<HHHII", 0, 0, 0, 0, 0) + name.encode()
    end = b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, 1, 1, len(central), len(local), 0)
    return local + central + end


def npz(folder: Path) -> list[bytes]:
    """Data sets, pickled objects among the arrays, and a bomb."""
    pictures, labels = np.zeros((10, 4, 4), np.uint8), np.arange(10) % 2
    made = [
        _bytes_of(lambda stream: np.savez(stream, images=pictures, labels=labels)),
        _bytes_of(lambda stream: np.savez_compressed(stream, images=pictures / 2, labels=labels.astype(str))),
        _bytes_of(lambda stream: np.savez(stream, x_train=pictures, y_train=labels, x_test=pictures, y_test=labels)),
        _bytes_of(lambda stream: np.savez(stream, images=np.array([Malice()] * 10), labels=labels)),
        _bytes_of(lambda stream: np.savez(stream, images=pictures, labels=np.array([Malice()] * 10))),
    ]
    head = io.BytesIO()
    shape = (3900 << 10, 32, 32)
    np.lib.format.write_array_header_1_0(head, {"descr": "|u1", "fortran_order": False, "shape": shape})
    stream = io.BytesIO(zip_bomb("images.npy", head.getvalue()))
    with zipfile.ZipFile(stream, "a") as archive:
        archive.writestr("labels.npy", _bytes_of(lambda out: np.save(out, labels)))
    return [*made, stream.getvalue()]


def csv(folder: Path) -> list[bytes]:
    """Lists with and without a header, and with what does not belong into a path."""
    rows = b"a.png,cat,train\nb.png,dog,train\nc.png,cat,test\n"
    return [rows, b"path,label,split\n" + rows, b"a.png,cat\nb\0.png,dog\n", b'"' + b"x" * 200_000, b"\xff\xfe" + rows]


def pth(folder: Path) -> list[bytes]:
    """State dicts in both of torch's formats, pickles that run code, and a zip bomb."""
    state = {"weight": torch.ones(3, 4), "bias": torch.zeros(3)}
    made = [
        _bytes_of(lambda stream: torch.save(state, stream)),
        _bytes_of(lambda stream: torch.save({"state_dict": state}, stream, _use_new_zipfile_serialization=False)),
        _bytes_of(lambda stream: torch.save({"weight": Malice()}, stream)),
        _bytes_of(lambda stream: torch.save({"weight": Malice()}, stream, _use_new_zipfile_serialization=False)),
    ]
    return [*made, *(pickle.dumps(Malice(), protocol) for protocol in (0, 2, 4)), zip_bomb("net/data.pkl")]


def safetensors(folder: Path) -> list[bytes]:
    """Tensors of several types, and headers that lie."""
    made = [save({"weight": torch.ones(3, 4), "bias": torch.zeros(3, dtype=torch.float16)}), STATE]
    for header in (b"{}", b"[]", b'{"a":{"dtype":"F32","shape":[99999999999],"data_offsets":[0,4]}}', b"{" * 1000):
        made.append(struct.pack("<Q", len(header)) + header + bytes(4))
    return [*made, struct.pack("<Q", 2**63) + b"{}"]


def cache(folder: Path) -> list[bytes]:
    """A small complete file, and one whose attribute holds a pickled object."""
    import h5py

    whole = _cached(folder)
    evil = folder / "evil.h5"
    with h5py.File(evil, "w") as file:
        file["features"] = np.zeros((3, 3))
        file.attrs["key"] = np.void(pickle.dumps(Malice()))
        file.create_dataset("labels", data=np.void(pickle.dumps(Malice())))
    return [whole, evil.read_bytes()]


def _cached(folder: Path) -> bytes:
    os.environ["LAYERPROBE_HOME"] = str(folder / "seed-home")
    file = begin(key(), (20, 6), about=ABOUT)
    carry_on(file, numbers((20, 6)))
    path = file.publish().path
    whole = path.read_bytes()
    path.unlink()
    return whole


def partial(folder: Path) -> list[bytes]:
    """A record of progress and the file that it is about, one behind the other."""
    os.environ["LAYERPROBE_HOME"] = str(folder / "seed-home")
    file = begin(key(), (300, 6), about=ABOUT)
    carry_on(file, numbers((300, 6)), until=128)
    file.close()
    (progress,) = (folder / "seed-home" / "features").glob("*.progress.json")
    note = progress.read_bytes()
    return [struct.pack("<I", len(note)) + note + progress.with_name(progress.name[:-14] + ".partial").read_bytes()]


def result(folder: Path) -> list[bytes]:
    """A record of a result, and JSON that is none."""
    labels = np.arange(20) % 2
    config = {"dataset": "digits", "backbone": "resnet18", "layer": "avgpool", "head": "ridge", "seed": 0}
    made = Result(config=config, metrics=measure(labels, labels, None, ("a", "b")))
    body = {"format": "layerprobe result", "version": 1, "digest": made.digest, "files": {"predictions": "0" * 64}}
    record = json.dumps(sealed({**body, "result": made.to_json()})).encode()
    return [record, b"[]", b"{}", b"[" * 100_000, b'{"format":"layerprobe result","version":1}', b"1e999", b"NaN"]


def checkpoint(folder: Path) -> list[bytes]:
    """The index of a run, sealed and not."""
    import hashlib

    files = {"state-00001.safetensors": hashlib.sha256(STATE).hexdigest()}
    content = {
        "identity": {"seed": 0},
        "tensors": "state-00001.safetensors",
        "best": None,
        "values": {},
        "files": files,
    }
    index = {"content": content, "sha256": sha256_json(content)}
    return [json.dumps(index).encode(), json.dumps(content).encode(), b"[]", b"null"]


def head(folder: Path) -> list[bytes]:
    """A fitted head in skops' format, the same with other types and as a pickle, and a bomb."""
    from classify.heads import HEADS
    from classify.measure.kept_heads import in_skops_format

    features = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
    whole = in_skops_format(HEADS["ridge"].build().fit(features, np.arange(20) % 2))
    made = [whole, pickle.dumps(Malice()), zip_bomb("schema.json"), zip_bomb("1.npy")]
    for module, name in (("os", "system"), ("subprocess", "Popen"), ("builtins", "exec")):
        altered = io.BytesIO()
        with zipfile.ZipFile(io.BytesIO(whole)) as old, zipfile.ZipFile(altered, "w") as new:
            for entry in old.namelist():
                schema = json.loads(old.read(entry)) if entry == "schema.json" else None
                changed = json.dumps({**schema, "__class__": name, "__module__": module}) if schema else None
                new.writestr(entry, changed or old.read(entry))
        made.append(altered.getvalue())
    return made


def predictions(folder: Path) -> list[bytes]:
    """Predictions as a result keeps them, pickled objects among them, and a bomb."""
    labels = np.arange(20) % 2
    made = [
        _bytes_of(lambda stream: np.savez(stream, rows=np.arange(20), labels=labels, predicted=labels)),
        _bytes_of(lambda stream: np.savez(stream, rows=labels, labels=labels, predicted=np.array([Malice()] * 20))),
    ]
    made += [
        _bytes_of(lambda stream, arrays=arrays: np.savez(stream, **arrays))
        for arrays in (
            {"rows": np.arange(20), "labels": labels + 99, "predicted": labels},
            {"rows": -np.arange(20), "labels": labels, "predicted": labels},
            {"rows": np.int64(3), "labels": labels, "predicted": labels},
            {"rows": np.arange(20), "labels": labels, "predicted": labels.astype(str)},
            {"rows": np.arange(20), "labels": labels, "predicted": labels, "probabilities": np.full((20, 2), np.nan)},
        )
    ]
    start = io.BytesIO()
    np.lib.format.write_array_header_1_0(start, {"descr": "|u1", "fortran_order": False, "shape": (3900 << 20,)})
    return [*made, zip_bomb("predicted.npy", start.getvalue())]


def states(folder: Path) -> list[bytes]:
    """State dicts as torch saves them, plain, nested and of tensors that are no plain arrays."""
    plain = {"conv.weight": torch.ones(2, 3), "fc.bias": torch.zeros(2, dtype=torch.int64)}
    strange = (
        torch.empty(3, device="meta"),
        torch.eye(3).to_sparse(),
        torch.eye(3).to_sparse_csr(),
        torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.quint8),
        torch.zeros(1).expand(10**12),
        torch.zeros(3, dtype=torch.complex64),
        torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]),
    )
    made = [plain, {"state_dict": plain, "epoch": 3}, {"a": {"b": {"c": plain}}}, [plain, 1], {"x": Malice()}]
    made += [{**plain, "strange": tensor} for tensor in strange]
    return [_bytes_of(lambda stream, state=state: torch.save(state, stream)) for state in made]


def array_headers(folder: Path) -> list[bytes]:
    """Headers of arrays: what numpy writes, and what stops its parsers."""
    shapes = (b"(20,)", b"(-1,)", b"(10**15,)", b"('a',)", b"(3900000000,)")
    made = [b"{'descr': '<i8', 'fortran_order': False, 'shape': %s, }" % shape for shape in shapes]
    made += [b"{'descr': '|O', 'fortran_order': False, 'shape': (2,), }", b"{'descr': [('a', '<i8')], 'shape': (2,)}"]
    return [*made, b"((((", b"(" * 3000, b"[]", b"{'descr': '\xe9'", b"", b"{" * 200, b"1 if 1 else"]


def waiting(folder: Path) -> list[bytes]:
    """A head that waits for its test as it is packed, and pickles in its place."""
    from classify.heads import HEADS
    from classify.measure.kept_heads import in_skops_format

    features = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
    fitted = HEADS["ridge"].build().fit(features, np.arange(20) % 2)
    packed = in_skops_format({"classifier": fitted, "fields": json.dumps({"chosen": {}})}, compressed=False)
    return [packed, pickle.dumps(Malice()), zip_bomb("schema.json"), *head(folder)]


def answers(folder: Path) -> list[bytes]:
    """What a probe and a study keep, and lists where names should be."""
    common = {"version": 1, "answer": ["a"], "notes": [], "question": {}}
    probe = {**common, "format": "layerprobe probe", "rows": [], "layers": [], "best": {"result": "x.json"}}
    study = {**common, "format": "layerprobe study", "study": "where", "tables": [], "panels": [], "results": []}
    made = [
        probe,
        study,
        {**probe, "format": ["layerprobe probe"]},
        {**study, "results": [["x"]]},
        {**probe, "rows": 3},
    ]
    return [json.dumps(each).encode() for each in made]


def config(folder: Path) -> list[bytes]:
    """Files of options."""
    lines = (
        b'dataset = "digits"\nlimit = 100\nlayer = ["layer1", "avgpool"]\nseed = 1\n',
        b"limit = 1e999\nseed = nan\nlayer = [[]]\n",
        b'dataset = "x\\u0000y"\nconfig = "a.toml"\n',
        b"limit = " + b"[" * 20_000,
        b"a." * 5_000 + b"a = 1",
        b"limit = " + b"9" * 5_000,
        b"limit = 0x" + b"f" * 5_000,
        b"limit." + b"a." * 2_000 + b"a = 1",
        b'cluster = "tcp://there:1"\nlayer = ["fc", "--cluster=tcp://there:1"]\n',
    )
    return [b'command = "extract"\n' + each for each in lines] + [b"[extract]\nlimit = 1"]
