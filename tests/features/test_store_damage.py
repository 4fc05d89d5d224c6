"""Bytes that changed are found and named, wherever they are, and nothing is computed from them."""

import hashlib
import json
import os
import struct

import h5py
import numpy as np
import pytest

from features import store
from features.errors import UserError
from tests.features.store_cases import begin, carry_on, key, make, numbers


def _flip(path, at):
    with path.open("r+b") as stream:
        stream.seek(at)
        byte = stream.read(1)[0]
        stream.seek(at)
        stream.write(bytes([byte ^ (1 << at % 8)]))


def _read_everything():
    file = store.find(key())
    return file.features(), file.labels(), file.index()


def test_a_flipped_byte_anywhere_is_found_and_named(home):
    path = make(key()).path
    whole = path.read_bytes()
    random = np.random.default_rng(0)
    at = [*range(0, 80, 3), 500, *random.integers(0, 20_000, 60), *random.integers(0, len(whole), 100), len(whole) - 1]
    for place in map(int, at):
        _flip(path, place)
        with pytest.raises(UserError, match=r"(?s)python -m features remove ") as caught:
            store.find(key()).verify()
        assert path.name in str(caught.value)
        # Reading either fails or, where it does not touch the place, gives the right numbers.
        try:
            features, labels, _ = _read_everything()
        except UserError as error:
            assert path.name in str(error)
        else:
            np.testing.assert_array_equal(features, numbers())
            np.testing.assert_array_equal(labels, np.arange(len(features)) % 10)
        _flip(path, place)
    assert path.read_bytes() == whole
    store.find(key()).verify()


def test_damage_is_named_by_what_it_hits_and_spares_the_rest(home):
    path = make(key()).path
    with h5py.File(path) as file:
        places = {name: file[name].id.get_offset() for name in ("labels", "index", "features")}
        last = places["features"] + file["features"].id.get_storage_size() - 1
    sound = store.find(key())
    _flip(path, last)
    file = store.find(key())
    np.testing.assert_array_equal(file.features(np.arange(10)), numbers()[:10])
    for read in (file.features, file.whole, lambda: file.features([1499]), sound.features, file.verify):
        with pytest.raises(UserError, match=r"MiB 5 of 5 \(features of rows 14\d\d to 1499\)"):
            read()
    _flip(path, last)
    _flip(path, places["labels"])
    for read in (file.labels, file.verify):
        with pytest.raises(UserError, match=r"MiB 1 of 5 \(its description and its labels and its index"):
            read()


def test_blocks_are_verified_once_per_process_until_the_file_changes(home, monkeypatch):
    path = make(key()).path
    file = store.find(key())
    file.features()
    reads, preadv = [], os.preadv
    monkeypatch.setattr(os, "preadv", lambda *arguments: reads.append(arguments) or preadv(*arguments))
    store.find(key()).whole()
    assert all(at == 0 for _, _, at in reads)
    stat = path.stat()
    _flip(path, len(path.read_bytes()) // 2)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    with pytest.raises(UserError, match="damaged in MiB"):
        file.features()


def test_a_file_cut_short_anywhere_is_found(home):
    path = make(key()).path
    whole = path.read_bytes()
    lengths = [0, 1, 15, 16, 47, 71, 72, 100, 4095, len(whole) - 1]
    for length in [*lengths, *map(int, np.random.default_rng(0).integers(0, len(whole), 40))]:
        path.write_bytes(whole[:length])
        with pytest.raises(UserError, match="cut short|damaged in its beginning"):
            store.find(key())
        assert store.list_files() == []
    path.write_bytes(whole + b"\0")
    with pytest.raises(UserError, match="longer than it was"):
        store.find(key())


@pytest.mark.parametrize(
    "change",
    [
        {"shape": []},
        {"shape": [10**15, 701]},
        {"shape": [-1500, -701]},
        {"shape": "ab"},
        {"dtype": "object"},
        {"dtype": "float64"},
        {"size": 10**30},
        {"at": {}},
        {"at": {"labels": -8, "index": 0, "features": 0}},
        {"at": {"labels": 1e999, "index": 0, "features": 0}},
        {"about": {"dataset_name": 1, "layer_name": 2, "classes": [3], "weights_name": 4}},
        {"about": None},
        {"recipe": 5},
        {"key": {}},
        {"key": [1]},
    ],
)
def test_a_forged_description_with_a_right_checksum_is_refused(home, change):
    path = make(key()).path
    data = bytearray(path.read_bytes())
    start, length, blocks = struct.unpack("<QQQ", data[48:72])
    forged = json.dumps({**json.loads(data[72 : 72 + length]), **change}).encode()
    rest = forged + data[72 + length : 72 + length + 32 * blocks]
    data[48:start] = struct.pack("<QQQ", start, len(forged), blocks) + rest.ljust(start - 72, b"\0")
    assert len(data) == len(path.read_bytes())
    data[16:48] = hashlib.sha256(data[48:start]).digest()
    path.write_bytes(data)
    with pytest.raises(UserError, match="not understood|bytes instead of"):
        store.find(key())


def test_strangers_in_the_folder_are_refused_or_left_alone(home):
    make(key())
    folder = home / "features"
    name = store.feature_path(key(layer="layer2"), begin(key(layer="x"), (2, 2)).layout.about)
    with h5py.File(name, "w") as file:
        file["features"] = np.zeros((3, 3))
    with pytest.raises(UserError, match="damaged in its beginning"):
        store.find(key(layer="layer2"))
    (folder / "notes.h5").write_bytes(b"mine")
    assert len(store.list_files()) == 1


def test_a_damaged_partial_file_never_becomes_a_wrong_one(home):
    expected = make(key()).path
    whole = expected.read_bytes()
    expected.unlink()
    random = np.random.default_rng(1)
    for _ in range(20):
        file = begin(key())
        carry_on(file, numbers(), until=1200)
        file.close()
        (partial,) = expected.parent.glob("*.partial")
        place = int(random.integers(0, 20_000) if random.random() < 0.5 else random.integers(0, len(whole)))
        _flip(partial, place)
        (progress,) = expected.parent.glob("*.json")
        if random.random() < 0.3:
            _flip(progress, int(random.integers(0, progress.stat().st_size)))
        file = begin(key())
        carry_on(file, numbers())
        assert file.publish().path.read_bytes() == whole, place
        expected.unlink()
