"""What holds for the key and the store whatever is put into them, in whatever order."""

import dataclasses
import os
import shutil
import tempfile
from pathlib import Path
from unittest import mock

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from features import store
from features.key import DTYPES, About, CacheKey
from features.store.catalogue import entries, remove
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


NAMES = st.text("abc xyz-0é/.", min_size=1, max_size=50)
SHAPES = st.lists(st.integers(1, 7), min_size=1, max_size=3).map(tuple)


@dataclasses.dataclass
class Begun:
    """What a partial file should be: who began it, of which rows, and how many of them are safe."""

    about: About
    features: np.ndarray
    recipe: dict
    done: int = 0


class OneKey(RuleBasedStateMachine):
    """Passes that want the same file under names of their own, die, carry on, change their recipe, finish, remove it.

    The home belongs to one example: hypothesis gives examples up half-way, which leave a partial file as a kill does.
    """

    @initialize(rows=st.integers(1, 40), shape=SHAPES, dtype=st.sampled_from(DTYPES))
    def begin_in_a_home(self, rows, shape, dtype):
        self.folder = Path(tempfile.mkdtemp(prefix="store-"))
        self.patch = mock.patch.dict(os.environ, LAYERPROBE_HOME=str(self.folder))
        self.patch.start()
        self.features = np.random.default_rng(rows).normal(size=(rows, *shape)).astype(dtype)
        self.key = key(dtype=dtype)
        self.file = self.begun = self.complete = None

    def teardown(self):
        if hasattr(self, "folder"):
            self.give_up()
            self.patch.stop()
            shutil.rmtree(self.folder)

    @rule(name=NAMES, layer=NAMES, recipe=st.sampled_from([{"batch": 1}, {"batch": 2}]))
    def start(self, name, layer, recipe):
        """Another process begins: what it finds is carried on if it would compute the same."""
        self.give_up()
        if self.complete:
            return
        about = About(name, layer, ("a", "é"), "w")
        self.file = begin(self.key, self.features.shape, recipe, about, self.key.dtype)
        if self.begun is None or self.begun.recipe != recipe:
            self.begun = Begun(about, self.features, recipe)
        assert (self.file.about, self.file.rows_done) == (self.begun.about, self.begun.done)

    @precondition(lambda self: self.file)
    @rule(data=st.data(), recorded=st.booleans())
    def write(self, data, recorded):
        rows, written = len(self.features), self.file._written
        start = data.draw(st.integers(0, written), label="start")
        stop = data.draw(st.integers(start, rows), label="stop")
        self.file.write(start, self.features[start:stop])
        if recorded:
            self.file.commit(self.file._written)
            self.begun.done = self.file._written

    @rule()
    def give_up(self):
        """The process dies: what is recorded stays."""
        if getattr(self, "file", None):
            self.file.close()
        self.file = None

    @precondition(lambda self: self.begun)
    @rule()
    def lose_the_record(self):
        """Without its record a partial file is nobody's; the next pass begins anew, under its own name."""
        self.give_up()
        for path in (self.folder / "features").glob("*.progress.json"):
            path.unlink()
        self.begun = None

    @precondition(lambda self: self.file and self.begun.done == len(self.features))
    @rule()
    def publish(self):
        self.file.publish()
        self.complete, self.begun, self.file = self.begun, None, None

    @precondition(lambda self: self.complete)
    @rule(rows=st.lists(st.integers(0, 39), max_size=20))
    def read(self, rows):
        found = store.find(self.key)
        assert found.path.parent == self.folder / "features" and found.about == self.complete.about
        np.testing.assert_array_equal(found.features(), self.features)
        rows = np.array([row for row in rows if row < len(self.features)], dtype=np.int64)
        np.testing.assert_array_equal(found.features(rows), self.features[rows])
        found.verify()

    @precondition(lambda self: self.complete or self.begun)
    @rule()
    def remove(self):
        self.give_up()
        for entry in entries():
            remove(entry)
        assert list((self.folder / "features").iterdir()) == []
        self.complete = self.begun = None

    @invariant()
    def nothing_stands_beside(self):
        """One file at the most, complete or begun, and its record."""
        kinds = sorted(path.name.partition(".h5")[2] for path in (self.folder / "features").glob("*"))
        if self.complete:
            assert kinds == [""]
        elif self.begun:
            assert kinds == [".partial", ".progress.json"]
        else:
            assert kinds in ([], [".partial"])


TestOneKey = OneKey.TestCase
TestOneKey.settings = settings(QUICK, max_examples=60, stateful_step_count=25)
