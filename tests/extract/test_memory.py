"""Peak resident memory of an extraction: that of a few batches, however many images there are."""

import os
import subprocess
import sys

import numpy as np
import pytest

SCRIPT = """
import resource, sys
from extract.extraction import extract
from features.request import Request, plan
request = Request(dataset="npz:" + sys.argv[1], weights="random", image_size=32, layers=("layer1",), pools=("none",),
    precision="float32", device="cpu", limit_test=8)
print(sum(done.images for done in extract(plan(request), compiled="off", jobs=1)))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="peak memory is read as Linux counts it")
def test_three_times_the_images_take_no_more_memory(home, tmp_path):
    peaks = {}
    for count in (3_072, 9_216):
        path = tmp_path / f"{count}.npz"
        images = np.random.default_rng(0).integers(0, 256, (count + 8, 8, 8), dtype=np.uint8)
        labels = np.arange(count + 8) % 4
        np.savez(path, x_train=images[8:], y_train=labels[8:], x_test=images[:8], y_test=labels[:8])
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, str(path)], env=environment, capture_output=True, text=True, check=True
        )
        made, peaks[count] = map(int, done.stdout.split()[-2:])
        assert made == count + 8
    # The features of the others are 100 MB.
    assert peaks[9_216] - peaks[3_072] < 40e6
