"""Files made in shards: read as any other, never with a shard missing, and made into one byte for byte."""

import dataclasses

import h5py
import numpy as np
import pytest

from features import store
from features.commands.cache import main
from features.digests import sha256_rows
from tests.features.store_cases import ABOUT, RECIPE, key, numbers, partial_records

ROWS, SIZE = 1000, 384
INDEX = np.random.default_rng(1).permutation(5000)[:ROWS]
LABELS = INDEX % 10


def _key(**changes):
    return key(rows=sha256_rows(INDEX), **changes)


def _write(file, features):
    file.write(0, features)
    file.commit(len(features))
    return file.publish()


def _shard(division, features, number):
    here = division.rows_of(number)
    file = store.PartialFile.open(
        division.key_of(INDEX[here]), division.about, shape=features[here].shape, dtype="float32",
        labels=LABELS[here], index=INDEX[here], recipe=division.recipe, folder=division.folder,
    )  # fmt: skip
    return _write(file, features[here]).path.name


def _joined(features, of=None):
    division = store.Division(of or _key(), ABOUT, ROWS, SIZE, RECIPE).keep()
    return store.join(division, [_shard(division, features, number) for number in range(len(division))])


def _single(features):
    file = store.PartialFile.open(
        _key(), ABOUT, shape=features.shape, dtype="float32", labels=LABELS, index=INDEX, recipe=RECIPE
    )
    return _write(file, features)


@pytest.mark.parametrize("shape", [(ROWS, 701), (ROWS, 8, 3, 3)])
def test_a_file_in_shards_is_read_as_any_other(home, shape):
    features = numbers(shape)
    _joined(features)
    found = store.find(_key())
    assert isinstance(found, store.ShardedFile)
    assert (found.shape, found.key, found.about) == (shape, _key(), ABOUT)
    np.testing.assert_array_equal(found.features(), features)
    np.testing.assert_array_equal(found.whole(), features)
    rows = np.random.default_rng(2).integers(0, ROWS, 700)
    np.testing.assert_array_equal(found.features(rows), features[rows])
    np.testing.assert_array_equal(found.features(LABELS == 3), features[LABELS == 3])
    np.testing.assert_array_equal(found.labels(), LABELS)
    np.testing.assert_array_equal(found.index(), INDEX)
    with pytest.raises(IndexError):
        found.features(np.array([ROWS]))


def test_other_tools_see_one_data_set_from_any_folder(home, tmp_path, monkeypatch):
    features = numbers((ROWS, 701))
    path = _joined(features).path
    monkeypatch.chdir(tmp_path)
    with h5py.File(path) as file:
        assert file["features"].is_virtual
        np.testing.assert_array_equal(file["features"][:], features)
        np.testing.assert_array_equal(file["labels"][:], LABELS)


@pytest.mark.parametrize("harm", ["missing", "flipped", "another"])
def test_a_missing_damaged_or_exchanged_shard_is_named_where_hdf5_reads_numbers(home, harm):
    features = numbers((ROWS, 701))
    joined = _joined(features)
    shard = joined.shard(1).path
    if harm == "missing":
        shard.unlink()
    elif harm == "flipped":
        with shard.open("r+b") as stream:
            stream.seek(-1000, 2)
            stream.write(b"\x55" * 8)
    else:
        shard.unlink()
        _shard(store.begun_division(_key()), 2 * features, 1)
    with h5py.File(joined.path) as file:
        if harm == "missing":
            assert not file["features"][SIZE : 2 * SIZE].any()
        assert not np.array_equal(file["features"][:], features)
    found = store.find(_key())
    np.testing.assert_array_equal(found.features(np.arange(SIZE)), features[:SIZE])
    for reading in (found.features, found.verify):
        with pytest.raises(store.CacheError, match=shard.name[:40].replace("+", ".")) as caught:
            reading()
        assert f"python -m features remove {joined.path.name}" in str(caught.value)
    assert main(["verify"]) == 1


def test_what_one_machine_had_begun_goes_when_its_file_is_joined(home):
    features = numbers((ROWS, 20))
    about = dataclasses.replace(ABOUT, dataset_name="another name of the same data")
    alone = store.PartialFile.open(
        _key(), about, shape=features.shape, dtype="float32", labels=LABELS, index=INDEX, recipe=RECIPE
    )
    alone.close()
    assert len(partial_records()) == 1
    joined = _joined(features)
    assert {path.name for path in joined.path.parent.iterdir()} == {joined.path.name, f"{joined.path.name}.shards"}
    assert main(["compact"]) == 0
    np.testing.assert_array_equal(store.find(_key()).features(), features)


def test_shards_are_not_joined_unless_they_make_up_the_file(home):
    features = numbers((ROWS, 20))
    division = store.Division(_key(), ABOUT, ROWS, SIZE, RECIPE).keep()
    names = [_shard(division, features, number) for number in range(3)]
    for wrong in (names[:2], [names[1], names[0], names[2]], [*names, names[2]]):
        with pytest.raises(store.CacheError):
            store.join(division, wrong)
    other = dataclasses.replace(division, recipe={**RECIPE, "batch": 7})
    with pytest.raises(store.CacheError, match="not those"):
        store.join(other, names)
    assert store.find(_key()) is None
    assert store.join(division, names).shape == (ROWS, 20)


def test_another_division_starts_over_and_the_same_one_does_not(home):
    features = numbers((ROWS, 20))
    division = store.Division(_key(), ABOUT, ROWS, SIZE, RECIPE).keep()
    _shard(division, features, 0)
    key_of_first = division.key_of(INDEX[:SIZE])
    assert store.Division(_key(), ABOUT, ROWS, SIZE, RECIPE).keep().find(key_of_first) is not None
    assert store.begun_division(_key()) == division
    other = dataclasses.replace(division, recipe={**RECIPE, "batch": 7}).keep()
    assert other.find(key_of_first) is None
    assert [path.name for path in other.folder.iterdir()] == ["shards.json"]


def test_compacted_it_is_the_file_of_one_machine_byte_for_byte(home, tmp_path, monkeypatch, capsys):
    features = numbers((ROWS, 701))
    monkeypatch.setenv("LAYERPROBE_HOME", str(tmp_path / "single"))
    expected = _single(features).path
    monkeypatch.setenv("LAYERPROBE_HOME", str(home))
    joined = _joined(features)
    assert joined.path.name == expected.name and joined.path.read_bytes() != expected.read_bytes()
    assert main(["compact", joined.path.name[-19:-11]]) == 0
    assert "compacted" in capsys.readouterr().out
    assert joined.path.read_bytes() == expected.read_bytes()
    assert [path.name for path in joined.path.parent.iterdir()] == [joined.path.name]
    assert main(["compact"]) == 0


def test_the_cache_command_lists_verifies_and_removes_shards(home, capsys):
    features = numbers((ROWS, 20))
    division = store.Division(_key(), ABOUT, ROWS, SIZE, RECIPE).keep()
    names = [_shard(division, features, number) for number in (0, 1)]
    assert main([]) == 0
    assert "76 %" in capsys.readouterr().out
    joined = store.join(division, [*names, _shard(division, features, 2)])
    assert main([]) == 0
    out = capsys.readouterr().out
    assert "1 complete, 0 not" in out and "3 shards" in out
    assert main(["verify"]) == 0
    foreign = division.folder / "notes.txt"
    foreign.write_text("mine")
    assert main(["remove", joined.path.name]) == 0
    assert list(joined.path.parent.rglob("*")) == [division.folder, foreign]
