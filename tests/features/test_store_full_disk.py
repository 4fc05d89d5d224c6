"""A disk that fills up while a file is laid out: one OSError, nothing else said, and nothing is left anywhere.

HDF5 lays a file out in memory where it can, and in place otherwise; both have to give the same bytes.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from features.store import draft
from features.store.layout import Shard, lay_out
from tests.features.store_cases import ABOUT, key

SIZE = 256 << 10
SCRIPT = """
import errno, sys
from pathlib import Path

import numpy as np

from features.store import draft
from features.store.layout import lay_out
from tests.features.store_cases import ABOUT, key

folder, size = Path(sys.argv[1]), int(sys.argv[2])
draft.MEMORY = Path(sys.argv[3])
rows, refused = np.arange(4000), 0
for room in range(0, 128 << 10, 4096):
    with (folder / "ballast").open("wb") as stream:
        stream.write(bytes(size - room))
    try:
        lay_out(folder / "x.h5", key(), ABOUT, shape=(4000, 8), dtype="float32", labels=rows, index=rows, recipe={})
    except OSError as error:
        assert error.errno == errno.ENOSPC, error
        refused += 1
    (folder / "x.h5").unlink(missing_ok=True)
    (folder / "ballast").unlink()
lay_out(folder / "x.h5", key(), ABOUT, shape=(4000, 8), dtype="float32", labels=rows, index=rows, recipe={})
print("refused", refused)
"""


def laid_out(path: Path, rows: int = 100, width: int = 7, shards: int = 0) -> bytes:
    labels, step = np.arange(rows) % 10, rows // max(shards, 1)
    parts = [Shard(f"{number}.h5", step, "a" * 64) for number in range(shards)]
    arrays = {"labels": labels, "index": np.arange(rows), "recipe": {"batch": 7}}
    lay_out(path, key(), ABOUT, shape=(rows, width), dtype="float32", shards=parts, **arrays)
    return path.read_bytes()


@pytest.fixture
def in_memory(tmp_path, monkeypatch):
    """A folder that stands for the file system in memory."""
    folder = tmp_path / "memory"
    folder.mkdir()
    monkeypatch.setattr(draft, "MEMORY", folder)
    return folder


@pytest.fixture
def small_disk(tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(folder)]
    if os.name != "posix" or os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("needs to mount a small file system, as root may")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.parametrize("memory", [draft.MEMORY, "missing"])
def test_a_disk_that_is_full_wherever_the_layout_has_come_to_is_one_error(small_disk, memory):
    command = [sys.executable, "-c", SCRIPT, str(small_disk), str(SIZE), str(memory)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stderr) == (0, "")
    assert int(done.stdout.split()[1]) > 5


@pytest.mark.parametrize(("rows", "width", "shards"), [(1, 1, 0), (3000, 700, 0), (100_000, 3, 0), (6000, 5, 600)])
def test_a_file_has_the_same_bytes_whether_hdf5_lays_it_out_in_memory_or_in_place(
    tmp_path, in_memory, monkeypatch, rows, width, shards
):
    drafted = laid_out(tmp_path / "x.h5", rows, width, shards)
    monkeypatch.setattr(draft, "MEMORY", tmp_path / "missing")
    assert laid_out(tmp_path / "x.h5", rows, width, shards) == drafted


def test_a_draft_takes_no_memory_for_the_features_and_leaves_nothing(tmp_path, in_memory, monkeypatch):
    taken, copy = [], draft.Draft.copy

    def measured(self, target):
        taken.append(os.fstat(self._descriptor))
        copy(self, target)

    monkeypatch.setattr(draft.Draft, "copy", measured)
    path = tmp_path / "x.h5"
    lay_out(path, key(), ABOUT, shape=(10, 1 << 26), dtype="float32", labels=np.ones(10), index=np.ones(10), recipe={})
    assert path.stat().st_size == taken[0].st_size > 2 << 30
    assert taken[0].st_blocks * 512 < 1 << 20
    assert not list(in_memory.iterdir())


def test_a_process_that_is_killed_while_hdf5_lays_out_leaves_no_draft(tmp_path, in_memory, monkeypatch):
    opened = draft.Draft.opened

    def killed(self):
        assert list(in_memory.iterdir())
        opened(self)
        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(draft.Draft, "opened", killed)
    if not (child := os.fork()):
        try:
            laid_out(tmp_path / "x.h5")
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert not list(in_memory.iterdir())


def test_drafts_that_a_kill_has_left_are_swept_and_nothing_else(tmp_path, in_memory):
    ours, long_ago = f"layerprobe-{os.getuid()}-", time.time() - 7200
    stale, fresh = in_memory / f"{ours}stale.draft", in_memory / f"{ours}fresh.draft"
    others = [in_memory / name for name in (f"{ours}other", "layerprobe-x-any.draft", "other.draft")]
    for path in (stale, fresh, *others):
        path.touch()
        if path != fresh:
            os.utime(path, (long_ago, long_ago))
    laid_out(tmp_path / "x.h5")
    assert sorted(in_memory.iterdir()) == sorted([fresh, *others])


def test_a_file_that_is_larger_than_allowed_is_one_error(tmp_path):
    script = (
        "import resource; from pathlib import Path; from tests.features.test_store_full_disk import laid_out\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))\n"
        f"try: laid_out(Path({str(tmp_path / 'x.h5')!r}), 1000, 1000)\n"
        "except OSError as error: print(error.errno)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=100)
    assert (done.stdout.strip(), done.stderr) == ("27", "")
