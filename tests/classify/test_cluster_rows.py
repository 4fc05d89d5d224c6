"""Rows spread over a real Dask cluster: the numbers of one process, and a record that says where its times are from."""

import os
import subprocess
import sys

import pytest

from classify.measure.results import load_results


def test_rows_of_a_cluster_are_those_of_one_process(home, tmp_path):
    pytest.importorskip("distributed", reason="dask.distributed is not installed: pip install 'layerprobe[cluster]'")
    command = [sys.executable, "-m", "classify", "--dataset", "digits", "--weights", "random", "--image-size", "32"]
    command += ["--layer", "layer1", "maxpool", "--precision", "float32", "--limit", "200", "--limit-test", "50"]
    command += ["--model", "ridge", "linear", "--jobs", "1"]
    environment = {**os.environ, "LAYERPROBE_HOME": str(home), "OMP_NUM_THREADS": "1"}
    results = {}
    for name, more in (("spread", ["--cluster", "local:2"]), ("here", [])):
        folder = tmp_path / name
        done = subprocess.run(
            [*command, "--results", name, *more], env=environment, cwd=tmp_path, capture_output=True, text=True
        )
        assert done.returncode == 0 and done.stderr == "", done.stderr
        results[name] = {saved.path.name: saved for saved in load_results(folder)}
    assert len(results["here"]) == 4 and results["here"].keys() == results["spread"].keys()
    for name, here in results["here"].items():
        spread = results["spread"][name]
        assert spread.result.metrics == here.result.metrics
        assert (spread.result.chosen, spread.result.config) == (here.result.chosen, here.result.config)
        assert spread.result.extra["cluster"] == {"scheduler": "dask", "workers": 2, "tasks_at_once": 2}
        assert "on a cluster of 2 workers" in str(spread.result) and "cluster" not in str(here.result)
        mine, theirs = (result.predictions().predicted for result in (here, spread))
        assert (mine == theirs).all()
