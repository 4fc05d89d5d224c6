"""What holds for the key and the store whatever is put into them."""

import dataclasses

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from features import store
from features.key import CacheKey
from tests.features.store_cases import begin, key

FIELDS = {
    field.name: st.integers(-(2**40), 2**40) if field.type is int else st.text(max_size=20)
    for field in dataclasses.fields(CacheKey)
}
QUICK = settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)


@QUICK
@given(st.fixed_dictionaries(FIELDS), st.fixed_dictionaries(FIELDS))
def test_keys_are_equal_exactly_when_their_digests_are(one, other):
    first, second = CacheKey(**one), CacheKey(**{**one, **{name: other[name] for name in list(other)[::3]}})
    assert CacheKey.from_json(first.to_json()) == first
    assert (first == second) == (first.digest == second.digest) == (not first.differences(second))


@pytest.mark.skip(reason="files of one key with other names stand in each other's way; to be mended")
@QUICK
@given(
    shape=st.lists(st.integers(1, 7), min_size=1, max_size=3),
    rows=st.integers(1, 40),
    dtype=st.sampled_from(store.DTYPES),
    names=st.tuples(st.text("abc xyz-0", min_size=1, max_size=50), st.text("abc xyz-0", min_size=1, max_size=50)),
    data=st.data(),
)
def test_what_is_written_in_any_pieces_is_read_back(home, shape, rows, dtype, names, data):
    features = np.random.default_rng(rows).normal(size=(rows, *shape)).astype(dtype)
    about = store.About(names[0], names[1], ("a", "é"), "w")
    file = begin(key(dtype=dtype), features.shape, about=about, dtype=dtype)
    while file.rows_done < rows:
        start = data.draw(st.integers(0, file.rows_done), label="start")
        stop = data.draw(st.integers(file.rows_done + 1, rows), label="stop")
        file.write(start, features[start:stop])
        file.commit(stop)
        if data.draw(st.booleans(), label="killed"):
            file.close()
            file = begin(key(dtype=dtype), features.shape, about=about, dtype=dtype)
            assert file.rows_done == stop
    file.publish()
    found = store.find(key(dtype=dtype))
    assert found.path.parent == home / "features" and found.about == about
    np.testing.assert_array_equal(found.features(), features)
    picked = np.array(data.draw(st.lists(st.integers(0, rows - 1), max_size=20)), dtype=np.int64)
    np.testing.assert_array_equal(found.features(picked), features[picked])
    found.verify()
    found.path.unlink()
