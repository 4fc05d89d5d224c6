"""Rows spread over a real Dask cluster: the numbers of one process, and a record that says where its times are from."""

import pytest

from classify.commands.run import main
from classify.measure.results import load_results


def test_rows_of_a_cluster_are_those_of_one_process(home, tmp_path, monkeypatch, capfd):
    pytest.importorskip("distributed", reason="dask.distributed is not installed: pip install 'layerprobe[cluster]'")
    monkeypatch.chdir(tmp_path)
    command = ["--dataset", "digits", "--weights", "random", "--image-size", "32", "--precision", "float32"]
    command += ["--layer", "layer1", "maxpool", "--limit", "200", "--limit-test", "50", "--jobs", "1"]
    command += ["--model", "ridge", "linear"]
    results = {}
    for name, more in (("spread", ["--cluster", "local:2"]), ("here", [])):
        assert main([*command, "--results", name, *more]) == 0
        results[name] = {saved.path.name: saved for saved in load_results(tmp_path / name)}
    assert capfd.readouterr().err == ""
    assert len(results["here"]) == 4 and results["here"].keys() == results["spread"].keys()
    for name, here in results["here"].items():
        spread = results["spread"][name]
        assert spread.result.metrics == here.result.metrics
        assert (spread.result.chosen, spread.result.config) == (here.result.chosen, here.result.config)
        assert spread.result.extra["cluster"] == {"scheduler": "dask", "workers": 2, "tasks_at_once": 2}
        assert "on a cluster of 2 workers" in str(spread.result) and "cluster" not in str(here.result)
        mine, theirs = (saved.predictions().predicted for saved in (here, spread))
        assert (mine == theirs).all()
