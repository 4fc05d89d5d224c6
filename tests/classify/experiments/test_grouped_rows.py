"""Rows of a data set with groups: no group is learnt from and chosen on, and how they are grouped is the row's."""

import numpy as np
import pytest
from sklearn.datasets import load_digits

from classify.experiments.kinds.classical import Classical
from classify.experiments.learning_rows import learning_rows
from classify.experiments.making import make
from classify.experiments.row import Row
from classify.experiments.settings import How, Settings
from classify.experiments.sources import CachedLayer, Images, Maps, Pixels
from classify.experiments.training_sets import Imbalance
from classify.heads import HEADS
from extract.planning import plan
from features.errors import UserError
from features.reading import require_training_rows
from features.request import Request


@pytest.fixture(scope="module")
def arrays(tmp_path_factory):
    """A function that writes 80 digits with some groups, and gives the data set's spec."""
    folder = tmp_path_factory.mktemp("grouped")
    images, labels = load_digits(return_X_y=True)
    rows = np.flatnonzero(np.isin(labels, (3, 5)))[:80]
    pixels, labels = (images[rows].reshape(-1, 8, 8) * 15).astype(np.uint8), labels[rows]

    def write(name, groups):
        np.savez(folder / f"{name}.npz", images=pixels, labels=labels, split=["train"] * 64 + ["test"] * 16, **groups)
        return f"npz:{folder / f'{name}.npz'}"

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAYERPROBE_HOME", str(folder / "home"))
        yield write


GROUPS = np.arange(80) // 5


def request(spec, **options):
    shared = {"weights": "random", "image_size": 32, "precision": "float32", "device": "cpu", "layers": ("layer1",)}
    return Request(dataset=spec, **shared, **options).normalised()


@pytest.mark.parametrize("kind", [CachedLayer, Maps, Images, Pixels])
@pytest.mark.parametrize("limit", [None, 40])
def test_every_source_gives_groups_and_none_is_on_both_sides(arrays, kind, limit):
    asked = request(arrays("a", {"groups": GROUPS}), pools=("none" if kind is Maps else "avg",), limit=limit)
    if kind is Pixels:
        source = Pixels(asked, None, False)
    else:
        source = Images(plan(asked)) if kind is Images else kind(plan(asked), "layer1", asked.pools[0])
        source.ensure()
    rows, train, validation = learning_rows(source, Settings(seed=1))
    assert len(validation) and not set(rows.groups[train]) & set(rows.groups[validation])
    named = {group: set(GROUPS[rows.index[rows.groups == group]]) for group in set(rows.groups)}
    assert all(len(own) == 1 for own in named.values())


def test_a_row_is_another_one_with_other_groups_and_not_with_other_names(arrays):
    def config(name, groups, **settings):
        source = CachedLayer(plan(request(arrays(name, groups))), "layer1", "avg")
        config = dict(Row(source=source, head=Classical(head=HEADS["ridge"]), settings=Settings(**settings)).config)
        return {field: config[field] for field in config if field not in ("dataset", "dataset_sha256")}

    plain, grouped = config("b", {}), config("c", {"groups": GROUPS})
    assert "groups" not in plain and grouped == {**plain, "groups": grouped["groups"]}
    assert config("d", {"groups": np.char.add("patient", (99 - GROUPS).astype(str))}) == grouped
    assert config("e", {"groups": GROUPS // 2}) != grouped
    assert "groups" not in config("c", {"groups": GROUPS}, validation=False)
    # Out of folds of all rows, the test rows' groups count as well.
    other = np.where(np.arange(80) < 64, GROUPS, GROUPS // 2)
    assert config("i", {"groups": other}) == grouped
    assert config("i", {"groups": other}, test="cv:5") != config("c", {"groups": GROUPS}, test="cv:5")


def test_a_result_says_its_groups_and_is_made_again_with_them(arrays, tmp_path):
    spec = arrays("f", {"groups": GROUPS})
    source = CachedLayer(plan(request(spec)), "layer1", "avg")
    row = Row(source=source, head=Classical(head=HEADS["ridge"]), settings=Settings(), change=Imbalance(2))
    saved = make(row, How(folder=tmp_path))
    again = Row.from_config(saved.result.config, dataset=spec, weights="random")
    assert again.digest == row.digest and saved.result.config.groups
    training = row.training()
    assert not set(training.rows.groups[training.train]) & set(training.rows.groups[training.validation])
    other = arrays("g", {"groups": np.char.add("p", (GROUPS // 2).astype(str))})
    with pytest.raises(UserError, match="cannot be made again: .*; groups is '"):
        Row.from_config(saved.result.config, dataset=other, weights="random")


def test_too_few_groups_are_refused_before_anything_is_extracted(arrays):
    spec = arrays("h", {"groups": np.where(np.arange(80) < 64, "one", "two")})
    with pytest.raises(
        UserError, match="are of one group, and two groups are needed, one to train on and one to valid"
    ):
        require_training_rows(request(spec))
