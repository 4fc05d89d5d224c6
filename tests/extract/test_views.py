"""Views of images: what they change, that they are the same wherever they are made, and what stands in the store."""

import shutil

import numpy as np
import pytest
import torch

from extract.cluster import on_cluster
from extract.commands.ensure import ensure_features
from extract.extraction import extract
from extract.views import TestViews, seen
from features import store
from features.errors import UserError
from features.reading import load_features
from features.request import Request, plan
from features.views import AUGMENTATIONS, USUAL, Views

ASKED = {"dataset": "digits", "weights": "random", "image_size": 32, "layers": ("layer1", "layer2+avgpool")}
ASKED |= {"limit": 37, "limit_test": 12, "precision": "float32", "seed": 3}


def _request(**changes):
    return Request(**{**ASKED, "views": 4, **changes})


def _made(request):
    extract(plan(request), compiled="off", say=lambda line: None)


def _loaded(request, layer, split="train"):
    options = {name: value for name, value in ASKED.items() if name not in ("dataset", "layers")}
    options |= {"views": request.views, "view_augment": request.view_augment, "limit": request.limit}
    return load_features("digits", layer, split, **options)[0]


def _files(home):
    return {path.name: path.read_bytes() for path in (home / "features").glob("*.h5")}


def test_the_first_view_is_the_image_and_layers_stand_side_by_side_in_each(home):
    plain, viewed = _request(views=1), _request()
    _made(plain)
    _made(viewed)
    for layer, width in (("layer1", 64), ("layer2+avgpool", 128 + 512)):
        features = _loaded(viewed, layer)
        assert features.shape == (37, 4, width)
        assert np.array_equal(features[:, 0], _loaded(plain, layer))
        for one in range(4):
            assert all(np.abs(features[:, one] - features[:, other]).max() > 1e-3 for other in range(one))
    alone = _loaded(viewed, "layer2+avgpool")[:, 2, 128:]
    _made(_request(layers=("avgpool",)))
    assert np.array_equal(alone, _loaded(viewed, "avgpool")[:, 2])


def test_stopped_and_carried_on_in_shards_or_not_the_bytes_are_the_same(home, monkeypatch):
    _made(_request(limit=600))
    expected = _files(home)
    shutil.rmtree(home / "features")
    written, whole = [], store.PartialFile.write

    def stop(*arguments):
        written.append(arguments)
        if len(written) == 8:
            raise KeyboardInterrupt
        return whole(*arguments)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(store.PartialFile, "write", stop)
        patched.setattr("extract.one_pass._SECONDS_BETWEEN_COMMITS", 0.0)
        _made(_request(limit=600))
    assert not _files(home)
    _made(_request(limit=600))
    assert _files(home) == expected
    features = _loaded(_request(limit=600), "layer1")
    shutil.rmtree(home / "features")
    with on_cluster("local:2"):
        _made(_request(limit=600))
    assert np.array_equal(_loaded(_request(limit=600), "layer1"), features)


def test_a_view_is_that_of_the_images_row_whatever_limit_takes_it(home):
    _made(_request(limit=None))
    every = load_features("digits", "layer1", "train", **_options(limit=None))[0]
    some = load_features("digits", "layer1", "train", **_options())[0]  # served from the file of all rows
    shutil.rmtree(home / "features")
    _made(_request())
    own = load_features("digits", "layer1", "train", **_options())[0]
    assert len(every) > len(own) == 37
    assert np.allclose(some, own, atol=1e-5)


def _options(**changes):
    options = {name: value for name, value in ASKED.items() if name not in ("dataset", "layers")}
    return {**options, "views": 4, **changes}


def _dot(row, column, side=32):
    image = torch.zeros(1, 1, side, side, dtype=torch.uint8)
    image[..., row - 1 : row + 2, column - 1 : column + 2] = 200
    return image


def _place(image):
    weights = image.float().sum((0, 1))
    rows, columns = torch.arange(len(weights)).float(), torch.arange(len(weights)).float()
    total = weights.sum()
    return np.array([(weights.sum(1) @ rows / total).item(), (weights.sum(0) @ columns / total).item()])


@pytest.mark.parametrize("rows", [None, [5]])
def test_a_pair_of_views_changes_an_image_in_opposite_directions(rows):
    middle = 31 / 2
    image = _dot(12, 20)
    for kind in ("shift", "rotate", "scale"):
        first, second = (_place(seen(image, Views(3, (kind,)), view, rows)) for view in (1, 2))
        before = _place(image)
        assert np.abs(first - before).max() > 0.01
        assert (first + second) / 2 == pytest.approx(before, abs=0.15)
        assert np.abs(first - before).max() < 0.2 * 32
    mirrored = {
        tuple(np.round(_place(seen(image, Views(3, ("flip",)), view, rows)) - [0, middle], 3)) for view in (1, 2)
    }
    assert mirrored == {(-3.5 + middle, 4.5), (-3.5 + middle, -4.5)}


def test_a_crop_shows_nothing_that_is_not_there_and_colours_leave_places_alone():
    slope = torch.arange(32).view(1, 1, 1, 32).expand(1, 3, 32, 32).to(torch.uint8) * 7
    for view in range(1, 20):
        taken = seen(slope, Views(20, ("crop",)), view)[0, 0, 0].int()
        steps = taken.diff()
        assert (steps > 0).all(), "a border would be repeated"
        assert 0.65 * 31 * 7 < taken[-1] - taken[0] <= 31 * 7
    coloured = seen(slope, Views(3, ("color",)), 1)
    assert (coloured[0, 0, 0].int().diff() >= 0).all() and not torch.equal(coloured, slope)
    assert torch.equal(coloured[:, :, 0], coloured[:, :, 31])


def test_training_images_are_seen_by_row_and_test_images_all_alike():
    image = _dot(12, 20).expand(2, 3, -1, -1).contiguous()
    views = Views(5, USUAL)
    for view in range(5):
        alike, apart = seen(image, views, view), seen(image, views, view, [1, 2])
        assert torch.equal(alike[0], alike[1])
        assert torch.equal(apart[0], apart[1]) == (view == 0)
        assert torch.equal(seen(image[:1], views, view, [2])[0], apart[1])
    every = TestViews(views, 4, (32, 32))(image.float())
    assert every.shape == (8, 3, 32, 32)
    for view in range(4):
        assert torch.equal(every[view::4].to(torch.uint8), seen(image, views, view))


def test_fewer_views_are_the_first_of_more(home):
    _made(_request())
    more = _loaded(_request(), "layer1")
    _made(_request(views=2))
    assert np.allclose(_loaded(_request(views=2), "layer1"), more[:, :2], atol=1e-5)


def test_what_it_costs_is_said_first(home, capsys):
    ensure_features(_request(views=6), dry_run=True)
    said = capsys.readouterr().out
    assert "to extract: train layer1, 37 x 6 views x 64 numbers" in said
    assert "6 times the cost of one view" in said
    assert not list((home / "features").glob("*.h5"))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"views": 0}, "--views 0: give a whole number from 1"),
        ({"views": 1_000_000}, "from 1 to 1,000"),
        ({"test_views": 5}, "--test-views 5: more than --views 4"),
        ({"view_augment": ("shfit",)}, "did you mean shift"),
        ({"views": 1, "view_augment": ("shift",)}, "add --views 4, or leave it out"),
    ],
)
def test_views_that_cannot_be_are_refused(changes, told):
    with pytest.raises(UserError, match=told):
        _request(**changes).normalised()


def test_a_request_says_its_views_in_one_order_and_keys_keep_them():
    asked = _request(view_augment=("flip", "shift")).normalised()
    assert asked.view_augment == ("shift", "flip")
    assert asked == _request(view_augment=["shift", "flip"]).normalised()
    assert _request().normalised().view_augment == USUAL
    for views in (Views(), Views(2, ("crop",)), Views(7, AUGMENTATIONS)):
        assert Views.parse(str(views)) == views
    for text in ("1", "1 shift", "2 flip shift x", "0 shift", "two shift", "2  shift"):
        with pytest.raises(ValueError, match="views|invalid literal"):
            Views.parse(text)
    key = plan(_request()).wanted[0].key
    assert key.views == "4 shift rotate scale" and "views" not in plan(_request(views=1)).wanted[0].key.to_json()
