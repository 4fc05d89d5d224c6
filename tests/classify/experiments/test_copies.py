"""Equal images stand on one side of every hold-out and of every fold, as the rows of a group do."""

import numpy as np
import pytest
from sklearn.datasets import load_digits

from classify.experiments.cross_testing import _part, outer_folds
from classify.experiments.kinds import classical as heads
from classify.experiments.kinds.classical import Classical
from classify.experiments.row import Row
from classify.experiments.settings import Settings
from classify.experiments.sources import CachedLayer
from classify.experiments.validating import settle
from classify.heads import HEADS, head2toe
from classify.heads.head2toe import Head2Toe
from extract.planning import plan
from features.datasets import open_dataset
from features.errors import UserError
from features.request import Request

WHOLE = {"validate": "cv:3", "test": "cv:4"}


@pytest.fixture(scope="module")
def arrays(tmp_path_factory):
    """A function that writes digits, each of them so many times, and gives the data set's spec."""
    folder = tmp_path_factory.mktemp("copies")
    images, labels = load_digits(return_X_y=True)
    rows = np.flatnonzero(np.isin(labels, (3, 5)))
    pixels = (images.reshape(-1, 8, 8) * 15).astype(np.uint8)

    def write(times, different=48, parts=False):
        taken = np.tile(rows[:different], times)
        more = {"split": ["train"] * len(taken) + ["test"] * 10} if parts else {}
        taken = np.r_[taken, rows[-10:]] if parts else taken
        path = folder / f"digits{times}-{different}-{parts}.npz"
        np.savez(path, images=pixels[taken], labels=labels[taken], **more)
        return f"npz:{path}"

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAYERPROBE_HOME", str(folder / "home"))
        yield write


def _request(spec):
    shared = {"weights": "random", "image_size": 32, "precision": "float32", "device": "cpu", "layers": ("layer1",)}
    return Request(dataset=spec, **shared).normalised()


def _row(spec, head="ridge", **settings):
    source = CachedLayer(plan(_request(spec)), "layer1", "avg")
    head = heads.head2toe(source.widths) if head == heads.HEAD2TOE else HEADS[head]
    return Row(source=source, head=Classical(head=head), settings=Settings(**settings))


def test_copies_are_in_one_fold_inner_and_outer_and_on_one_side_of_a_hold_out(arrays):
    row = _row(arrays(2), **WHOLE)
    row.source.ensure()
    training = row.training()
    rows = training.required()
    _, codes = np.unique(np.asarray(rows.features), axis=0, return_inverse=True)
    assert len(rows.labels) == 96 and codes.max() == 47
    outer = outer_folds(rows.labels, row.settings, rows.groups)
    kinds = [training.folds[0], outer]
    outside = np.flatnonzero(outer != 0)
    inner = _part(row.head, training, outside).folds[0]
    assert len(set(zip(codes[outside], inner, strict=True))) == len(set(codes[outside]))
    held = _row(arrays(2)).training()
    side = np.zeros(len(held.required().labels), bool)
    side[held.validation] = True
    assert 0 < side.sum() < len(side)
    _, held_codes = np.unique(np.asarray(held.required().features), axis=0, return_inverse=True)
    for numbers, content in [*((folds, codes) for folds in kinds), (side, held_codes)]:
        assert len(set(zip(content, numbers.tolist(), strict=True))) == content.max() + 1


def test_only_rows_of_a_data_set_with_copies_are_other_ones(arrays):
    assert "groups" not in _row(arrays(1)).config and open_dataset(arrays(1)).together("train", "test") is None
    assert _row(arrays(2)).config["groups"]
    assert "groups" not in _row(arrays(2), validation=False).config
    assert _row(arrays(2), head=heads.HEAD2TOE, validation=False).config["groups"]


def test_a_class_of_equal_images_alone_is_told(arrays):
    settings = Settings(validate="cv:3")
    chosen, lines = settle(settings, _request(arrays(4, different=4, parts=True)), ["ridge"])
    assert chosen.validate == "cv:2" and "the smallest class has 2 different images" in lines[0]
    with pytest.raises(UserError, match="are of one group, .*equal images are of one group"):
        settle(settings, _request(arrays(4, different=2, parts=True)), ["ridge"])


def test_labels_are_opened_once_to_settle_what_is_chosen_on(arrays, monkeypatch):
    request, settings = _request(arrays(1, parts=True)), Settings(validate="auto")
    first = settle(settings, request, ["ridge"])
    monkeypatch.setattr(type(open_dataset(request.dataset)), "load", lambda *_: pytest.fail("labels were opened"))
    assert settle(settings, request, ["ridge"]) == first and first[0].validate == "cv:5x3"


def test_a_head_that_holds_rows_out_by_itself_cuts_no_group(monkeypatch):
    images, labels = load_digits(n_class=3, return_X_y=True)
    images, labels = images[:200].astype(np.float32), labels[:200]
    groups, cuts = np.arange(200) // 4, []
    plain = head2toe.validation_split
    monkeypatch.setattr(head2toe, "validation_split", lambda *a, **o: cuts.append(plain(*a, **o)) or cuts[-1])
    Head2Toe(max_steps=5).fit(images, labels, groups=groups)
    ((training, held),) = cuts
    assert len(held) and not set(groups[training]) & set(groups[held])
    # All of a class in one group: nothing can be held out in groups, and the head is fitted all the same.
    Head2Toe(max_steps=5).fit(images, labels, groups=labels)
