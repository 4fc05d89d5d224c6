"""The store: what is written is what is read, under the right key, whole or not at all."""

import dataclasses
import errno
import json
import os
import shutil
import subprocess
import sys

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features import store
from features.errors import UserError
from features.key import DTYPES, CacheKey
from tests.features import store_cases
from tests.features.store_cases import ABOUT, RECIPE, ROWS, STEP, WIDTH, begin, carry_on, key, make, numbers

TEXT = st.text(max_size=20)


@given(
    st.builds(
        CacheKey,
        **dict.fromkeys(("dataset", "split", "rows", "backbone", "weights", "layer", "pool"), TEXT),
        **dict.fromkeys(("preprocessing", "precision", "dtype"), TEXT),
        image_size=st.integers(0, 10**6),
        format=st.integers(0, 9),
    )
)
def test_a_key_survives_json_and_its_digest_with_it(some):
    back = CacheKey.from_json(json.loads(json.dumps(some.to_json())))
    assert back == some
    assert back.digest == some.digest
    name = store.feature_path(some, ABOUT).name
    assert "/" not in name and len(name.encode()) < 255 and name.endswith(f"-{some.digest[:16]}.h5")


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(CacheKey)])
def test_every_field_of_the_key_leads_to_another_file(field):
    value = getattr(key(), field)
    other = dataclasses.replace(key(), **{field: value + 1 if isinstance(value, int) else value + "x"})
    assert store.feature_path(key(), ABOUT) != store.feature_path(other, ABOUT)


@pytest.mark.parametrize("shape", [(1, 1), (5, 3), (ROWS, WIDTH), (40, 30, 12, 13)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_what_is_written_is_read(home, shape, dtype):
    features = numbers(shape)
    file = make(key(dtype=dtype), features, dtype=dtype)
    found = store.find(key(dtype=dtype))
    assert found.path == file.path and found.key == key(dtype=dtype) and found.about == ABOUT
    assert found.shape == shape and found.dtype == dtype and RECIPE.items() <= found.recipe.items()
    expected = features.astype(dtype)
    assert found.features().dtype == dtype
    np.testing.assert_array_equal(found.features(), expected)
    np.testing.assert_array_equal(found.whole(), expected)
    assert not found.whole().flags.writeable
    np.testing.assert_array_equal(found.labels(), np.arange(shape[0]) % 10)
    np.testing.assert_array_equal(found.index(), np.arange(shape[0])[::-1])
    assert found.labels().dtype == found.index().dtype == np.int64
    assert sorted(path.name for path in file.path.parent.iterdir()) == [file.path.name]


def test_other_tools_read_it_as_plain_hdf5(home):
    path = make(key()).path
    with h5py.File(path) as file:
        np.testing.assert_array_equal(file["features"][:], numbers())
        assert file["features"].chunks is None and file["features"].compression is None
        assert CacheKey.from_json(json.loads(file.attrs["key"])) == key()
        assert json.loads(file["recipe"][()])["store"]["h5py"] == h5py.__version__
        assert json.loads(file["about"][()])["weights_name"] == "a stand-in"


def test_rows_in_any_order_and_masks(home):
    features = numbers()
    make(key(), features)
    file = store.find(key())
    random = np.random.default_rng(0)
    for rows in (
        random.permutation(ROWS),
        random.integers(0, ROWS, 50),
        np.arange(700, 900),
        np.array([ROWS - 1]),
        np.array([], int),
        [3, 1],
    ):
        np.testing.assert_array_equal(file.features(rows), features[np.asarray(rows, int)])
    mask = random.random(ROWS) < 0.1
    np.testing.assert_array_equal(file.features(mask), features[mask])
    for wrong in ([ROWS], [-1], mask[:-1]):
        with pytest.raises(IndexError):
            file.features(wrong)


def test_the_same_features_give_the_same_bytes(home, tmp_path, monkeypatch):
    first = make(key()).path
    monkeypatch.setenv("LAYERPROBE_HOME", str(tmp_path / "elsewhere"))
    assert make(key()).path.read_bytes() == first.read_bytes()


def test_nothing_is_found_before_it_is_published(home):
    file = begin(key())
    carry_on(file, numbers())
    assert store.find(key()) is None and store.list_files() == []
    assert [(one.rows_done, one.shape) for one in store_cases.partial_records()] == [(ROWS, (ROWS, WIDTH))]
    file.publish()
    assert store.find(key()) is not None and store_cases.partial_records() == []


def test_another_layer_is_never_returned(home):
    made = make(key())
    assert store.find(key(layer="layer3")) is None
    other = store.feature_path(key(layer="layer3"), ABOUT)
    made.path.rename(other)
    with pytest.raises(UserError, match="layer is 'layer4' instead of 'layer3'"):
        store.find(key(layer="layer3"))


def test_the_nearest_file_explains_a_miss(home):
    assert store.nearest(key()) is None
    make(key(layer="layer1", image_size=64))
    make(key(image_size=112))
    file, differences = store.nearest(key())
    assert file.key.image_size == 112 and differences == {"image_size": (224, 112)}


def test_a_partial_file_is_carried_on(home):
    features = numbers()
    file = begin(key())
    carry_on(file, features, until=4 * STEP)
    file.write(4 * STEP, features[4 * STEP : 5 * STEP])  # never recorded
    file.close()
    assert store.existing_partial(key()).recipe == RECIPE
    file = begin(key())
    assert file.rows_done == 4 * STEP
    # Layers that advance together start at the row of the slowest: rows that are there keep their values.
    file.write(3 * STEP, np.concatenate([np.zeros((STEP, WIDTH)), features[4 * STEP : 5 * STEP]]))
    file.commit(3 * STEP)
    assert file.rows_done == 4 * STEP
    file.commit(5 * STEP)
    carry_on(file, features)
    np.testing.assert_array_equal(file.publish().features(), features)


def test_people_may_call_the_data_set_otherwise_when_they_carry_on(home):
    file = begin(key())
    carry_on(file, numbers(), until=STEP)
    file.close()
    file = begin(key(), about=dataclasses.replace(ABOUT, dataset_name="folder:/elsewhere"))
    assert file.rows_done == STEP
    carry_on(file, numbers())
    assert file.publish().about == ABOUT


@pytest.mark.parametrize("change", ["recipe", "shape", "h5py"])
def test_anything_else_that_changed_starts_over(home, monkeypatch, change):
    file = begin(key())
    carry_on(file, numbers(), until=5 * STEP)
    file.close()
    shape, recipe = (ROWS, WIDTH), RECIPE
    if change == "recipe":
        recipe = {**RECIPE, "torch": "2.1"}
    elif change == "shape":
        shape = (ROWS, WIDTH + 1)
    else:
        monkeypatch.setattr(h5py, "__version__", "0.0.0")
    file = begin(key(), shape, recipe)
    assert file.rows_done == 0
    carry_on(file, numbers(shape, seed=1))
    np.testing.assert_array_equal(file.publish().features(), numbers(shape, seed=1))
    assert len(list(file.path.parent.iterdir())) == 1


@pytest.mark.parametrize(
    "record", [None, "", "{", "[]", "null", '{"rows_done": 5}', "\0" * 90, '{"rows_done": true, "tail": "x"}']
)
def test_a_lost_or_garbled_record_starts_over(home, record):
    file = begin(key())
    carry_on(file, numbers(), until=5 * STEP)
    file.close()
    (path,) = file.path.parent.glob("*.progress.json")
    if record is None:
        path.unlink()
    else:
        path.write_text(record)
    assert store.existing_partial(key()) is None
    file = begin(key())
    assert file.rows_done == 0
    carry_on(file, numbers())
    np.testing.assert_array_equal(file.publish().features(), numbers())


@pytest.mark.parametrize("rows", [-1, ROWS + 1, 10**30, "5", 5.0, None])
def test_an_impossible_record_starts_over(home, rows):
    file = begin(key())
    carry_on(file, numbers(), until=5 * STEP)
    file.close()
    (path,) = file.path.parent.glob("*.progress.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), "rows_done": rows}))
    assert begin(key()).rows_done == 0


def test_rows_that_the_disk_lost_after_they_were_recorded_are_written_again(home):
    expected = make(key()).path
    whole = expected.read_bytes()
    expected.unlink()
    random = np.random.default_rng(0)
    for _ in range(12):
        file = begin(key())
        carry_on(file, numbers(), until=9 * STEP)
        file.close()
        (partial,) = expected.parent.glob("*.partial")
        with h5py.File(partial) as opened:
            first = opened["features"].id.get_offset()
        at = int(random.integers(first, first + 9 * STEP * WIDTH * 4))
        with partial.open("r+b") as stream:
            stream.seek(at)
            stream.write(bytes(min(4096, first + 9 * STEP * WIDTH * 4 - at)))
        file = begin(key())
        assert file.rows_done * WIDTH * 4 <= at - first
        carry_on(file, numbers())
        assert file.publish().path.read_bytes() == whole
        expected.unlink()


def test_misuse_is_loud(home):
    file = begin(key())
    with pytest.raises(ValueError, match="in order"):
        file.write(1, numbers()[:2])
    with pytest.raises(ValueError, match="do not fit"):
        file.write(0, numbers((2, WIDTH + 1)))
    with pytest.raises(ValueError, match="are written"):
        file.commit(1)
    with pytest.raises(ValueError, match="not complete"):
        file.publish()
    with pytest.raises(ValueError, match="float16"):
        begin(key(), dtype="float16")
    with pytest.raises(ValueError, match="labels"):
        store.PartialFile.open(
            key(), ABOUT, shape=(3, 1), dtype="float32", labels=np.arange(2), index=np.arange(3), recipe={}
        )


def test_float16_refuses_what_it_cannot_hold(home):
    file = begin(key(dtype="float16"), (2, 3), dtype="float16")
    with pytest.raises(UserError, match="7e\\+04, more than float16"):
        file.write(0, np.array([[1, 70000, 2]], np.float32))
    file.write(0, np.array([[1, np.inf, 65504]], np.float32))


def test_a_disk_too_small_is_known_before_anything_is_written(home, monkeypatch):
    free = store.disk.shutil.disk_usage(home)._replace(free=100 << 20)
    monkeypatch.setattr("shutil.disk_usage", lambda path: free)
    store.check_disk(60 << 20)
    with pytest.raises(UserError, match=r"105 MB free and 138 MB are needed; make room for 33\.6 MB more"):
        store.check_disk(100 << 20)
    assert not (home / "features").exists()
    begin(key(), (3000, 3000)).close()
    store.check_disk(100 << 20, keys=[key()])
    with pytest.raises(UserError):
        store.check_disk(100 << 20, keys=[key(layer="layer3")])


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_disk_that_fills_up_says_so_and_the_pass_carries_on_later(home, monkeypatch, code):
    complete = make(key(layer="layer3"))
    file = begin(key())
    carry_on(file, numbers(), until=4 * STEP)
    pwrite, room = os.pwrite, [STEP * WIDTH * 4 + 1000]

    def small(descriptor, data, at):
        if room[0] <= 0:
            raise OSError(code, os.strerror(code))
        count = pwrite(descriptor, data[: room[0]], at)
        room[0] -= count
        return count

    monkeypatch.setattr(os, "pwrite", small)
    with pytest.raises(UserError, match="is full.*make room and run the same command again"):
        carry_on(file, numbers())
    file.close()
    monkeypatch.undo()
    monkeypatch.setenv("LAYERPROBE_HOME", str(home))
    np.testing.assert_array_equal(complete.features(), numbers())
    file = begin(key())
    assert file.rows_done >= 4 * STEP
    carry_on(file, numbers())
    np.testing.assert_array_equal(file.publish().features(), numbers())


def test_a_disk_without_room_for_the_whole_file_gives_back_what_it_took(home, monkeypatch):
    def full(descriptor, at, length):
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(UserError, match="is full"):
        begin(key())
    assert list((home / "features").iterdir()) == []


@pytest.mark.skipif(os.getuid() == 0 and not shutil.which("setpriv"), reason="root may write anywhere")
def test_a_read_only_folder_says_so(tmp_path):
    home = tmp_path / "locked"
    (home / "features").mkdir(parents=True)
    (home / "features").chmod(0o555)
    code = (
        "from tests.features.store_cases import *\nfrom features.errors import UserError\n"
        "for act in (lambda: begin(key()), lambda: store.lock(key()).__enter__()):\n"
        "    try: act()\n    except UserError as error: print(error)\n"
    )
    # Root may write anywhere unless it lays down that right.
    drop = ["setpriv", "--bounding-set", "-dac_override", "--inh-caps", "-dac_override"] if os.getuid() == 0 else []
    done = subprocess.run(
        [*drop, sys.executable, "-c", code],
        env={**os.environ, "LAYERPROBE_HOME": str(home)},
        capture_output=True,
        text=True,
    )
    assert done.stdout.count("cannot write") == 2, done
    assert "$LAYERPROBE_HOME" in done.stdout and not list((home / "features").iterdir())


def test_maps_larger_than_the_memory_at_hand_are_written_and_read_by_rows(tmp_path):
    code = (
        "import resource\nfrom tests.features.store_cases import *\n"
        "shape = (2000, 64, 40, 40)\n"
        "file = begin(key(pool='none'), shape)\n"
        "limit = 400 << 20\nresource.setrlimit(resource.RLIMIT_DATA, (limit, limit))\n"
        "row = lambda i: np.full((8, *shape[1:]), i, np.float32)\n"
        "for start in range(0, 2000, 8): file.write(start, row(start))\n"
        "file.commit(2000)\nfile = file.publish()\n"
        "assert file.size > 8e8, file.size\n"
        "rows = [1999, 17, 1000]\n"
        "got = file.features(rows)\n"
        "assert [got[i].min() for i in range(3)] == [got[i].max() for i in range(3)] == [1992, 16, 1000]\n"
    )
    environment = {**os.environ, "LAYERPROBE_HOME": str(tmp_path), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_finding_imports_neither_torch_nor_hdf5(home):
    make(key())
    code = (
        "import sys\nfrom tests.features.store_cases import *\nassert store.find(key()).labels()[3] == 3\n"
        "print({'torch', 'h5py', 'sklearn'} & set(sys.modules))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], env=os.environ, capture_output=True, text=True)
    assert done.stdout == "set()\n", done
