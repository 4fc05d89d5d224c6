"""`--pca N`: features on their principal axes, fitted on training rows, kept with the head."""

import numpy as np
from sklearn.decomposition import PCA

from classify.__main__ import main
from classify.measure.results import load_results
from features import load_features
from features.commands.options import run_command

DIGITS = ["--dataset", "digits", "--weights", "random", "--image-size", "32", "--limit", "300", "--limit-test", "100"]


def test_features_are_reduced_on_training_rows_and_the_kept_head_takes_them_whole(home, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = [*DIGITS, "--layer", "layer1+layer2", "--model", "ridge", "--pool", "grid:2"]
    assert run_command(main, [*arguments, "--pca", "20"]) == 0
    assert run_command(main, arguments) == 0
    reduced, whole = sorted(load_results("results"), key=lambda row: row.result.extra["features"])
    assert reduced.result.extra["features"] == 20
    assert reduced.result.config["width"] == 20
    assert whole.result.extra["features"] == 4 * (64 + 128)
    options = {"weights": "random", "image_size": 32, "limit": 300, "limit_test": 100, "pool": "grid:2"}
    features, _ = load_features("digits", "layer1+layer2", split="test", **options)
    assert np.array_equal(reduced.load_head().predict(features), reduced.predictions().predicted)


def test_the_axes_span_what_scikit_learns_do():
    from classify.heads.on_axes import Reduction

    random = np.random.default_rng(0)
    features = (random.normal(size=(200, 5)) @ random.normal(size=(5, 30))).astype(np.float32) + 3
    ours = Reduction("pca", 5).fit(features).apply(features)
    theirs = PCA(5).fit_transform(features)
    assert np.allclose(np.abs(ours), np.abs(theirs), atol=1e-2 * np.abs(theirs).max())
