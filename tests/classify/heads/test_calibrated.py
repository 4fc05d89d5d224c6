"""Calibrated probabilities and the distance to the training images, on scikit-learn's digits."""

import io

import numpy as np
import pytest
from sklearn.datasets import load_digits

from classify.heads import HEADS
from classify.heads.around import plain_head
from classify.heads.calibrated import Calibrated, calibrate
from classify.heads.estimator import trained_parameters
from classify.heads.familiar import Familiar, Guarded
from classify.heads.folds import class_scores
from classify.heads.on_axes import OnAxes, Reduction
from classify.measure import kept_heads
from classify.measure.metrics import measure

FAST = {"linear": {"epochs": 3}, "mlp": {"epochs": 3, "hidden": 16}}


def _digits(classes=10):
    """Noisy digits, so that heads are wrong now and then, of unequal classes."""
    images, labels = load_digits(return_X_y=True)
    chosen = (labels < classes) & ((labels != 1) | (np.arange(len(labels)) % 3 == 0))
    noise = np.random.default_rng(0).normal(0, 6, (chosen.sum(), 64))
    # Labels need not be 0 .. K - 1.
    return (images[chosen] + noise).astype(np.float32), labels[chosen] * 2 + 5


@pytest.mark.parametrize("classes", [2, 10])
@pytest.mark.parametrize("name", HEADS)
def test_probabilities_of_every_head_can_be_believed(name, classes):
    images, labels = _digits(classes)
    cut, end = len(labels) // 3, 2 * len(labels) // 3
    plain = HEADS[name].build(**FAST.get(name, {})).fit(images[:cut], labels[:cut])
    head = calibrate(plain, class_scores(plain, images[cut:end]), labels[cut:end])
    probabilities = head.predict_proba(images[end:])
    assert np.allclose(probabilities.sum(axis=1), 1) and probabilities.shape[1] == classes
    assert np.array_equal(head.predict(images[end:]), plain.predict(images[end:]))
    assert np.array_equal(head.classes_[probabilities.argmax(axis=1)], plain.predict(images[end:]))
    codes = np.searchsorted(plain.classes_, labels[end:])
    after = measure(codes, probabilities.argmax(axis=1), probabilities)
    shares = np.bincount(codes) / len(codes)
    assert after.log_loss < -np.sum(shares * np.log(shares))
    # Of 78 rows of two classes a calibration error says little.
    assert classes == 2 or after.ece < 0.1
    if hasattr(plain, "predict_proba"):
        before = plain.predict_proba(images[end:])
        assert after.log_loss < measure(codes, before.argmax(axis=1), before).log_loss * 1.1 + 0.01
    else:
        assert not hasattr(plain, "predict_proba") and hasattr(head, "decision_function")
    assert trained_parameters(Guarded(head, None)) == trained_parameters(plain)


def test_repeats_of_folds_count_as_their_rows_and_unknown_classes_not_at_all():
    images, labels = _digits()
    head = HEADS["lda"].build().fit(images[:400], labels[:400])
    scores, held = class_scores(head, images[400:800]), labels[400:800]
    once = calibrate(head, scores, held).temperature
    assert calibrate(head, np.stack([scores] * 3), held).temperature == pytest.approx(once)
    # A class that the head does not know, and one that it knew in another fold alone.
    strange = np.concatenate([scores, scores[:5]]), np.concatenate([held, np.full(5, 99)])
    assert calibrate(head, *strange).temperature == pytest.approx(once)
    unseen = np.repeat(scores[:1], 5, axis=0)
    unseen[:, 3] = np.log(np.finfo(np.float64).eps)
    strange = np.concatenate([scores, unseen]), np.concatenate([held, np.full(5, head.classes_[3])])
    assert calibrate(head, *strange).temperature == pytest.approx(once)
    assert calibrate(head, scores[:4], np.full(4, 99)) is head
    with pytest.raises(ValueError, match="cannot have the shape"):
        calibrate(head, scores[:3], held)
    assert calibrate(head, scores[:, :3], held) is head


def test_a_few_rows_that_all_came_out_right_make_nothing_certain():
    images, labels = load_digits(n_class=2, return_X_y=True)
    head = HEADS["svm"].build().fit(images[:100], labels[:100])
    largest = []
    for rows in (12, 48, 192):
        held = slice(100, 100 + rows)
        calibrated = calibrate(head, class_scores(head, images[held]), labels[held])
        assert (calibrated.predict(images[held]) == labels[held]).all()
        largest.append(calibrated.predict_proba(images[held]).max(axis=1).mean())
    assert 0.85 < largest[0] < largest[1] < largest[2] < 1


def test_new_images_look_as_familiar_as_the_training_images_and_others_do_not():
    """Many and few training images: the limit is never that of rows that stand among those they are compared with."""
    images, labels = load_digits(return_X_y=True)
    shuffled = np.random.default_rng(1).permutation(len(labels))
    images, labels = images[shuffled].astype(np.float32), labels[shuffled]
    for rows, most in ((20, 0.2), (60, 0.1), (1200, 0.03)):
        familiar = Familiar.fit(images[:rows], labels[:rows])
        assert (familiar.distance(images[1200:]) > 1).mean() < most
        assert (familiar.distance(16 - images[1200:]) > 1).mean() > 0.95
    assert len(familiar.rows) == 1200 and familiar.rows.dtype == np.float16
    many = Familiar.fit(np.tile(images, (2, 1)), np.tile(labels, 2))
    assert len(many.rows) == 2000
    same = Familiar.fit(np.ones((30, 64), np.float32), np.arange(30) % 2)
    assert (same.distance(np.ones((5, 64))) < 1).all()


def test_of_wide_features_some_columns_are_kept():
    wide = np.random.default_rng(0).normal(size=(60, 20_000)).astype(np.float32) + np.linspace(0, 9, 20_000)
    familiar = Familiar.fit(wide[:50], np.arange(50) % 2)
    assert familiar.rows.shape == (50, 4096)
    assert (familiar.distance(wide[50:]) < 1.1).all() and (familiar.distance(-wide) > 1).all()


@pytest.mark.parametrize("name", ["svm", "ridge", "knn"])
def test_what_stands_around_a_head_is_kept_in_both_forms(name, tmp_path):
    images, labels = _digits()
    axes = Reduction("pca", 20).fit(images[:300])
    plain = HEADS[name].build().fit(axes.apply(images[:300]), labels[:300])
    calibrated = calibrate(plain, class_scores(plain, axes.apply(images[300:600])), labels[300:600])
    head = Guarded(OnAxes(axes, calibrated), Familiar.fit(images[:300], labels[:300]))
    content = kept_heads.in_skops_format(head)
    assert content is not None
    joblib = io.BytesIO()
    kept_heads.write_joblib(head, joblib)
    joblib.seek(0)
    path = tmp_path / "head.skops"
    path.write_bytes(content)
    with path.open("rb") as stream:
        both = kept_heads.read_skops(stream, path), kept_heads.read_joblib(joblib)
    for kept in both:
        assert isinstance(kept.head.head, Calibrated) and plain_head(kept).__class__ is plain.__class__
        assert kept.n_features_in_ == 64
        assert np.array_equal(kept.predict_proba(images[600:]), head.predict_proba(images[600:]))
        assert np.array_equal(kept.distance(images[600:]), head.distance(images[600:]))
