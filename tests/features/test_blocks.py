"""Features that stay in the store: the same numbers as in memory, whatever rows are asked for."""

import resource
import sys

import numpy as np
import pytest

from features import memory
from features.blocks import Blocks, in_memory
from features.errors import UserError
from features.store import CacheError
from tests.features.store_cases import key, make, numbers

RANDOM = np.random.default_rng(0)


@pytest.mark.parametrize("asked", [slice(100, 300), slice(None), RANDOM.integers(0, 900, 50), RANDOM.random(900) < 0.1])
def test_rows_of_one_file_and_of_several_side_by_side_are_those_of_the_array(home, asked):
    one, other = numbers((1500, 300)), numbers((900, 4, 5, 5), seed=1)
    rows = RANDOM.permutation(1500)[:900]
    blocks = Blocks([make(key(), one), make(key(layer="layer3"), other)], [rows, None])
    array = np.concatenate([one[rows], other.reshape(900, -1)], axis=1)
    assert blocks.shape == array.shape and blocks.nbytes == array.nbytes and len(blocks) == 900
    np.testing.assert_array_equal(blocks[asked], array[asked])
    some = RANDOM.permutation(900)[:333]
    np.testing.assert_array_equal(blocks.take(some)[10:40], array[some][10:40])
    np.testing.assert_array_equal(blocks.take(some).take(np.array([5, 5, 2]))[:], array[some][[5, 5, 2]])


def test_few_rows_far_apart_are_read_and_verified_as_well(home):
    features = numbers((4000, 700))
    file = make(key(), features)
    blocks = Blocks([file], [None])
    rows = RANDOM.permutation(4000)[:40]
    np.testing.assert_array_equal(blocks[rows], features[rows])
    with file.path.open("r+b") as stream:
        stream.seek(file.layout.at["features"] + int(rows[7]) * file.layout.row_bytes)
        stream.write(b"\x01\x02\x03\x04")
    with pytest.raises(CacheError, match="damaged in MiB"):
        blocks[rows]


def test_half_precision_is_read_as_float32_and_an_array_is_not_made_by_accident(home):
    features = numbers((100, 30)).astype(np.float16)
    blocks = Blocks([make(key(dtype="float16"), features, dtype="float16")], [None])
    assert blocks[:].dtype == blocks.dtype == np.float32
    np.testing.assert_array_equal(blocks[:], features.astype(np.float32))
    with pytest.raises(UserError, match="100 x 30 numbers would take 36 kB"):
        np.asarray(blocks)
    assert isinstance(in_memory(blocks), np.ndarray)
    with pytest.raises(ValueError, match="one number of rows"):
        Blocks([make(key(layer="a"), numbers((5, 2))), make(key(layer="b"), numbers((6, 2)))], [None, None])


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits of memory are looked up in /proc")
def test_what_limits_memory_is_seen(home, tmp_path, monkeypatch):
    had = memory.memory_at_hand()
    assert 50_000_000 < had < 10**14
    before = resource.getrlimit(resource.RLIMIT_DATA)
    used = memory._fields("/proc/self/status")["VmData"]
    resource.setrlimit(resource.RLIMIT_DATA, (used + 200_000_000, before[1]))
    try:
        assert 100_000_000 < memory.memory_at_hand() <= 200_000_000 + 5_000_000
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)
    group = tmp_path / "job"
    group.mkdir()
    (group / "memory.max").write_text("90000000\n")
    (group / "memory.current").write_text("70000000\n")
    (group / "memory.stat").write_text("anon 1\ninactive_file 30000000\n")
    (tmp_path / "memory.max").write_text("max\n")
    monkeypatch.setattr(memory, "_CGROUPS", tmp_path)
    told = memory.lines_of
    monkeypatch.setattr(memory, "lines_of", lambda path: ["0::/job"] if path == "/proc/self/cgroup" else told(path))
    assert memory.memory_at_hand() == 50_000_000
