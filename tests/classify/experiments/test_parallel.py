"""Tasks on several cores: processes that joblib keeps work in the home and the folder of whoever asks."""

import os
import time
from pathlib import Path

import numpy as np
import pytest

from classify.experiments.parallel import in_parallel
from features.home import home as home_folder

_KEPT: list[np.ndarray] = []


def where(number: int) -> tuple[int, str, str, int]:
    return number, str(home_folder()), str(Path.cwd()), os.getpid()


def test_kept_processes_work_where_the_next_caller_is(tmp_path, monkeypatch):
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        monkeypatch.setenv("LAYERPROBE_HOME", str(tmp_path / f"home of {name}"))
        found = list(in_parallel(where, [(number,) for number in range(4)], jobs=2))
        assert [number for number, *_ in found] == [0, 1, 2, 3]
        assert {each[1:3] for each in found} == {(str(tmp_path / f"home of {name}"), str(tmp_path / name))}
        assert os.getpid() not in {process for *_, process in found}


def kept(megabytes: int) -> int:
    _KEPT.append(np.ones(megabytes << 20, np.uint8))
    time.sleep(1.1)  # joblib looks once in a second
    return os.getpid()


def test_a_process_that_grows_is_no_leak_and_goes_on(home, recwarn):
    """joblib ends such processes where psutil is installed, and each new one imports torch for many seconds."""
    pytest.importorskip("psutil")
    assert len(set(in_parallel(kept, [(200,)] * 8, jobs=2))) == 2
    assert not [warning for warning in recwarn if "worker" in str(warning.message)]
