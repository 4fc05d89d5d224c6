"""Bringing features to one width: against scikit-learn's PCA, and what rows the axes come from."""

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

from classify.heads.on_axes import Reduction


@pytest.fixture(scope="module")
def pixels():
    return load_digits().data.astype(np.float32)


def test_principal_axes_are_those_of_an_exact_decomposition(pixels):
    axes = Reduction("pca", 10).fit(pixels[:1000])
    reference = PCA(10, svd_solver="full").fit(pixels[:1000].astype(np.float64))
    ours, theirs = axes.apply(pixels), reference.transform(pixels)
    signs = np.sign(np.sum(ours * theirs, axis=0))
    assert np.abs(ours * signs - theirs).max() < 1e-3 * np.abs(theirs).max()


def test_axes_come_from_the_rows_given_alone(pixels):
    axes = Reduction("pca", 8).fit(pixels[:500])
    assert np.array_equal(axes.apply(pixels[:500]), axes.apply(pixels)[:500])
    assert not np.allclose(axes.axes, Reduction("pca", 8).fit(pixels).axes)


def test_an_axis_without_variation_is_zero_instead_of_noise(pixels):
    flat = np.zeros((200, 40), np.float32) + 3
    flat[:, :4] = pixels[:200, 26:30]
    reduced = Reduction("pca", 12).fit(flat).apply(flat)
    assert reduced.shape == (200, 12)
    assert (reduced[:, :4].std(axis=0) > 0.1).all() and np.abs(reduced[:, 4:]).max() == 0


def test_projections_are_drawn_by_the_seed_and_keep_distances_on_average(pixels):
    wide = np.tile(pixels, (1, 8))
    one, same, other = (Reduction("projection", 64, seed).fit(wide).apply(wide) for seed in (0, 0, 1))
    assert np.array_equal(one, same) and not np.allclose(one, other)
    pairs = np.random.default_rng(0).integers(0, len(wide), (500, 2))
    before = np.linalg.norm(wide[pairs[:, 0]] - wide[pairs[:, 1]], axis=1)
    after = np.linalg.norm(one[pairs[:, 0]] - one[pairs[:, 1]], axis=1)
    assert np.mean(after[before > 0] / before[before > 0]) == pytest.approx(1, abs=0.1)


def test_features_that_are_narrow_already_keep_their_width(pixels):
    assert Reduction("pca", 100).fit(pixels).apply(pixels).shape == pixels.shape
