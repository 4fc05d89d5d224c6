"""Extraction on a real Dask cluster of two processes: the bytes of one machine, with a worker killed on the way."""

import dataclasses
import json
import os
import sys
import threading
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

from extract import cluster, sharded
from extract.cluster import on_cluster, spread
from extract.extraction import extract
from features import store
from features.commands import speaking
from features.commands.cache import main as cache
from features.commands.speaking import say, tell_once
from features.datasets.images import read_image
from features.errors import UserError
from features.request import Request, plan
from tests.scale.spreading import one_killed

REQUEST = Request(
    dataset="digits", weights="random", image_size=64, layers=("layer1",), precision="float32", limit_test=10
)
SETTINGS = {"compiled": "off", "jobs": 1, "say": lambda line: None}


def _cache(home: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (home / "features").glob("*") if path.suffix != ".json"}


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc for the worker to kill")
def test_a_killed_worker_costs_its_shard_and_the_bytes_are_those_of_one_machine(home, tmp_path, monkeypatch, capsys):
    pytest.importorskip("distributed", reason="dask.distributed is not installed: pip install 'layerprobe[cluster]'")
    alone = tmp_path / "alone"
    monkeypatch.setenv("LAYERPROBE_HOME", str(alone))
    extract(plan(REQUEST), **SETTINGS)
    monkeypatch.setenv("LAYERPROBE_HOME", str(home))
    answer = plan(REQUEST)
    with on_cluster("local:2"):
        with one_killed(home / "features") as killed:
            passes = extract(answer, **SETTINGS)
        assert len(killed) == 1
        # Nothing to do: no shard is made again, and no file touched.
        before = {path: path.stat().st_mtime_ns for path in (home / "features").rglob("*.h5")}
        assert extract(answer, **SETTINGS) == []
    division = store.begun_division(answer.get("layer1", "train").key)
    assert sum(one.images for one in passes) >= 1198 + 10 - division.size
    assert all(isinstance(file, store.ShardedFile) for file in store.list_files())
    # A file of the join alone is lost, as by a kill: its shards are joined again, and none is made again.
    joined = store.find(answer.get("layer1", "train").key)
    assert len(joined.layout.shards) == len(division) > 2
    joined.path.unlink()
    assert extract(answer, **SETTINGS) == []
    assert {path: path.stat().st_mtime_ns for path in before if path != joined.path} == {
        path: when for path, when in before.items() if path != joined.path
    }
    # One shard is lost: it alone is made again, here, where there is no cluster.
    lost = store.find(answer.get("layer1", "train").key).shard(1).path
    lost.unlink()
    joined.path.unlink()
    again = extract(answer, **SETTINGS)
    assert [(one.split, one.images) for one in again] == [("train", division.size)]
    assert cache(["compact"]) == 0
    assert _cache(home) == _cache(alone)
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("given", ["tcp://", "scheduler file"])
def test_a_cluster_that_stands_already_is_used_and_left_standing(home, tmp_path, given):
    distributed = pytest.importorskip("distributed", reason="needs pip install 'layerprobe[cluster]'")
    answer = plan(dataclasses.replace(REQUEST, image_size=32, layers=("maxpool",), limit=60))
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, host="127.0.0.1", protocol="tcp", dashboard_address=None
    ) as standing:
        path = tmp_path / "scheduler.json"
        path.write_text(json.dumps({"address": standing.scheduler_address}))
        with on_cluster(standing.scheduler_address if given == "tcp://" else str(path)):
            extract(answer, **SETTINGS)
        assert len(standing.workers) == 1 and standing.status.name == "running"
    assert [type(file) for file in store.list_files()] == [store.ShardedFile] * 2
    assert cache(["verify"]) == 0


def _task(path: Path, number: int) -> tuple[int, int]:
    tell_once("of all tasks")
    say(f"task {number}")
    return number, read_image(path).shape[0]


def test_what_tasks_say_is_heard_once_where_people_look_and_what_decoders_warn_of_is_not(tmp_path, capsys, recwarn):
    distributed = pytest.importorskip("distributed", reason="needs pip install 'layerprobe[cluster]'")
    path = tmp_path / "broken-exif.jpg"
    Image.new("RGB", (16, 16)).save(path, exif=b"Exif\0\0II*\0\x08\0\0\0\x05\0\x12\x01\x03\0\x01\0\0\0")
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=2, processes=False, host="127.0.0.1", protocol="tcp", dashboard_address=None
    ) as standing:
        for _ in range(2):
            # A worker that stands serves many commands: each hears it.
            with on_cluster(standing.scheduler_address):
                results = list(spread(_task, [(path, 0), (path, 1), (path, 1)]))
            assert results == [(0, 16), (1, 16), (1, 16)]
            said = capsys.readouterr()
            assert sorted(said.err.splitlines()) == ["of all tasks", "task 0", "task 1"] and said.out == ""
            speaking._told.clear()  # as in another process
    assert not [warning for warning in recwarn if "EXIF" in str(warning.message)]


def test_a_thread_that_is_done_first_leaves_warnings_unheard_for_the_others(recwarn):
    both_inside, first_done = threading.Barrier(2), threading.Event()

    def first():
        with speaking.decoders_unheard():
            both_inside.wait(60)
        first_done.set()

    before = list(warnings.filters)
    other = threading.Thread(target=first)
    other.start()
    with speaking.decoders_unheard():
        both_inside.wait(60)
        assert first_done.wait(60)
        warnings.warn_explicit("of a decoder", UserWarning, "TiffImagePlugin.py", 1, module="PIL.TiffImagePlugin")
    other.join()
    assert not [warning for warning in recwarn if "decoder" in str(warning.message)]
    assert list(warnings.filters) == before


def test_a_worker_that_comes_later_with_another_version_does_no_task(home, monkeypatch):
    distributed = pytest.importorskip("distributed", reason="needs pip install 'layerprobe[cluster]'")
    with (
        distributed.LocalCluster(
            n_workers=1, threads_per_worker=2, processes=False, host="127.0.0.1", protocol="tcp", dashboard_address=None
        ) as standing,
        on_cluster(standing.scheduler_address),
    ):
        here = threading.current_thread()
        versions = {"layerprobe": "1.0.0+cpu", "torch": "2.0"}
        other = {**versions, "layerprobe": "1.0.0", "torch": None}
        monkeypatch.setattr(cluster, "_versions", lambda: versions if threading.current_thread() is here else other)
        with pytest.raises(UserError, match=r"worker on .* has no torch, and here it is 2\.0"):
            list(spread(str, [(1,)]))
        other["torch"] = "2.0+cu130"
        assert list(spread(str, [(1,)])) == ["1"]


def test_an_address_that_is_none_and_one_where_nobody_answers_are_told(home, tmp_path, monkeypatch):
    pytest.importorskip("distributed", reason="dask.distributed is not installed: pip install 'layerprobe[cluster]'")
    for address, told in (
        ("local:0", "local:4"),
        ("local:many", "local:4"),
        ("somewhere", "scheduler file"),
        (str(tmp_path), "scheduler file"),
    ):
        with pytest.raises(UserError, match=told), on_cluster(address):
            pass
    monkeypatch.setattr(cluster, "_SECONDS_TO_CONNECT", 0.2)
    with pytest.raises(UserError, match="no scheduler answers there"), on_cluster("tcp://127.0.0.1:9"):
        pass
    broken = tmp_path / "scheduler.json"
    broken.write_text("no JSON")
    with pytest.raises(UserError, match="no file that `dask scheduler"), on_cluster(str(broken)):
        pass


def test_a_scheduler_that_no_longer_answers_is_told_and_a_full_disk_is_not_blamed_on_it(home):
    distributed = pytest.importorskip("distributed", reason="needs pip install 'layerprobe[cluster]'")
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, host="127.0.0.1", protocol="tcp", dashboard_address=None
    ) as standing:
        with pytest.raises(UserError, match="scheduler is gone"), on_cluster(standing.scheduler_address):
            raise OSError("Timed out trying to connect to tcp://127.0.0.1:39965 after 30 s")
        with pytest.raises(OSError, match="No space left"), on_cluster(standing.scheduler_address):
            raise OSError(28, "No space left on device")


def test_without_dask_the_line_that_installs_it_is_said(home, monkeypatch):
    monkeypatch.setattr(cluster.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'layerprobe\[cluster\]'"), on_cluster("local:2"):
        pass


@pytest.mark.parametrize(("rows", "batch"), [(1, 8), (1198, 512), (60_000, 64), (1_281_167, 64), (400_000_000, 64)])
def test_shards_are_whole_batches_and_not_too_many(rows, batch):
    size = sharded.rows_per_shard(rows, batch)
    assert size % batch == 0
    assert -(-rows // size) <= 4096
    assert size < rows / 60 + batch or size <= 4096 + batch


def test_each_worker_is_shown_one_gpu(monkeypatch):
    pytest.importorskip("distributed", reason="dask.distributed is not installed: pip install 'layerprobe[cluster]'")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2, 5,7")
    devices = cluster.visible_gpus()
    assert devices == ["2", "5", "7"]
    assert [cluster.gpu_of(worker, devices) for worker in range(4)] == ["2", "5", "7", "2"]
    # What runs on a worker as it starts, before torch is there.
    cluster._one_gpu_each(devices).setup(SimpleNamespace(name=1))
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "5"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert cluster.visible_gpus() == []
