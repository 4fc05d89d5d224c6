"""A disk that fills up while HDF5 lays out a file: one OSError, nothing else said, and the process lives."""

import os
import subprocess
import sys

import pytest

SIZE = 256 << 10
SCRIPT = """
import errno, sys
from pathlib import Path

import numpy as np

from features.store.layout import lay_out
from tests.features.store_cases import ABOUT, key

folder, size = Path(sys.argv[1]), int(sys.argv[2])
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


@pytest.fixture
def small_disk(tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(folder)]
    if os.name != "posix" or os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("needs to mount a small file system, as root may")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_disk_that_is_full_wherever_the_layout_has_come_to_is_one_error(small_disk):
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(small_disk), str(SIZE)], capture_output=True, text=True, timeout=100
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert int(done.stdout.split()[1]) > 5
