"""The trunk as a scikit-learn transformer: scikit-learn's own checks, pipelines, and the same numbers as the cache."""

import pickle

import numpy as np
import pytest
import sklearn
from PIL import Image
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from sklearn.utils import estimator_checks

from extract import FeatureExtractor
from extract.extraction import extract
from features import load_features
from features.datasets import open_dataset
from features.errors import UserError
from features.request import Request, plan

SMALL = {"weights": "random", "image_size": 32, "precision": "float32"}


@pytest.fixture(scope="module")
def digits():
    data = load_digits()
    return data.images[:300] / 16, data.target[:300]


# scikit-learn's generator stops early for estimators that take no tables, so the checks that need none are named.
CHECKS_WITHOUT_TABLES = (
    "check_estimator_cloneable",
    "check_estimator_tags_renamed",
    "check_valid_tag_types",
    "check_estimator_repr",
    "check_no_attributes_set_in_init",
    "check_do_not_raise_errors_in_init_or_set_params",
    "check_parameters_default_constructible",
    "check_get_params_invariance",
    "check_set_params",
    "check_mixin_order",
)


@pytest.mark.parametrize("check", CHECKS_WITHOUT_TABLES)
def test_scikit_learns_own_checks(check):
    getattr(estimator_checks, check)("FeatureExtractor", FeatureExtractor(layer="layer1", **SMALL))


def test_in_a_pipeline_it_classifies_digits(digits):
    images, labels = digits
    model = make_pipeline(FeatureExtractor(layer="layer2", **SMALL), StandardScaler(), SVC())
    model.fit(images[:200], labels[:200])
    assert model.score(images[200:], labels[200:]) > 0.8
    assert sklearn.base.clone(model)[0].get_params()["layer"] == "layer2"


@pytest.mark.parametrize(
    ("layer", "pool"), [("layer2", "avg"), ("avgpool", "avg"), ("layer3", "grid:2"), ("fc", "avg")]
)
def test_it_computes_what_the_command_caches(home, layer, pool):
    request = Request(dataset="digits", layers=(layer,), pools=(pool,), limit=50, limit_test=10, **SMALL)
    extract(plan(request), say=lambda line: None)
    cached, _ = load_features("digits", layer, pool=pool, limit=50, limit_test=10, **SMALL)
    from features.reading import find_cached

    rows = find_cached(plan(request).get(layer, "train"), request).index()
    images = open_dataset("digits").load("train").images[rows]
    computed = FeatureExtractor(layer=layer, pool=pool, **SMALL).fit(images).transform(images)
    assert computed.dtype == np.float32
    assert np.abs(computed - cached).max() <= 1e-5 * np.abs(cached).max()


def test_images_as_floats_bytes_and_colour_are_the_same_images(digits):
    floats = np.round(digits[0][:5] * 255) / 255
    extractor = FeatureExtractor(layer="layer1", **SMALL).fit(floats)
    plain = extractor.transform(floats)
    assert np.array_equal(plain, extractor.transform((floats * 255).round().astype(np.uint8)))
    colour = np.repeat(floats[..., None], 3, 3)
    in_colour = FeatureExtractor(layer="layer1", **SMALL).fit(colour).transform(colour)
    assert np.allclose(plain, in_colour, atol=1e-4)


def test_whole_numbers_are_scaled_by_what_those_of_the_fit_hold(digits):
    masks = (digits[0][:5] > 0.5).astype(np.int64)
    expected = FeatureExtractor(layer="layer1", **SMALL).fit(masks > 0).transform(masks > 0)
    extractor = FeatureExtractor(layer="layer1", **SMALL).fit(masks)
    assert np.array_equal(extractor.transform(masks), expected)
    assert np.array_equal(FeatureExtractor(layer="layer1", **SMALL).fit(masks * 4095).transform(masks * 4095), expected)
    with pytest.raises(ValueError, match="1 white by the images of fit"):
        extractor.transform(masks * 255)


def test_one_image_at_a_time_and_all_at_once_agree(digits):
    images = digits[0][:9]
    extractor = FeatureExtractor(layer="layer3", **SMALL).fit(images)
    together = extractor.transform(images)
    alone = np.concatenate([extractor.transform(images[i : i + 1]) for i in range(9)])
    assert np.array_equal(together, alone)


def test_it_can_be_cloned_pickled_and_asked_for_names(digits):
    images = digits[0][:4]
    extractor = FeatureExtractor(layer="layer1", **SMALL).fit(images)
    again = pickle.loads(pickle.dumps(extractor))
    assert np.array_equal(again.transform(images), extractor.transform(images))
    assert len(pickle.dumps(extractor)) < 5000, "the network is loaded again, not pickled"
    assert list(extractor.get_feature_names_out())[:2] == ["featureextractor0", "featureextractor1"]
    with pytest.raises(NotFittedError):
        clone(extractor).transform(images)


def test_what_is_no_image_is_refused(digits):
    extractor = FeatureExtractor(layer="layer1", **SMALL).fit(digits[0][:4])
    for wrong, told in (
        (np.zeros((4, 64)), "reshape"),
        (np.zeros((4, 9, 9)), "fitted on"),
        (np.full((4, 8, 8), np.nan), "NaN"),
        (np.full((4, 8, 8), 7.0), "between 0 and 1"),
        (np.full((4, 8, 8), -1), "0 is black"),
        (np.zeros((0, 8, 8)), "0 sample"),
        (np.full((4, 8, 8), "a"), "type"),
    ):
        with pytest.raises(ValueError, match=told):
            extractor.transform(wrong)
    with pytest.raises(UserError, match="no layer"):
        FeatureExtractor(layer="layer9", **SMALL).fit(digits[0][:4])


LONG = np.random.default_rng(0).integers(0, 256, (12, 20, 30, 3), np.uint8)


def test_images_are_prepared_as_the_parameters_say_and_after_loading_as_in_fit():
    asked = {"crop_mode": "pad", "interpolation": "bicubic", "mean": [0.5], "std": (0.2, 0.3, 0.4)}
    plain = FeatureExtractor(layer="layer1", **SMALL).fit(LONG)
    padded = FeatureExtractor(layer="layer1", **SMALL, **asked).fit(LONG)
    steps = padded.preprocessing_
    assert (steps.crop_mode, steps.interpolation, steps.crop) == ("pad", "bicubic", 32)
    assert (steps.mean, steps.std) == ((0.5,) * 3, (0.2, 0.3, 0.4))
    assert not np.allclose(plain.transform(LONG), padded.transform(LONG), atol=0.01)
    loaded = pickle.loads(pickle.dumps(padded))
    np.testing.assert_array_equal(loaded.transform(LONG), padded.transform(LONG))
    with pytest.raises(UserError, match="divided by 255"):
        FeatureExtractor(layer="layer1", **SMALL, mean=(120, 110, 100)).fit(LONG)


def test_one_that_version_0_1_0_fitted_goes_on_giving_the_features_that_it_gave():
    fitted = FeatureExtractor(layer="layer1", **SMALL).fit(LONG)
    state = fitted.__getstate__()
    of_0_1_0 = set(state) - {"preprocessing_", "crop_mode", "resize", "interpolation", "mean", "std"}
    loaded = FeatureExtractor.__new__(FeatureExtractor)
    loaded.__setstate__({name: state[name] for name in of_0_1_0})
    squashed = FeatureExtractor(layer="layer1", **SMALL, crop_mode="squash").fit(LONG)
    np.testing.assert_array_equal(loaded.transform(LONG), squashed.transform(LONG))
    assert not np.allclose(loaded.transform(LONG), fitted.transform(LONG), atol=0.01)
    assert loaded.get_params()["crop_mode"] == "center"
    assert clone(loaded).fit(LONG).preprocessing_ == fitted.preprocessing_


def test_paths_pictures_and_channels_first_give_what_arrays_give(home, tmp_path):
    random = np.random.default_rng(0)
    images = random.integers(0, 255, (4, 20, 20, 3), dtype=np.uint8)
    pictures = [Image.fromarray(image) for image in images]
    for row, picture in enumerate(pictures):
        picture.save(tmp_path / f"{row}.png")
    extractor = FeatureExtractor(weights="random", layer="layer1", image_size=32, precision="float32")
    expected = extractor.fit_transform(images)
    paths = [str(tmp_path / f"{row}.png") for row in range(4)]
    for same in (np.moveaxis(images, -1, 1), np.moveaxis(images, -1, 1) / 255, pictures, paths, list(images)):
        np.testing.assert_allclose(extractor.fit_transform(same), expected, atol=1e-5)
    wide = [*pictures[:2], pictures[2].resize((31, 20))]
    mixed = extractor.fit(wide).transform(wide)
    np.testing.assert_allclose(mixed[:2], expected[:2], atol=1e-5)
    assert mixed.shape == (3, expected.shape[1]) and np.isfinite(mixed).all()
    with pytest.raises(UserError, match=r"image 0 of X is a dict"):
        extractor.fit([{"a": 1}])
    with pytest.raises(UserError, match="cannot read the image"):
        extractor.transform([tmp_path / "absent.png"])
